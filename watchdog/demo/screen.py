"""How the story is shown: live where there is a terminal, line by line where there is none. 80 columns are enough."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from watchdog.demo.story import Line, Story, Tone

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table

WIDTH = 80
AROUND = 20  # rows of the live screen that are no story
LEAST = 4  # rows of story, however low the terminal is
STYLES = {Tone.PLAIN: "", Tone.BAD: "red", Tone.ACT: "yellow", Tone.GOOD: "green"}
KIND_STYLES = {"alive": "green", "late": "yellow", "error": "magenta"}


class Screen(Protocol):
    """Shows what is new."""

    def show(self, story: Story) -> None:
        """Bring what is shown up to date."""
        ...


class Plain:
    """Each line once, as it comes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = 0

    def show(self, story: Story) -> None:
        """Print the lines that are new."""
        for line in story.lines[self._shown :]:
            for text in wrapped(line, story.began, WIDTH):
                self._console.print(text, style=STYLES[line.tone], markup=False, soft_wrap=True)
        self._shown = len(story.lines)


class Lively:
    """A table of the probes, and below it the end of the story."""

    def __init__(self, live: Live, header: str) -> None:
        self._live = live
        self._header = header

    def show(self, story: Story) -> None:
        """Draw anew."""
        self._live.update(self._drawn(story), refresh=True)

    def _drawn(self, story: Story) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        size = self._live.console.size
        rows = [
            Text(row, STYLES[line.tone])
            for line in story.lines[-size.height :]
            for row in wrapped(line, story.began, min(WIDTH, size.width))
        ]
        foot = Text(f"\n{story.summary()}    Ctrl-C ends it", "dim")
        return Group(Text(self._header), _table(story), *rows[-max(LEAST, size.height - AROUND) :], foot)


def _table(story: Story) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, width=WIDTH - 1, title_justify="left")
    table.add_column("probe", width=6)
    table.add_column("plane", width=7)
    table.add_column("found", width=11)
    table.add_column("latency", width=10, justify="right")
    table.add_column("", no_wrap=True, overflow="ellipsis")
    probes = story.service["probes"] if story.service else {}
    for name, probe in probes.items():
        found = Text(probe["kind"] or "", KIND_STYLES.get(probe["kind"], "bold red"))
        latency = f"{probe['latency_s'] * 1000:.1f} ms" if probe["kind"] else ""
        table.add_row(name, probe["plane"], found, latency, Text(probe["reason"]))
    return table


def wrapped(line: Line, began: float, width: int) -> list[str]:
    """A line with its time since `began`, broken at `width`."""
    head = f"{line.at - began:7.2f} s  "
    return textwrap.wrap(head + line.text, width, subsequent_indent=" " * len(head), break_long_words=True)


@contextmanager
def screen(header: str, *, color: bool) -> Iterator[Screen]:
    """The screen that fits where stdout goes. NO_COLOR (https://no-color.org) counts as `color` False."""
    from rich.console import Console
    from rich.live import Live

    console = Console(no_color=None if color else True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        console.print(header, markup=False, soft_wrap=True)
        yield Plain(console)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield Lively(live, header)
