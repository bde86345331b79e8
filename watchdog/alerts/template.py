"""A user's own words: `title` and `body` of a channel, Jinja2 templates over the facts of `message.py`.

Rules of this file. A template is tried when the config is checked, with an event of which all is known and one of which
little is; what fails then is an error of the config. It always runs in a short-lived child with little time and memory
(`python -m watchdog.alerts.jinja`): the daemon neither pays for Jinja2 nor hangs in a loop. An alert is never lost to
its template: where that fails, the default words go out, with a note.
"""

from __future__ import annotations

import functools
import json
import logging
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from watchdog.alerts.aside import Aside
from watchdog.alerts.message import TEXT, TITLE, Facts, Message, cut, facts, lines, message, one_line
from watchdog.alerts.outgoing import Unusable

if TYPE_CHECKING:
    from watchdog.store import Letter

log = logging.getLogger(__name__)

WITHIN = 5.0  # s of a child; it takes 0.2
CHILDREN = Aside("template")


@dataclass(frozen=True, slots=True)
class Wording:
    """A channel's templates; None: the default words."""

    title: str | None = None
    body: str | None = None

    def check(self) -> None:
        """Try them. Raises `Unusable` with the key and the line."""
        for key, source in self.templates().items():
            if fault := _tried(key, source):
                raise Unusable(fault)

    def templates(self) -> dict[str, str]:
        """Those that there are, by their keys."""
        given = {"title": self.title, "body": self.body}
        return {key: source for key, source in given.items() if source is not None}

    async def of(self, letter: Letter, host: str) -> Message:
        """What to say of this letter. Raises nothing."""
        known = facts(letter, host)
        default = message(known)
        templates = self.templates()
        if not templates:
            return default
        try:
            words = await CHILDREN.run(_child, {"templates": templates, "facts": context(known)})
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            words = {"error": f"it could not be rendered ({type(error).__name__})"}
        if fault := one_line(words.get("error")):
            log.warning("channel %s: its template failed, the default words are sent: %s", letter.channel, fault)
            note = f"\n\nThe channel's template failed, so these are the default words: {fault}"
            return Message(default.title, cut(default.text, TEXT - len(note)) + note)
        title = one_line(words.get("title"), TITLE) or default.title
        return Message(title, cut(lines(words.get("body", "")), TEXT) or default.text)


def context(known: Facts) -> dict[str, Any]:
    """The variables of a template, as plain values."""
    default = message(known)
    return {
        **asdict(known),
        "resolved": known.resolved,
        "default_title": default.title,
        "default_body": default.text,
    }


@functools.lru_cache(maxsize=64)
def _tried(key: str, source: str) -> str:
    """What is wrong with it."""
    try:
        return _child({"templates": {key: source}}).get("error", "")
    except (OSError, subprocess.SubprocessError, ValueError):
        return f"{key}: takes too much time or memory"


def _child(asked: dict[str, Any]) -> dict[str, str]:
    """What it made of the templates, or its "error". Raises where there is no sound answer."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "watchdog.alerts.jinja"],
        input=json.dumps(asked).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=WITHIN,
        check=True,
        cwd="/",
        env={},  # no secret of ours
    )
    answer = json.loads(done.stdout)
    if not isinstance(answer, dict) or not all(isinstance(value, str) for value in answer.values()):
        raise ValueError("no answer")
    return answer
