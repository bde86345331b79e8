"""Runs the conditions, several at once where they don't disturb each other, and prints the confusion matrix at the end.

REPEAT=5 runs each five times, BUSY=1 keeps every core busy meanwhile. The futures are waited for in the order of the
tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests import servers
from tests.lookalikes import matrix
from tests.lookalikes.condition import Condition, Row, Stage
from tests.lookalikes.programs import build, hogs
from tests.lookalikes.suite import Suite
from tests.stall import build_shim

BUSY = os.environ.get("BUSY", "") not in ("", "0")
ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture(scope="session")
def suite(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, snmpd: servers.Snmpd
) -> Iterator[Suite]:
    """With every selected condition that others do not disturb already begun, or in the queue."""
    base = tmp_path_factory.mktemp("lookalikes")
    rows = request.config.stash.setdefault(ROWS, [])
    with ExitStack() as busy:
        if BUSY:
            busy.enter_context(hogs(os.cpu_count() or 1, cpu_s=3600))
        suite = Suite(Stage(base, build(base), build_shim(base), snmpd), rows, busy=BUSY)
        for item in request.session.items:
            chosen: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
            condition = chosen.get("condition")
            if isinstance(condition, Condition) and not condition.alone:
                suite.begin(condition, chosen["repetition"])
        try:
            yield suite
        finally:
            suite.end()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The confusion matrix."""
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.section("confusion matrix of the look-alikes")
        terminalreporter.write_line(matrix.text(rows))
