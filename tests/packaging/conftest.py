"""The package, what is in it, and a machine of our own to install it in."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.installed import booted_with_package, package
from tests.systemd.machine import Machine, missing


@pytest.fixture(scope="session")
def deb() -> Path:
    """The package of this tree."""
    return package()


@pytest.fixture(scope="session")
def tree(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package would put onto a system."""
    unpacked = tmp_path_factory.mktemp("package")
    subprocess.run(["dpkg-deb", "--extract", deb, unpacked], check=True)
    return unpacked


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the package; a test leaves it as it was."""
    if lack := missing():
        pytest.fail(f"a test machine needs {lack}")
    with booted_with_package(tmp_path_factory.mktemp("installed")) as machine:
        yield machine


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the package, which the tests of one file may upgrade, remove and install."""
    if lack := missing():
        pytest.fail(f"a test machine needs {lack}")
    with booted_with_package(tmp_path_factory.mktemp("changing")) as machine:
        yield machine
