"""The nudge by FreezeUnit and ThawUnit, through a real systemd: whom it heals, whom it leaves alone, and that whatever
happens to the one who froze, the service goes on.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.evidence.test_freezer import hierarchy
from tests.helper.victims import build, state_of, until
from tests.systemd.freezing import LEDGER, RECORDS
from tests.systemd.machine import PYTHON, REPOSITORY, Machine
from tests.systemd.test_unit_restart import STUBBORN

PTRACE = "101"  # the number of the system call (x86-64)
HELPER_CAPABILITIES = ("setpriv", "--bounding-set=-all,+sys_ptrace,+dac_read_search")
NO_PTRACE = {
    "without the capability": ("setpriv", "--bounding-set=-all,+dac_read_search"),
    "by a system call filter": (str(PYTHON), str(REPOSITORY / "tests/evidence/seccomp.py"), PTRACE, str(errno.EPERM)),
}

DEMO = f"""
[Service]
RuntimeDirectory=%p
ExecStart={sys.executable} -m watchdog.demo.service --dir /run/%p
WorkingDirectory={REPOSITORY}
"""
SLEEPER = "[Service]\nExecStart=/bin/sleep infinity\n"


class Guarded:
    """A unit in the machine with the demo's service, and a client that has been connected from the beginning."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.unit = machine, machine.add_unit(name, DEMO, start=True)
        path = Path(f"/proc/{machine.leader}/root/run/{name.removesuffix('.service')}/service.sock")
        until(path.exists, "the service's socket")
        self.client = socket.socket(socket.AF_UNIX)
        until(lambda: not self.client.connect_ex(str(path)), "that the service listens")

    def answers(self, within_s: float = 5.0) -> bool:
        """Whether the client gets an answer."""
        self.client.settimeout(within_s)
        self.client.send(b"ping\n")
        try:
            return self.client.recv(100).startswith(b"pong")
        except TimeoutError:
            return False

    def lose_wakeup(self) -> None:
        """Stall it: the client has asked, and is not answered."""
        self.machine.systemctl("kill", "--signal=SIGUSR1", "--kill-whom=main", self.unit)
        until(lambda: not self.answers(0.1), "a stall")

    def recovers(self) -> bool:
        """Whether what the client asked during the stall is answered, on the same connection."""
        self.client.settimeout(5.0)
        return self.client.recv(100).startswith(b"pong")

    @property
    def frozen(self) -> str:
        """What systemd says, and what the kernel was asked for."""
        group = self.machine.show(self.unit, "ControlGroup")
        asked = self.machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.freeze").stdout.strip()
        return f"{self.machine.show(self.unit, 'FreezerState')} {asked}"


RUNS = "running 0"
NUMBERS = itertools.count()


@pytest.fixture
def guarded(machine: Machine) -> Iterator[Guarded]:
    """One of its own for each test."""
    service = Guarded(machine, f"guarded-{next(NUMBERS)}.service")
    with service.client:
        yield service
    machine.systemctl("thaw", service.unit, check=False)
    machine.systemctl("stop", service.unit, check=False)


def nudge(
    machine: Machine,
    unit: str,
    *methods: str,
    blow: tuple[str, ...] = (),
    before: tuple[str, ...] = HELPER_CAPABILITIES,
) -> dict[str, Any]:
    """A nudge of the unit's main process, by the helper's rights or others; what it told, or nothing where all died."""
    pid = machine.show(unit, "MainPID")
    words: tuple[str | Path, ...] = (
        *before,
        PYTHON,
        "-m",
        "tests.systemd.freezing",
        unit,
        pid,
        ",".join(methods or ("freeze",)),
        *blow,
    )
    done = machine.run(*words, env={"PYTHONPATH": str(REPOSITORY)}, check=not blow)
    told: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return told


def records(machine: Machine) -> list[str]:
    """What is recorded as frozen."""
    return machine.run("sh", "-c", f"ls {RECORDS} 2>/dev/null || true").stdout.split()


# --- whom it heals ----------------------------------------------------------------------------------------------------


