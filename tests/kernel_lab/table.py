"""The table that a run of the lab ends with."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.kernel_lab.losses import Dark, Healed

HEAD = (
    *("program", "lost", "confirmed", "healed by nudge", "by restart", "to heal: p50", "max"),
    *("connections lost", "without the daemon"),
)
FROZEN_HEAD = ("without ptrace", "diagnosis", "methods tried", "to heal", "its first reason")


def text(told: Iterable[Mapping[str, Any]]) -> str:
    """Of what the tests told by `record_property`: losses with the daemon ("healed") or without ("dark")."""
    healed: dict[str, list[Healed]] = {}
    dark: dict[str, list[Dark]] = {}
    for each in told:
        for one in each.get("healed", ()):
            healed.setdefault(each["program"], []).append(Healed(**one))
        for one in each.get("dark", ()):
            dark.setdefault(one["program"], []).append(Dark(**one))
    rows = [_row(name, healed.get(name, []), dark.get(name, [])) for name in dict.fromkeys((*healed, *dark))]
    return _aligned([HEAD, *rows])


def frozen(told: Iterable[Mapping[str, Any]]) -> str:
    """Of losses where ptrace is forbidden ("frozen"); empty where there were none."""
    rows = [_frozen_row(each["program"], Healed(**each["frozen"])) for each in told if "frozen" in each]
    return _aligned([FROZEN_HEAD, *rows]) if rows else ""


def _frozen_row(name: str, one: Healed) -> tuple[str, ...]:
    time = f"{one.answered_s:.1f} s" if one.answered_s is not None else "lost"
    return (name, f"{one.verdict} {one.certainty}", ", ".join(one.methods), time, "; ".join(one.reasons[:1]))


def _row(name: str, healed: Sequence[Healed], dark: Sequence[Dark]) -> tuple[str, ...]:
    times = sorted(one.answered_s for one in healed if one.answered_s is not None)
    shortest = min((one.for_s for one in dark), default=0.0)
    with_it = (
        str(sum(one.lost for one in healed)),
        str(sum(one.certainty == "confirmed" for one in healed)),
        str(sum(by_nudge(one) for one in healed)),
        str(sum("restarted" in one.remedies for one in healed)),
        f"{statistics.median(times):.1f} s" if times else "-",
        f"{times[-1]:.1f} s" if times else "-",
        str(sum(one.answered_s is None for one in healed)),
    )
    without = f"{sum(one.dark for one in dark)} of {len(dark)} dark for {shortest:.0f} s" if dark else "-"
    return (name, *(with_it if healed else ("-",) * len(with_it)), without)


def by_nudge(one: Healed) -> bool:
    """Whether nudges, and nothing else, brought the answer."""
    return one.answered_s is not None and bool(one.remedies) and set(one.remedies) == {"nudged"}


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """As a table of the manual."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
