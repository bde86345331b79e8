"""The verb `restart` where no systemd takes part: a configured command, and what can be refused without asking."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import runs, until
from tests.target.sleepers import sleeping
from watchdog.helper.restart import restart
from watchdog.model import Epoch, Outcome, Performed
from watchdog.target import Match, Target


def run(*argv: str, deadline: float = 10.0, epoch: Epoch | None = None, named: int | None = None) -> Performed:
    """Restart by this command a service whose pidfile names the process `named`: this one, where nothing is said."""
    with tempfile.NamedTemporaryFile("w", suffix=".pid") as pidfile:
        pidfile.write(f"{named or (epoch.pid if epoch else os.getpid())}\n")
        pidfile.flush()
        return restart(Target(pidfile=pidfile.name, restart_command=argv), epoch, command_deadline=deadline)


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process to be guarded."""
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        try:
            yield sleeper
        finally:
            sleeper.kill()


def wait_for(path: Path) -> str:
    """What a process writes to a file."""
    until(lambda: path.exists() and path.read_text() != "", 5, f"what is written to {path}")
    return path.read_text().strip()


def test_a_command_that_ends_well_has_restarted_the_service() -> None:
    done = run("echo", "here", "again")
    assert (done.outcome, done.reason) == (Outcome.DONE, "the restart command ended well")
    assert (done.detail["exit_code"], done.detail["output"]) == (0, "here again")
    assert 0 < done.detail["duration_s"] < 5


def test_a_command_is_no_shell_line() -> None:
    assert run("echo", "$HOME; false").detail["output"] == "$HOME; false"


def test_a_command_that_fails_is_told_with_its_last_word() -> None:
    done = run("sh", "-c", "echo first; echo no such database >&2; exit 3")
    assert (done.outcome, done.reason) == (Outcome.FAILED, "the restart command ended with 3: no such database")
    assert done.detail["output"] == "first\nno such database"


def test_a_command_that_a_signal_ends_is_told() -> None:
    assert run("sh", "-c", "kill -TERM $$").reason == "the restart command was killed by signal 15: it said nothing"


def test_a_command_that_is_not_there_is_refused() -> None:
    done = run("/nowhere/restart")
    assert done.outcome is Outcome.REFUSED
    assert done.reason.startswith("the restart command cannot be run: [Errno 2] No such file or directory")


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    done = run("sh", "-c", f"sleep 1000 & echo $! >{child}; echo waiting; wait", deadline=0.5)
    assert done.outcome is Outcome.TIMED_OUT
    assert done.reason == "the restart command did not end within 0.5 s and was killed: waiting"
    pid = int(wait_for(child))
    until(lambda: not runs(pid), 5, "the end of the child")


def test_a_service_that_the_command_leaves_running_does_not_hold_it_up_and_does_not_die_of_its_output(
    tmp_path: Path,
) -> None:
    done_file = tmp_path / "done"
    service = f"(until [ -e {tmp_path}/go ]; do sleep 0.01; done; echo late; echo alive >{done_file}) & echo started"
    done = run("sh", "-c", service)
    (tmp_path / "go").touch()
    assert (done.outcome, done.detail["output"]) == (Outcome.DONE, "started")
    assert done.detail["duration_s"] < 5
    assert wait_for(done_file) == "alive"


def test_a_command_that_never_stops_talking_fills_no_memory() -> None:
    done = run("yes", "no end of it")
    assert (done.outcome, done.detail["exit_code"]) == (Outcome.FAILED, 1)
    assert len(done.detail["output"]) <= 2000


def test_a_command_has_a_session_of_its_own_and_no_input() -> None:
    code = "import os, sys; print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()), os.getcwd())"
    assert run(sys.executable, "-c", code).detail["output"] == "True '' /"


def test_a_command_is_not_told_what_systemd_told_the_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("SOME_SETTING", "kept")
    names = {line.partition("=")[0] for line in run("env").detail["output"].splitlines()}
    assert names & {"NOTIFY_SOCKET", "LISTEN_FDS", "SOME_SETTING"} == {"SOME_SETTING"}


def test_a_service_that_runs_the_life_to_be_ended_is_restarted(process: subprocess.Popen[bytes]) -> None:
    assert run("true", epoch=Epoch(process.pid, start_time(process.pid))).outcome is Outcome.DONE


