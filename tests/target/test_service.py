"""From a name to pinned processes, tried on real processes, pidfiles and cgroups."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.target.sleepers import inside, sleeping
from watchdog.model import Epoch
from watchdog.target import (
    Gone,
    Match,
    NotOfUnit,
    PidfileUnusable,
    Target,
    age,
    check_alive,
    descendants,
    owner,
    pidfile_epoch,
    processes,
    resolved,
    start_time,
    unit_pids,
)

NOBODY = 65534


# --- one process ------------------------------------------------------------------------------------------------------


def test_a_process_that_has_just_begun_is_young(sleeper: int) -> None:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert -0.02 <= age(Epoch(sleeper, start_time(sleeper)), now) < 5


def test_a_name_with_brackets_and_spaces_does_not_mislead(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "300"]) as process:
        try:
            assert 0 <= age(Epoch(process.pid, start_time(process.pid)), time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
        finally:
            process.kill()


def test_a_pid_that_nobody_has_is_gone(dead_pid: int) -> None:
    with pytest.raises(Gone, match="there is no process"):
        start_time(dead_pid)
    with pytest.raises(Gone):
        owner(dead_pid)


def test_a_reused_pid_is_gone(sleeper: int) -> None:
    check_alive(Epoch(sleeper, start_time(sleeper)))
    with pytest.raises(Gone, match="another process'"):
        check_alive(Epoch(sleeper, start_time(sleeper) - 1))


def test_descendants_are_children_of_children_too() -> None:
    with subprocess.Popen(
        ["sh", "-c", 'sh -c "sleep 300 & echo \\$!; wait" & wait'], stdout=subprocess.PIPE, process_group=0
    ) as shell:
        try:
            assert shell.stdout is not None
            grandchild = int(shell.stdout.readline())
            below = descendants(shell.pid)
        finally:
            os.killpg(shell.pid, 9)
    assert len(below) == 2
    assert grandchild in below


# --- a pidfile --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pidfile(tmp_path: Path) -> Path:
    """Where one may be; every directory above belongs to root."""
    return tmp_path / "service.pid"


def test_a_pidfile_names_a_process(pidfile: Path, sleeper: int) -> None:
    pidfile.write_text(f"{sleeper}\n")
    assert pidfile_epoch(str(pidfile)) == Epoch(sleeper, start_time(sleeper))


def test_no_pidfile_and_no_process_are_no_epoch(pidfile: Path, dead_pid: int) -> None:
    assert pidfile_epoch(str(pidfile)) is None
    pidfile.write_text(str(dead_pid))
    assert pidfile_epoch(str(pidfile)) is None


@pytest.mark.parametrize("text", ["", "\n", "nginx", "0", "-1", "12 13", "\0\0\0\0", "1_0", "+5"])
def test_a_pidfile_without_a_pid_is_told(pidfile: Path, text: str) -> None:
    pidfile.write_text(text)
    with pytest.raises(PidfileUnusable, match="holds no PID"):
        pidfile_epoch(str(pidfile))


def test_a_link_in_place_of_the_pidfile_is_not_followed(pidfile: Path, sleeper: int) -> None:
    (pidfile.parent / "elsewhere").write_text(str(sleeper))
    pidfile.symlink_to(pidfile.parent / "elsewhere")
    with pytest.raises(PidfileUnusable, match="symbolic link"):
        pidfile_epoch(str(pidfile))


def test_a_fifo_in_place_of_the_pidfile_makes_nobody_wait(pidfile: Path) -> None:
    os.mkfifo(pidfile)
    with pytest.raises(PidfileUnusable, match="holds no PID"):
        pidfile_epoch(str(pidfile))


def test_a_pidfile_of_the_process_own_user_is_believed(pidfile: Path) -> None:
    with sleeping(user=NOBODY) as pid:
        pidfile.write_text(str(pid))
        os.chown(pidfile, NOBODY, NOBODY)
        assert pidfile_epoch(str(pidfile)) == Epoch(pid, start_time(pid))


def test_a_pidfile_that_a_user_could_write_names_none_but_that_user_s_processes(pidfile: Path, sleeper: int) -> None:
    pidfile.write_text(str(sleeper))
    os.chown(pidfile, NOBODY, NOBODY)
    with pytest.raises(PidfileUnusable, match=f"uid {NOBODY}; process {sleeper} runs as uid 0"):
        pidfile_epoch(str(pidfile))


def test_a_directory_that_a_user_could_exchange_names_none_but_that_user_s_processes(
    tmp_path: Path, sleeper: int
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "service.pid").write_text(str(sleeper))
    os.chown(run, NOBODY, NOBODY)
    with pytest.raises(PidfileUnusable, match=f"could be written by uid {NOBODY}"):
        pidfile_epoch(str(run / "service.pid"))


# --- a unit -----------------------------------------------------------------------------------------------------------


def test_a_unit_s_processes_are_those_of_its_cgroup_and_below(cgroup: Path) -> None:
    unit = cgroup / "web@1.service"
    with inside(unit) as main, inside(unit / "workers") as worker, inside(cgroup / "other.service"):
        assert unit_pids("web@1.service", main) == tuple(sorted((main, worker)))
        assert unit_pids("web@1.service", worker) == tuple(sorted((main, worker)))
        epochs = processes(Target(unit="web@1.service"), Epoch(worker, start_time(worker)))
    assert [epoch.pid for epoch in epochs] == [worker, main]


def test_a_process_of_another_unit_is_not_taken_for_this_one_s(cgroup: Path) -> None:
    with inside(cgroup / "other.service") as other:
        with pytest.raises(NotOfUnit, match=f"process {other} is not of web.service: its cgroup is .*other.service"):
            unit_pids("web.service", other)
        with pytest.raises(NotOfUnit):
            unit_pids("ther.service", other)


def test_a_unit_whose_name_systemd_escapes_is_found(cgroup: Path) -> None:
    """cg_escape(): a name that could be taken for one of a cgroup's own files gets an underscore."""
    with inside(cgroup / "_cpu.service") as main:
        assert unit_pids("cpu.service", main) == (main,)