def test_a_stalled_service_is_healed_without_any_right_but_the_helpers_two(guarded: Guarded) -> None:
    guarded.lose_wakeup()
    told = nudge(guarded.machine, guarded.unit)
    assert guarded.recovers()
    assert told["outcome"] == "done"
    [method] = told["methods"]
    assert (method["method"], method["outcome"]) == ("freeze", "done")
    assert 0 < method["stopped_seconds"] == told["longest_stop_seconds"] < 0.5
    assert (told["processes"], told["nudged"]) == (1, 3)
    assert guarded.frozen == RUNS
    assert records(guarded.machine) == []


@pytest.mark.parametrize("forbidden", NO_PTRACE)
def test_where_ptrace_is_forbidden_it_is_the_second_method_that_heals(guarded: Guarded, forbidden: str) -> None:
    guarded.lose_wakeup()
    told = nudge(guarded.machine, guarded.unit, "ptrace", "freeze", before=NO_PTRACE[forbidden])
    assert guarded.recovers()
    assert told["outcome"] == "done"
    assert [(each["method"], each["outcome"]) for each in told["methods"]] == [
        ("ptrace", "refused"),
        ("freeze", "done"),
    ]
    assert told["methods"][0]["refusal"] == "NotPermitted"
    assert "was frozen and thawed" in told["reason"]
    assert "ptrace: process" in told["reason"]


def test_where_ptrace_is_permitted_nothing_is_frozen(guarded: Guarded) -> None:
    guarded.lose_wakeup()
    told = nudge(guarded.machine, guarded.unit, "ptrace", "freeze")
    assert guarded.recovers()
    assert [(each["method"], each["outcome"]) for each in told["methods"]] == [("ptrace", "done")]


def test_an_alias_is_frozen_and_recorded_by_the_units_own_name(machine: Machine) -> None:
    machine.run("ln", "-sf", "own-name.service", "/etc/systemd/system/other-name.service")
    machine.add_unit("own-name.service", SLEEPER, start=True)
    assert nudge(machine, "other-name.service")["unit"] == "own-name.service"


# --- whom it leaves alone ---------------------------------------------------------------------------------------------


def test_what_its_operator_has_frozen_stays_frozen(guarded: Guarded) -> None:
    guarded.machine.systemctl("freeze", guarded.unit)
    told = nudge(guarded.machine, guarded.unit)
    assert (told["outcome"], told["methods"][0]["refusal"]) == ("refused", "FrozenAlready")
    assert told["reason"] == f"{guarded.unit} is frozen already"
    assert guarded.frozen == "frozen 1"
    assert records(guarded.machine) == []


def test_what_is_frozen_with_its_slice_stays_frozen(machine: Machine) -> None:
    unit = machine.add_unit("in-slice.service", f"{SLEEPER}Slice=cold.slice\n", start=True)
    machine.run("sh", "-c", "echo 1 >/sys/fs/cgroup/cold.slice/cgroup.freeze")
    told = nudge(machine, unit)
    machine.run("sh", "-c", "echo 0 >/sys/fs/cgroup/cold.slice/cgroup.freeze")
    machine.systemctl("stop", unit)
    assert told["methods"][0]["refusal"] == "FrozenAlready"


def test_the_bus_is_never_frozen(machine: Machine) -> None:
    told = nudge(machine, "dbus.service")
    assert (told["outcome"], told["raised"]) == ("refused", "NeverATarget")
    assert machine.show("dbus.service", "FreezerState") == "running"


