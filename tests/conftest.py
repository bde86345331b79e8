"""Fixtures for all tests: the real servers of `tests/servers.py`."""

from __future__ import annotations

import asyncio
import os
import selectors
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests import limits, servers

# How long one example takes is the machine's business, as hypothesis itself has it where CI is set.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":
    settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Whatever runs, it ends."""
    config.pluginmanager.register(limits)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test runs on poll(2), as the daemon does."""
    return {"poll": lambda: asyncio.SelectorEventLoop(selectors.PollSelector())}


# What takes longest comes first, so that no worker is left with it at the end; the lab's two machines not together.
LONG = (
    "kernel_lab/test_heals",
    "installed/",
    "kernel_lab/",
    "packaging/",
    "systemd/",
    "drills/",
    "page/",
    "integration/",
)
PACKAGED = ("tests/installed/", "tests/packaging/")
MACHINES = (*PACKAGED, "tests/systemd/")  # one booted machine, or two, for all tests there


class Together(LoadScopeScheduling):  # type: ignore[misc]  # it comes without types
    """Where several workers run them (xdist), the tests of a file stay together, and those of a machine."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # by their number, it would leave the longest for the end

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((machine for machine in MACHINES if file.startswith(machine)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """Whatever --dist says."""
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first; what may have to build the package and boot a machine has the time for it."""

    def place(item: pytest.Item) -> int:
        return next((at for at, first in enumerate(LONG) if item.nodeid.startswith(f"tests/{first}")), len(LONG))

    items.sort(key=place)
    for item in items:
        if item.nodeid.startswith(PACKAGED):
            item.add_marker(pytest.mark.timeout(600))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skip is a failure: what a test needs must be there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What failed is added to the file that `make test` shows at its end, after both of its runs."""
    if file := os.environ.get("FAILURES"):
        with Path(file).open("a") as failures:
            for kind in ("failed", "error"):
                for report in terminalreporter.stats.get(kind, ()):
                    crash = getattr(report.longrepr, "reprcrash", None)
                    said = (crash.message if crash else str(report.longrepr)).partition("\n")[0]
                    failures.write(f"{kind.upper()} {report.nodeid} - {said}\n")


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[servers.Nginx]:
    """Debian's nginx with one worker, over TCP and a Unix socket."""
    with servers.nginx(tmp_path) as server:
        yield server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[servers.Redis]:
    """Debian's redis, over TCP and a Unix socket."""
    with servers.redis(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def snmpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Snmpd]:
    """net-snmp's agent, one for the whole run: it keeps no state that a test could change for another."""
    with servers.snmpd(tmp_path_factory.mktemp("agent")) as server:
        yield server
