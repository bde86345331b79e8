"""The message catalog as values, for tests. Its format: systemd.io/CATALOG."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parents[1] / "systemd/epoll-watchdog.catalog"


@dataclass(frozen=True, slots=True)
class Explanation:
    """One entry: its header's fields, each with all its values, and its text."""

    header: Mapping[str, tuple[str, ...]]
    text: str

    @property
    def variables(self) -> set[str]:
        """The fields of the journal that it shows."""
        return set(re.findall(r"@([A-Z_]+)@", " ".join(self.header["Subject"]) + self.text))


def explanations() -> list[tuple[str, Explanation]]:
    """Every entry with its id, in the order of the file."""
    parts = re.split(r"^-- ([0-9a-f]{32})\n", FILE.read_text(), flags=re.MULTILINE)[1:]
    return [(parts[at], _explanation(parts[at + 1])) for at in range(0, len(parts), 2)]


def _explanation(part: str) -> Explanation:
    head, _, text = part.partition("\n\n")
    header: dict[str, tuple[str, ...]] = {}
    for line in head.splitlines():
        name, _, value = line.partition(": ")
        header[name] = (*header.get(name, ()), value)
    return Explanation(header, text)
