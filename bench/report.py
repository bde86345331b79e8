"""What a section found: as a table in the terminal, and as `RESULTS.md`, with the machine that it was found on."""

from __future__ import annotations

import datetime
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"


@dataclass(frozen=True, slots=True)
class Bar:
    """What must hold: what was measured, what was found, what is wanted."""

    what: str
    found: str
    wanted: str
    held: bool


@dataclass(frozen=True, slots=True)
class Section:
    """`how` tells in two lines how to read the table."""

    title: str
    how: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[Bar, ...]

    @property
    def held(self) -> bool:
        """Whether every bar was."""
        return all(bar.held for bar in self.bars)

    def __str__(self) -> str:
        bars = tuple((bar.what, bar.found, bar.wanted, "yes" if bar.held else "**no**") for bar in self.bars)
        judged = table(("must hold", "found", "wanted", "held"), bars)
        return f"## {self.title}\n\n{self.how}\n\n{table(self.columns, self.rows)}\n\n{judged}\n"


def below(what: str, value: float, limit: float, unit: str) -> Bar:
    """A bar for a value that must stay below a limit."""
    return Bar(what, f"{value:.3g} {unit}", f"under {limit:g} {unit}", value < limit)


def at_most(what: str, value: float, limit: float, unit: str) -> Bar:
    """A bar for a value that may reach its limit."""
    return Bar(what, f"{value:.3g} {unit}", f"at most {limit:g} {unit}", value <= limit)


def none(what: str, count: float) -> Bar:
    """A bar for what must not happen."""
    return Bar(what, f"{count:.0f}", "none", count == 0)


def at_most_a(what: str, ours: float, theirs: float, part: int) -> Bar:
    """A bar for our share of what another program needs: at most a `part`th of it."""
    return Bar(what, f"1/{_short(theirs / ours)}", f"at most 1/{part}", ours * part <= theirs)


def times(theirs: float, ours: float) -> str:
    """How many times ours the other one is."""
    return f"{_short(theirs / ours)}x"


def _short(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of all values do not exceed: one that was measured, no interpolation."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def spread(values: Sequence[float], form: str = ".3g") -> str:
    """The median, and in brackets the worst."""
    return f"{statistics.median(values):{form}} ({max(values):{form}})"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned table in Markdown."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"


def machine() -> str:
    """The host, in one paragraph."""
    cpus = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = int(_lines("/proc/meminfo")[0].split()[1]) / 1024**2
    load = _lines("/proc/loadavg")[0].split()[0]
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{len(cpus)} x {cpus[0] if cpus else platform.machine()}, {memory:.1f} GiB; Linux {platform.release()}; "
        f"Python {platform.python_version()}; {today}; load {load} before the first section."
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def write(host: str, sections: Sequence[Section]) -> None:
    """Put the results of a full run in place."""
    head = f"# What it costs, and how fast it heals\n\nWritten by `make bench`. {host}\n\n"
    RESULTS.write_text(head + "\n".join(map(str, sections)))