def test_what_is_no_service_is_not_frozen(machine: Machine) -> None:
    machine.run("systemd-run", "--scope", "--unit=no-service", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 &")
    group = machine.show("no-service.scope", "ControlGroup")
    pid = machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").stdout.strip()
    words = (PYTHON, "-m", "tests.systemd.freezing", "no-service.scope", pid, "freeze")
    told = json.loads(machine.run(*words, env={"PYTHONPATH": str(REPOSITORY)}).stdout)
    machine.systemctl("stop", "no-service.scope")
    assert (told["methods"][0]["refusal"], told["reason"]) == ("CannotFreeze", "no-service.scope is no .service")


def test_a_unit_that_is_being_stopped_is_left_to_its_operator(machine: Machine) -> None:
    unit = machine.add_unit("stopping-cold.service", STUBBORN, start=True)
    machine.systemctl("stop", "--no-block", unit)
    machine.wait_until(unit, "deactivating")
    told = nudge(machine, unit)
    machine.systemctl("kill", "--signal=KILL", unit)
    assert (told["outcome"], told["methods"][0]["refusal"]) == ("refused", "Busy")
    assert records(machine) == []


# --- what can't be frozen ---------------------------------------------------------------------------------------------


def test_a_thread_in_state_d_whose_like_is_frozen_does_not_hold_it_up(machine: Machine, tmp_path: Path) -> None:
    """The parent of a vfork sleeps in state D until its child is gone; the kernel counts it as frozen."""
    program = build(tmp_path)
    inside = Path(f"/proc/{machine.leader}/root/run/victim")
    inside.write_bytes(program.read_bytes())
    inside.chmod(0o755)
    script = "exec 3<>/run/forks.fifo; exec /run/victim vfork <&3"
    text = f"[Service]\nExecStartPre=/bin/mkfifo /run/forks.fifo\nExecStart=/bin/sh -c '{script}'\n"
    unit = machine.add_unit("forks.service", text, start=True)
    main = Path(f"/proc/{outside(machine, machine.show(unit, 'MainPID'))}")
    until(lambda: state_of(main) == "D", "in vfork")
    told = nudge(machine, unit)
    state = machine.show(unit, "FreezerState")
    machine.systemctl("kill", "--signal=KILL", unit)
    assert (told["outcome"], told["processes"], state) == ("done", 2, "running")


def test_a_unit_that_never_stands_still_as_a_whole_is_thawed_in_time(guarded: Guarded) -> None:
    """Cgroup v1 holds it in a state D that v2's freezer can't reach; systemd answers FreezeUnit never."""
    with held_by_v1(outside(guarded.machine, guarded.machine.show(guarded.unit, "MainPID"))):
        told = nudge(guarded.machine, guarded.unit)
        assert guarded.frozen == RUNS
    assert told["outcome"] == "timed_out"
    assert told["unfinished"]
    assert 0.5 <= told["longest_stop_seconds"] < 1.0
    assert records(guarded.machine) == []
    assert guarded.answers()
    assert nudge(guarded.machine, guarded.unit)["outcome"] == "done"


def outside(machine: Machine, pid: str) -> int:
    """The process' number here, of one in the machine."""
    namespace = Path(f"/proc/{machine.leader}/ns/pid").readlink()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ends, or is a kernel thread
            numbers = re.search(r"NSpid:(.*)", (process / "status").read_text())
            if numbers and numbers[1].split()[-1] == pid and (process / "ns/pid").readlink() == namespace:
                return int(process.name)
    raise AssertionError(f"no process {pid} in the machine")


@contextlib.contextmanager
def held_by_v1(pid: int) -> Iterator[None]:
    """The process in a cgroup of v1 that is frozen."""
    above = hierarchy("cgroup", "freezer")
    cgroup = above / f"epoll-watchdog-test-{os.getpid()}"
    cgroup.mkdir()
    try:
        (cgroup / "cgroup.procs").write_text(str(pid))
        (cgroup / "freezer.state").write_text("FROZEN")
        until(lambda: (cgroup / "freezer.state").read_text() == "FROZEN\n", "held")
        yield
    finally:
        (cgroup / "freezer.state").write_text("THAWED")
        (above / "cgroup.procs").write_text(str(pid))
        cgroup.rmdir()


# --- whatever happens to the one who froze ----------------------------------------------------------------------------

KILL = str(int(signal.SIGKILL))


@pytest.mark.parametrize("member", ["FreezeUnit", "ThawUnit"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_killed_at_any_point_ends_in_a_thaw(guarded: Guarded, member: str, when: str) -> None:
    told = nudge(guarded.machine, guarded.unit, blow=(KILL, member, when, "worker"))
    assert "ended without an answer (signal 9)" in told["error"]
    until(lambda: records(guarded.machine) == [], "its guardian has thawed it")
    assert guarded.frozen == RUNS
    assert guarded.answers()


def test_a_worker_that_hangs_in_a_freeze_ends_in_a_thaw(guarded: Guarded) -> None:
    told = nudge(guarded.machine, guarded.unit, blow=(str(int(signal.SIGSTOP)), "FreezeUnit", "after", "worker"))
    assert "its worker was killed" in told["error"]
    assert guarded.frozen == RUNS  # after GUARD_AFTER, which is sooner than the worker's deadline
    assert guarded.answers()
    until(lambda: records(guarded.machine) == [], "the worker is dead, so no freeze can come any more")


def test_a_freeze_that_comes_later_than_its_guardian_had_patience_for_ends_in_a_thaw(guarded: Guarded) -> None:
    told = nudge(guarded.machine, guarded.unit, blow=(KILL, "FreezeUnit", "late", "worker"))
    assert "ended without an answer (signal 9)" in told["error"]
    until(lambda: guarded.frozen == RUNS, "thawed")
    assert guarded.answers()
    until(lambda: records(guarded.machine) == [], "its guardian has cleared the record")


def test_where_its_record_takes_too_long_nothing_is_frozen(guarded: Guarded) -> None:
    told = nudge(guarded.machine, guarded.unit, blow=("0", "record", "late", "worker"))
    assert (told["outcome"], told["methods"][0]["refusal"]) == ("refused", "TooLate")
    assert told["reason"].startswith("to record it took 1.")
    assert guarded.frozen == RUNS
    assert records(guarded.machine) == []


@pytest.fixture
def left_frozen(guarded: Guarded) -> Guarded:
    """Frozen by a helper of which nobody is left."""
    assert nudge(guarded.machine, guarded.unit, blow=(KILL, "FreezeUnit", "after", "all")) == {}
    assert guarded.frozen == "frozen 1"
    assert records(guarded.machine) == [guarded.unit]
    return guarded


def test_what_a_helper_left_frozen_is_thawed_when_systemd_cleans_up_after_it(left_frozen: Guarded) -> None:
    words = (*HELPER_CAPABILITIES, PYTHON, "-P", "-m", "watchdog.helper", "--thaw")
    left_frozen.machine.run(*words, env={"STATE_DIRECTORY": str(Path(LEDGER).parent)})
    assert left_frozen.frozen == RUNS
    assert records(left_frozen.machine) == []
    assert left_frozen.answers()


def test_what_a_helper_left_frozen_is_thawed_when_the_next_one_starts(left_frozen: Guarded) -> None:
    """It is started with a socket pair, as by the brain, whose other end is closed at once."""
    code = (
        "import os, socket, subprocess, sys; ours, theirs = socket.socketpair(); ours.close(); "
        "words = ['--fd', str(theirs.fileno()), '--config', '/nowhere', '--ledger', sys.argv[1]]; "
        "subprocess.run([sys.executable, '-m', 'watchdog.helper', *words], pass_fds=[theirs.fileno()], check=True)"
    )
    left_frozen.machine.python(code, LEDGER)
    assert left_frozen.frozen == RUNS
    assert records(left_frozen.machine) == []


def test_what_a_helper_left_frozen_is_thawed_by_the_next_nudge(left_frozen: Guarded) -> None:
    assert nudge(left_frozen.machine, left_frozen.unit)["outcome"] == "done"
    assert left_frozen.frozen == RUNS
    assert records(left_frozen.machine) == []


def test_records_of_what_runs_or_is_gone_are_cleared_and_no_other_file_is_touched(machine: Machine) -> None:
    unit = machine.add_unit("runs.service", SLEEPER, start=True)
    for name in (unit, "no-such.service", "x.timer"):
        machine.write_file(f"{RECORDS}/{name}", "{}")
    words = (PYTHON, "-P", "-m", "watchdog.helper", "--thaw", "--ledger", LEDGER)
    assert machine.run(*words).stderr == ""
    left = records(machine)
    machine.run("rm", f"{RECORDS}/x.timer")
    assert left == ["x.timer"]
