"""One booted machine for all tests here; each test makes units of its own names in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.systemd.machine import Machine, booted, missing


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A real systemd with D-Bus and a journal; a host that cannot boot one fails the test."""
    if lack := missing():
        pytest.fail(f"a test machine needs {lack}")
    with booted(tmp_path_factory.mktemp("machine")) as running:
        yield running