def test_an_alias_stands_for_its_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: Path) -> None:
    (tmp_path / "redis-server.service").touch()
    (tmp_path / "redis.service").symlink_to(tmp_path / "redis-server.service")
    monkeypatch.setattr("watchdog.target.unit.UNIT_PATH", (str(tmp_path),))
    assert resolved("redis.service") == "redis-server.service"
    assert resolved("redis-server.service") == "redis-server.service"
    with inside(cgroup / "redis-server.service") as main:
        assert unit_pids("redis.service", main) == (main,)


def test_a_masked_unit_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "web.service").symlink_to("/dev/null")
    monkeypatch.setattr("watchdog.target.unit.UNIT_PATH", (str(tmp_path),))
    assert resolved("web.service") == "web.service"


def test_a_main_process_that_is_gone_is_told(cgroup: Path, dead_pid: int) -> None:
    del cgroup
    with pytest.raises(Gone):
        unit_pids("web.service", dead_pid)


# --- a service --------------------------------------------------------------------------------------------------------


def test_a_pidfile_that_names_another_process_by_now_is_gone(pidfile: Path, sleeper: int) -> None:
    pidfile.write_text(str(os.getpid()))
    with pytest.raises(Gone, match=f"names {os.getpid()}, not {sleeper}"):
        processes(Target(pidfile=str(pidfile)), Epoch(sleeper, start_time(sleeper)))


def test_another_life_of_the_main_process_is_gone(pidfile: Path, sleeper: int) -> None:
    pidfile.write_text(str(sleeper))
    with pytest.raises(Gone, match="another process'"):
        processes(Target(pidfile=str(pidfile)), Epoch(sleeper, start_time(sleeper) + 1))


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (Target(unit="web.service"), "web.service"),
        (Target(pidfile="/run/web.pid"), "/run/web.pid"),
        (Target(process=Match(exe="/bin/web", args=("-p", "80"), user="www")), "process /bin/web -p 80 as www"),
        (Target(cgroup="/web.slice/docker-*.scope"), "cgroup /web.slice/docker-*.scope"),
    ],
)
def test_what_a_service_is_named_by_is_told_in_one_line(target: Target, told: str) -> None:
    assert str(target) == told
