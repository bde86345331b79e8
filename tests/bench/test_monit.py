"""The nginx that the bench lets monit restart."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from bench.monit import Restartable, restartable
from tests.servers import group_alive, until
from tests.stall import build_shim, is_dark


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return build_shim(tmp_path)


def restart(nginx: Restartable) -> None:
    """As who guards it does, but for the time that a stalled worker takes to be ended."""
    group = int(nginx.pidfile.read_text())
    os.killpg(group, signal.SIGKILL)
    until(lambda: not group_alive(group), 5, "the end of nginx")
    subprocess.run([str(nginx.control), "start"], check=True)


def test_a_stall_ends_with_the_process_that_has_it(library: Path, tmp_path: Path) -> None:
    with restartable(tmp_path / "home", library) as nginx:
        nginx.lose()
        assert is_dark(nginx.address, b"GET / HTTP/1.0\r\n\r\n")
        restart(nginx)
        until(nginx.answers, 5, "the new one answers")
        nginx.lose()
        assert is_dark(nginx.address, b"GET / HTTP/1.0\r\n\r\n")


def test_whoever_started_it_last_nothing_of_it_is_left(library: Path, tmp_path: Path) -> None:
    with restartable(tmp_path / "home", library) as nginx:
        first = int(nginx.pidfile.read_text())
        restart(nginx)
        until(nginx.answers, 5, "the new one answers")
        last = int(nginx.pidfile.read_text())
    until(lambda: not group_alive(last), 5, "the end of nginx")
    assert first != last
    assert not group_alive(first)


def test_it_is_ended_and_started_as_a_guard_is_told_to(library: Path, tmp_path: Path) -> None:
    with restartable(tmp_path / "home", library) as nginx:
        subprocess.run([str(nginx.control), "stop"], check=True)
        until(lambda: not nginx.answers(), 5, "no answer")
        until(lambda: not nginx.pidfile.exists(), 5, "nginx has ended")
        subprocess.run([str(nginx.control), "start"], check=True)
        until(nginx.answers, 5, "an answer")
