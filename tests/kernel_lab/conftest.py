"""The lab's machine for the tests of a file, how long its runs are, and the table at their end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel_lab import kernel, table
from tests.kernel_lab.site import Site
from tests.kernel_lab.site import site as running_site
from tests.systemd.machine import missing

LOSSES = int(os.environ.get("LAB_LOSSES", "1"))  # of each program, with the daemon and without
DARK_S = float(os.environ.get("LAB_DARK", "10"))  # how long each is left alone without it
HERE = Path(__file__).parent
READY_S = 600.0  # that a machine may take until its programs run, with a package that has to be built
LOSS_S = 180.0  # that a loss and what follows it may take
BUILD_S = 3000.0  # that a kernel may take


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each has the time that its losses may take, and that of the kernel where none is built yet."""
    seconds = READY_S + LOSSES * (LOSS_S + DARK_S) + (0 if kernel.built() else BUILD_S)
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(seconds))


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
