"""No test holds up a run: one that its time-out has not ended ends its process, and tells where every thread was.

pytest-timeout interrupts a test once. Whatever cleans up after that has no time-out any more, nor has the clean-up of
a test that failed (pytest-timeout #196). So each phase of a test has one more, that nobody can put off: faulthandler's,
whose thread needs no interpreter. pytest-xdist counts the test as failed, and ends the run (`--max-worker-restart=0`):
going on, its LoadScopeScheduling often stands still with the tests of a process that has died (#1323, #1327, #1371).
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

GRACE_S = 60.0  # after the time-out, for what cleans up in order
STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is captured yet: later, file descriptor 2 is another."""
    config.stash[STDERR] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    """It was ours."""
    os.close(config.stash[STDERR])


def timeout_of(item: pytest.Item) -> float:
    """As pytest-timeout has it, in seconds: of its marker, of the command, of pyproject.toml. 0 is none."""
    if marker := item.get_closest_marker("timeout"):
        return float(marker.args[0])
    given = item.config.getoption("timeout")
    return float(item.config.getini("timeout") if given is None else given)


@contextmanager
def _limited(item: pytest.Item) -> Iterator[None]:
    if timeout := timeout_of(item):
        faulthandler.dump_traceback_later(timeout + GRACE_S, file=item.config.stash[STDERR], exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Its fixtures."""
    with _limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """The test itself."""
    with _limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """What its fixtures leave."""
    with _limited(item):
        return (yield)
