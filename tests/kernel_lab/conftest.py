"""The lab's machine for the tests of a file, how long its runs are, and the table at their end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kernel_lab import kernel, table
from tests.kernel_lab.site import Site
from tests.kernel_lab.site import site as running_site
from tests.systemd.machine import missing

LOSSES = int(os.environ.get("LAB_LOSSES", "1"))  # of each program, with the daemon and without
DARK_S = float(os.environ.get("LAB_DARK", "10"))  # how long each is left alone without it


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The programs run, and nobody guards them yet."""
    if lacking := ", ".join(filter(None, (missing(), kernel.missing()))):
        pytest.skip(f"needs {lacking}")
    with running_site(tmp_path_factory.mktemp("lab") / "machine") as running:
        yield running


@pytest.fixture(scope="session")
def losses() -> int:
    return LOSSES


@pytest.fixture(scope="session")
def dark_s() -> float:
    return DARK_S


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of what was lost and healed."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    told = [value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "lab"]
    if told:
        terminalreporter.section("lost wake-ups in the kernel lab")
        terminalreporter.write_line(table.text(told))
        terminalreporter.write_line(table.frozen(told))
