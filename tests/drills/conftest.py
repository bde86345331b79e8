"""The table of the drills, at the end of the session."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from tests.helper.conftest import start as start
from tests.helper.conftest import victim_program as victim_program


@dataclass(frozen=True, slots=True)
class Row:
    """The drills of a program: the time to heal, in seconds, and the threads that were dark, of each."""

    name: str
    woken: Sequence[float]
    threads: Sequence[int]


ROWS = pytest.StashKey[list[Row]]()
Tell = Callable[[str, Sequence[float], Sequence[int]], None]


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Adds a row."""
    rows = request.config.stash.setdefault(ROWS, [])
    return lambda name, woken, threads: rows.append(Row(name, woken, threads))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table."""
    if not (rows := config.stash.get(ROWS, [])):
        return
    terminalreporter.section("drills under load")
    terminalreporter.write_line(f"{'program':24} {'drills':>6} {'threads':>8} {'healed':>7} {'p50':>8} {'max':>8}")
    for row in rows:
        threads = f"{min(row.threads)}–{max(row.threads)}" if len(set(row.threads)) > 1 else str(row.threads[0])
        times = f"{statistics.median(row.woken):6.2f} s {max(row.woken):6.2f} s"
        terminalreporter.write_line(f"{row.name:24} {len(row.woken):>6} {threads:>8} {len(row.woken):>7} {times}")
