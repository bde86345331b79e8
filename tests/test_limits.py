"""A test that its time-out can't end does not hold up the run, and is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
CONFTEST = """
from tests import limits
from tests.conftest import pytest_configure, pytest_xdist_make_scheduler

limits.GRACE_S = 1.0
"""
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
"""
CRASH = "import os\n\n\ndef test_that_crashes():\n    os._exit(1)\n"
SOUND = "import pytest\n\n\n@pytest.mark.parametrize('n', [1, 2, 3])\ndef test_that_passes(n):\n    pass\n"


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The tests of a directory as those of the repository are run; each phase has two seconds, and one more."""
    (directory / "conftest.py").write_text(CONFTEST)
    command = [sys.executable, "-m", "pytest", "-c", f"{REPOSITORY}/pyproject.toml", f"--rootdir={directory}"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "--timeout=2", *arguments],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", ["test_that_fails", "test_that_is_interrupted"])
def test_a_clean_up_that_never_ends_ends_the_process_and_says_where_it_was(tmp_path: Path, name: str) -> None:
    (tmp_path / "test_stuck.py").write_text(STUCK)
    done = run(tmp_path, f"test_stuck.py::{name}")
    assert done.returncode == 1, done.stdout
    assert "Timeout (0:00:03)!" in done.stderr
    assert "in wait_for_ever" in done.stderr


def test_a_run_whose_worker_has_died_ends_and_names_the_test(tmp_path: Path) -> None:
    for number in range(24):
        (tmp_path / f"test_{number:02}.py").write_text(CRASH if number == 16 else SOUND)
    done = run(tmp_path, "-n", "2", ".")
    assert done.returncode != 0
    assert "crashed while running 'test_16.py::test_that_crashes'" in done.stdout
