"""The machine with the package in it, and what runs there for all tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.installed.site import Site
from tests.installed.site import site as running_site
from tests.stall import build_shim
from tests.systemd.installed import booted_with_package, newer_package


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@contextmanager
def made(base: Path, library: Path) -> Iterator[Site]:
    with booted_with_package(base) as machine, running_site(machine, library) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Hung:
    """A site whose redis is being restarted, and does not end."""

    site: Site
    invocation_id: str  # of the life that is to be ended


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who waits for the hung restart comes last: meanwhile the others run."""
    items.sort(key=lambda item: item.nodeid.startswith("tests/installed/test_hung_stop.py"))


@pytest.fixture(scope="session", autouse=True)
def hung(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Iterator[Hung]:
    """Begun before all other tests, for it takes a minute and a half."""
    with made(tmp_path_factory.mktemp("hung"), library) as site:
        site.drop_in(site.redis.unit, "[Service]\nTimeoutStartSec=10\n")
        before = site.machine.show(site.redis.unit, "InvocationID")
        site.stall(site.redis, outlives=-1)
        yield Hung(site, before)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, library: Path, hung: Hung) -> Iterator[Site]:
    """nginx, redis and snmpd, guarded by the installed daemon."""
    with made(tmp_path_factory.mktemp("site"), library) as running:
        yield running


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a higher version, of the same tree; in the repository, which the machines see."""
    return newer_package()
