"""What a check finds, and where: errors and warnings, each at a place in a file.

A finding is one sentence, "what is wrong; what would be right", so that a `ValueError` of any Settings can be told as
it is.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from watchdog.config import ConfigError

Keys = tuple[str | int, ...]
LONGEST = 24  # characters of a word that is repeated


def written(keys: Keys) -> str:
    """The path as one would write it in TOML, with `[N]` for the place in an array: `a."b c".d[0]`."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
            continue
        bare = re.fullmatch(r"[A-Za-z0-9_-]+", key)
        text += ("." if text else "") + (key if bare else quoted(key))
    return text


def quoted(text: str) -> str:
    """The text in double quotes; what a terminal might obey is escaped."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def shown(word: str) -> str:
    """The word in quotes, unless it looks like a URL or a token: whoever put a secret there wants it in no log."""
    return quoted(word) if len(word) <= LONGEST and re.fullmatch(r"[\w .-]*", word) else "this"


@dataclass(slots=True)
class Findings:
    """Everything found so far. At a place in `spoiled` something was found that makes all further words there idle."""

    errors: list[ConfigError] = field(default_factory=list)
    warnings: list[ConfigError] = field(default_factory=list)
    spoiled: set[tuple[Path, Keys]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file, where things can be found wrong."""

    found: Findings
    file: Path
    keys: Keys = ()

    def at(self, *keys: str | int) -> Place:
        """A place further in."""
        return Place(self.found, self.file, (*self.keys, *keys))

    def error(self, sentence: str) -> None:
        """Something wrong here."""
        if (self.file, self.keys) not in self.found.spoiled:
            self.found.errors.append(self._finding(sentence))

    def spoil(self, sentence: str) -> None:
        """Something so wrong here that nothing else needs to be said of it."""
        self.error(sentence)
        self.found.spoiled.add((self.file, self.keys))

    def warn(self, sentence: str) -> None:
        """Something here that its writer should know."""
        self.found.warnings.append(self._finding(sentence))

    def _finding(self, sentence: str) -> ConfigError:
        message, _, hint = sentence.partition("; ")
        return ConfigError(self.file, written(self.keys), message, hint)
