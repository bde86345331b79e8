"""`target.Pidfile`: what it keeps is as true as what it would read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchdog.target import Pidfile, PidfileUnusable, pidfile_epoch


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "60"]) as sleeper:
        yield sleeper
        sleeper.kill()


@pytest.fixture
def path(tmp_path: Path, process: subprocess.Popen[bytes]) -> Path:
    path = tmp_path / "pid"
    path.write_text(f"{process.pid}\n")
    return path


@pytest.fixture
def pidfile(path: Path) -> Iterator[Pidfile]:
    pidfile = Pidfile(str(path))
    yield pidfile
    pidfile.close()


def test_it_tells_what_the_file_tells(pidfile: Pidfile, path: Path) -> None:
    assert pidfile.epoch() == pidfile_epoch(str(path))


def test_while_nothing_changes_the_file_is_not_read_again(pidfile: Pidfile, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pidfile.epoch()
    monkeypatch.delattr("watchdog.target.pidfile.pidfile_epoch")
    assert pidfile.epoch() == first


def test_a_process_that_has_ended_is_none_before_anybody_reaps_it(
    pidfile: Pidfile, process: subprocess.Popen[bytes]
) -> None:
    assert pidfile.epoch() is not None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert pidfile.epoch() is None


def test_a_file_that_names_another_process_is_believed(pidfile: Pidfile, path: Path) -> None:
    assert pidfile.epoch() is not None
    path.write_text(f"{os.getpid()}\n")
    found = pidfile.epoch()
    assert found is not None
    assert found.pid == os.getpid()


def test_a_file_that_is_gone_names_nobody_and_may_come_back(pidfile: Pidfile, path: Path) -> None:
    known, text = pidfile.epoch(), path.read_text()
    path.unlink()
    assert pidfile.epoch() is None
    path.write_text(text)
    assert pidfile.epoch() == known


def test_a_file_that_says_nothing_is_refused_each_time(pidfile: Pidfile, path: Path) -> None:
    assert pidfile.epoch() is not None
    path.write_text("nonsense\n")
    with pytest.raises(PidfileUnusable):
        pidfile.epoch()
    with pytest.raises(PidfileUnusable):
        pidfile.epoch()


def test_no_descriptor_is_left_behind(pidfile: Pidfile, path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - iterdir() holds one open
    for _ in range(5):
        path.touch()
        os.utime(path, ns=(0, 0))
        pidfile.epoch()
        path.touch()
        pidfile.epoch()
    pidfile.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_pidfile_that_everybody_can_write_is_refused(path: Path) -> None:
    path.chmod(0o666)
    with pytest.raises(PidfileUnusable, match="can be written by everybody"):
        pidfile_epoch(str(path))


def test_a_pidfile_in_a_directory_that_everybody_can_write_is_refused_unless_it_is_sticky(path: Path) -> None:
    path.parent.chmod(0o777)
    with pytest.raises(PidfileUnusable, match="can be exchanged by everybody"):
        pidfile_epoch(str(path))
    path.parent.chmod(0o1777)
    assert pidfile_epoch(str(path)) is not None