def test_a_service_that_has_ended_is_not_started(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    epoch = Epoch(process.pid, start_time(process.pid))
    process.kill()
    process.wait()
    done = run("touch", str(tmp_path / "ran"), epoch=epoch)
    assert done.outcome is Outcome.GONE
    assert done.reason == f"there is no process {epoch.pid}: nothing is started that its operator may have stopped"
    assert not (tmp_path / "ran").exists()


def test_a_service_whose_end_its_parent_has_not_noted_is_not_started(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    epoch = Epoch(process.pid, start_time(process.pid))
    process.kill()
    until(lambda: not runs(process.pid), 5, "its end")
    assert run("touch", str(tmp_path / "ran"), epoch=epoch).outcome is Outcome.GONE
    assert not (tmp_path / "ran").exists()


def becomes(path: Path, content: bytes) -> bool:
    """Whether the file holds that, within five seconds."""
    deadline = time.monotonic() + 5
    while path.read_bytes() != content and time.monotonic() < deadline:
        time.sleep(0.01)
    return path.read_bytes() == content


def test_a_service_with_a_name_cut_inside_a_character_is_restarted(tmp_path: Path) -> None:
    """The kernel keeps 15 bytes of a name (proc_pid_comm(5)): here the last is the first half of "é"."""
    program = tmp_path / ("x" * 14 + "é")
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "1000"]) as process:
        try:
            assert becomes(Path(f"/proc/{process.pid}/comm"), b"x" * 14 + b"\xc3\n")
            began = int(Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
            done = run("true", epoch=Epoch(process.pid, began))
        finally:
            process.kill()
    assert done.outcome is Outcome.DONE


def test_a_process_that_is_none_of_the_service_restarts_nothing(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    done = run("touch", str(tmp_path / "ran"), epoch=Epoch(process.pid, start_time(process.pid)), named=os.getpid())
    assert done.outcome is Outcome.GONE
    assert not (tmp_path / "ran").exists()


def test_whatever_life_there_is_is_restarted_but_none_is_begun(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    running = run("true", named=process.pid)
    process.kill()
    process.wait()
    ended = run("touch", str(tmp_path / "ran"), named=process.pid)
    assert (running.outcome, ended.outcome) == (Outcome.DONE, Outcome.GONE)
    assert "names no living process: nothing is started" in ended.reason
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("named", [{"process": Match(exe="/usr/sbin/x")}, {"cgroup": "/machine.slice/x.scope"}])
def test_without_a_process_of_a_match_or_a_cgroup_nothing_is_started(tmp_path: Path, named: dict[str, Any]) -> None:
    done = restart(Target(**named, restart_command=("touch", str(tmp_path / "ran"))), None)
    assert done.outcome is Outcome.GONE
    assert done.reason.endswith("names no living process: nothing is started that its operator may have stopped")
    assert not (tmp_path / "ran").exists()


def test_whichever_process_fits_a_match_is_restarted() -> None:
    word = f"0.{os.getpid()}"  # nobody else's sleep has it
    with sleeping(word):
        named = Match(exe="/bin/sleep", args=(word,))
        assert restart(Target(process=named, restart_command=("/bin/true",)), None).outcome is Outcome.DONE


def test_whether_a_unit_runs_is_asked_before_its_command_is_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/nobody")
    done = restart(Target(unit="any.service", restart_command=("touch", str(tmp_path / "ran"))), None)
    assert done.outcome is Outcome.FAILED
    assert not (tmp_path / "ran").exists()


def test_a_pid_that_is_anothers_by_now_counts_as_ended(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    done = run("touch", str(tmp_path / "ran"), epoch=Epoch(process.pid, start_time(process.pid) - 1))
    assert done.outcome is Outcome.GONE
    assert not (tmp_path / "ran").exists()


def test_a_service_that_nothing_can_restart_is_refused_with_what_to_configure() -> None:
    done = restart(Target(pidfile="/run/some.pid"), None)
    assert done.outcome is Outcome.REFUSED
    assert done.reason == "nothing can restart this service: it is no systemd unit, and has no restart_command"


def test_a_unit_whose_systemd_cannot_be_asked_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/nobody")
    done = restart(Target(unit="any.service"), Epoch(os.getpid(), 1))
    assert done.outcome is Outcome.FAILED
    assert done.reason.startswith("cannot connect to the system bus")
