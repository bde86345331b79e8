from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.target.sleepers import own_cgroup, sleeping


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process of root."""
    with sleeping() as pid:
        yield pid


@pytest.fixture
def dead_pid() -> int:
    """A PID that nobody has."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of ours at the root of cgroup v2."""
    with own_cgroup() as top:
        yield top
