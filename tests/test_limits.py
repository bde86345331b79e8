"""A test that its time-out can't end does not hold up the run, and is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
CONFTEST = "from tests import limits\n\nlimits.GRACE_S = 1.0\n"
STUCK = """
import threading

import pytest


@pytest.fixture
def stuck():
    yield
    wait_for_ever()


def wait_for_ever():
    threading.Event().wait()


def test_that_fails(stuck):
    raise AssertionError


def test_that_is_interrupted():
    try:
        wait_for_ever()
    finally:
        wait_for_ever()


def test_that_passes():
    pass
"""


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Those tests, each with two seconds, and one more."""
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_stuck.py").write_text(STUCK)
    command = [sys.executable, "-m", "pytest", "-p", "tests.limits", "-p", "no:cacheprovider", "--timeout=2"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [*command, f"--rootdir={directory}", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", ["test_that_fails", "test_that_is_interrupted"])
def test_a_clean_up_that_never_ends_ends_the_process_and_says_where_it_was(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, f"test_stuck.py::{name}")
    assert done.returncode == 1
    assert "Timeout (0:00:03)!" in done.stderr
    assert "in wait_for_ever" in done.stderr


def test_another_worker_goes_on_with_the_rest(tmp_path: Path) -> None:
    done = run(tmp_path, "-n", "1", "-rA", "test_stuck.py")
    assert done.returncode == 1
    assert "PASSED test_stuck.py::test_that_passes" in done.stdout
    assert "crashed while running 'test_stuck.py::test_that_fails'" in done.stdout
    assert "crashed while running 'test_stuck.py::test_that_is_interrupted'" in done.stdout
    assert done.stderr.count("in wait_for_ever") >= 2
