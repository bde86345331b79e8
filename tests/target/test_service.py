"""From a name to pinned processes, tried on real processes, pidfiles and cgroups."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    unit_cgroup,
    unit_pids,
)
from watchdog.target.unit import unit_part

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


@pytest.mark.parametrize("what", ["file", "directory"])
@pytest.mark.parametrize(
    ("user", "group", "believed"),
    [
        (0, 0, True),  # root's group is as good as root
        (0, NOBODY, False),
        (NOBODY, NOBODY, True),  # as Debian's /run/named, root:bind
        (NOBODY, 1, False),
    ],
)
def test_a_pidfile_that_a_group_could_write_names_only_processes_of_that_group_and_never_root_s(
    tmp_path: Path, what: str, user: int, group: int, believed: bool
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    run.chmod(0o755)
    with sleeping(user=user) as pid:
        (run / "service.pid").write_text(str(pid))
        (run / "service.pid").chmod(0o644)
        writable = run if what == "directory" else run / "service.pid"
        os.chown(writable, 0, group)
        writable.chmod(writable.stat().st_mode | 0o020)
        if believed:
            assert pidfile_epoch(str(run / "service.pid")) == Epoch(pid, start_time(pid))
            return
        told = f"members of group {group}; process {pid} runs as uid {user}, gid {user}: chmod g-w {writable}$"
        with pytest.raises(PidfileUnusable, match=told):
            pidfile_epoch(str(run / "service.pid"))


def test_not_even_its_own_group_is_trusted_for_a_process_of_root_s(pidfile: Path) -> None:
    """Its members are not root, and could name any of root's processes of that group."""
    with sleeping(user=0, group=NOBODY) as pid:
        pidfile.write_text(str(pid))
        os.chown(pidfile, 0, NOBODY)
        pidfile.chmod(0o664)
        with pytest.raises(PidfileUnusable, match=f"runs as uid 0, gid {NOBODY}"):
            pidfile_epoch(str(pidfile))


def test_in_a_sticky_directory_that_a_group_could_write_nobody_exchanges_the_pidfile(
    tmp_path: Path, sleeper: int
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "service.pid").write_text(str(sleeper))
    os.chown(run, 0, NOBODY)
    run.chmod(0o1775)
    assert pidfile_epoch(str(run / "service.pid")) == Epoch(sleeper, start_time(sleeper))


def test_a_set_group_id_directory_of_the_service_s_own_is_believed(tmp_path: Path) -> None:
    """As Debian's /run/redis and /run/postgresql: of the service's user and group, 2755 and 2775."""
    run = tmp_path / "run"
    run.mkdir()
    os.chown(run, NOBODY, NOBODY)
    run.chmod(0o2775)
    with sleeping(user=NOBODY) as pid:
        (run / "service.pid").write_text(str(pid))
        os.chown(run / "service.pid", NOBODY, NOBODY)
        assert pidfile_epoch(str(run / "service.pid")) == Epoch(pid, start_time(pid))


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


@pytest.mark.parametrize(
    "elsewhere",
    [
        "user@1000.service/app.slice/web.service",
        "systemd-nspawn@x.service/payload/system.slice/web.service",
        "docker-1.scope/web.service",
    ],
)
def test_a_unit_of_a_user_or_of_a_container_is_not_the_system_s(cgroup: Path, elsewhere: str) -> None:
    with inside(cgroup / elsewhere) as other:
        with pytest.raises(NotOfUnit, match=f"process {other} is not of web.service: its cgroup is .*/web.service$"):
            unit_pids("web.service", other)
        with pytest.raises(NotOfUnit):
            processes(Target(unit="web.service"), Epoch(other, start_time(other)))
        assert unit_cgroup("web.service", other) is None


def test_a_unit_may_lie_in_slices_of_slices(cgroup: Path) -> None:
    with inside(cgroup / "a.slice/a-b.slice/web.service") as main:
        assert unit_pids("web.service", main) == (main,)


TOPS = st.sampled_from(["", "/box", "/machine.slice/docker-1.scope", "/..", "/../.."])
SLICES = st.lists(st.sampled_from(["system.slice", "a-b.slice", "_cpu.slice"]), max_size=3)
BELOW = st.lists(st.sampled_from(["workers", "web.service", "init.scope", "system.slice"]), max_size=2)


@given(TOPS, SLICES, BELOW)
def test_the_unit_s_own_cgroup_is_found_from_systemd_s_root_on(top: str, slices: list[str], below: list[str]) -> None:
    own = "/".join([top, *slices, "web.service"])
    assert unit_part("/".join([own, *below]), "web.service", top) == own


@given(TOPS, SLICES, st.sampled_from(["user@0.service", "payload", "x.scope", "slice", ""]), SLICES)
def test_what_lies_below_anything_but_slices_is_not_the_unit_s(
    top: str, above: list[str], other: str, below: list[str]
) -> None:
    assert unit_part("/".join([top, *above, other, *below, "web.service"]), "web.service", top) == ""


@given(SLICES)
def test_what_lies_outside_systemd_s_root_is_not_the_unit_s(slices: list[str]) -> None:
    for path in ("/".join(["", *slices, "web.service"]), "/".join(["/boxes", *slices, "web.service"])):
        assert unit_part(path, "web.service", "/box") == ""


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
