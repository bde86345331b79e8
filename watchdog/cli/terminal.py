"""What the reading commands print with: a console, tables, and the words for times.

Rules of this file. Colours only in a terminal, and not where NO_COLOR is set (no-color.org); rich sees to both. Texts
come from other people's programs by way of the daemon, so no control character of theirs gets to the terminal. What is
read by a program, or kept in a file, has no blanks at the end of a line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import IO, TYPE_CHECKING, TextIO, cast

from watchdog.settings import format_duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

SEVERITIES = {"critical": "bold red", "warning": "yellow"}


def console() -> Console:
    """As wide as the terminal; 80 columns, or COLUMNS, where there is none."""
    from rich.console import Console

    return Console(highlight=False, file=None if sys.stdout.isatty() else cast("IO[str]", _Trimmed(sys.stdout)))


class _Trimmed:
    """A stream to which rich writes whole lines; it pads what stands in a table."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        """Without blanks before the ends of lines."""
        return self._stream.write(re.sub(r" +(?=\n)", "", text))

    def flush(self) -> None:
        """As the stream does."""
        self._stream.flush()

    def isatty(self) -> bool:
        """It is made for nothing else."""
        return False


def table(*headings: str, whole: Iterable[str] = ()) -> Table:
    """Without lines. The columns `whole` are never broken."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="dim")
    unbroken = set(whole)
    for heading in headings:
        made.add_column(heading, overflow="fold", no_wrap=heading in unbroken)
    return made


def plain(text: str, style: str = "") -> Text:
    """The text with what is no printable character spelled out."""
    from rich.text import Text

    return Text(printable(text), style=style)


def printable(text: str) -> str:
    """The same, as a string."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def bullets(lines: Iterable[Text]) -> Table:
    """A list, each line's later parts as far in as its first."""
    from rich.table import Table

    made = Table.grid(padding=(0, 1))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for line in lines:
        made.add_row("-", line)
    return made


def wall(text: str) -> float:
    """Seconds of a time as the API tells it (RFC 3339)."""
    return datetime.fromisoformat(text).timestamp()


def local(text: str) -> str:
    """Such a time on this host's clock, to the second."""
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"


def lasting(seconds: float) -> str:
    """A duration in its two largest units; clocks that disagree make none that is less than nothing."""
    if seconds < 60:
        return format_duration(max(0.0, seconds))
    return "".join(re.findall(r"\d+\D", format_duration(round(seconds)))[:2])


def offset(seconds: float) -> str:
    """How long after the beginning: "+0.03s", "+12.5s", "+1h2m"."""
    if abs(seconds) >= 60:
        return f"{'-' if seconds < 0 else '+'}{lasting(abs(seconds))}"
    return f"{seconds:+.2f}s" if abs(seconds) < 10 else f"{seconds:+.1f}s"
