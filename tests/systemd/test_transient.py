"""Commands of the config as transient units of a real systemd: with which powers and words they run, and how they end.

Commands are run from outside through the machine's bus, which is as good (uid 0 is the same there) and quick; what asks
with the helper's two capabilities, or is killed, is a process of its own.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helper.victims import until
from tests.systemd.machine import PYTHON, REPOSITORY, Machine
from watchdog.helper import transient
from watchdog.helper.limits import STOP_WITHIN
from watchdog.helper.protocol import Request
from watchdog.helper.transient import Transient, names_pattern, unit_name
from watchdog.helper.verbs import verbs
from watchdog.model import Outcome, Performed, Rung
from watchdog.target import Target

SLEEPER = "[Service]\nExecStart=/bin/sleep infinity\n"
TWO_POWERS = ("setpriv", "--bounding-set=-all,+sys_ptrace,+dac_read_search", "--inh-caps=-all", "--no-new-privs")
SAYS_ITS_WORDS = "import json, sys; print(json.dumps(sys.argv[1:]))"
NASTY = ["a b", "$HOME", "${PATH}", "$$", "%n", "%%h", "é\n\t☃", r"\x41\n", '"q', "'", "", "-", ";", "@x", "+!:"]
ASK = """
import dataclasses, json, sys
from watchdog.helper.transient import Transient
from watchdog.model import Rung
service, address, *argv = sys.argv[1:]
performed = Transient(service, address or None).run(Rung.RESTART, tuple(argv))
print(json.dumps(dataclasses.asdict(performed)))
"""


def run(machine: Machine, service: str, *argv: str, rung: Rung = Rung.RESTART, deadline: float = 10.0) -> Performed:
    return Transient(service, machine.bus_address).run(rung, argv, deadline)


def shell(machine: Machine, service: str, script: str, rung: Rung = Rung.RESTART, deadline: float = 10.0) -> Performed:
    return run(machine, service, "/bin/sh", "-c", script, rung=rung, deadline=deadline)


def loaded(machine: Machine, service: str, state: str = "") -> list[str]:
    """The names of its units that systemd has in memory, perhaps those in one state alone."""
    rows = machine.systemctl("list-units", "--all", "--plain", "--no-legend", f"epoll-watchdog-*-{service}-*.service")
    return [row.split()[0] for row in rows.splitlines() if not state or row.split()[2] == state]


def lives(machine: Machine, pid: str) -> bool:
    return machine.run("kill", "-0", pid, check=False).returncode == 0


def written(machine: Machine, path: str) -> str:
    """What a process inside writes there, in one line."""
    found = ""

    def read() -> bool:
        nonlocal found
        found = machine.run("cat", path, check=False).stdout
        return found.endswith("\n")

    until(read, f"a line in {path}")
    return found.splitlines()[-1]


# --- its name -------------------------------------------------------------------------------------------------------

NAMES = st.text(string.ascii_letters + string.digits + "_.@-", min_size=1, max_size=64)
KINDS = st.sampled_from(["restart", "capture", "continue"])
_libc = ctypes.CDLL(None)


def matches(pattern: str, name: str) -> bool:
    """By fnmatch(3), as systemd does it."""
    return int(_libc.fnmatch(pattern.encode(), name.encode(), 0)) == 0


@given(KINDS, NAMES)
def test_a_name_is_of_the_kind_that_systemd_takes_and_is_found_again(kind: str, service: str) -> None:
    name = unit_name(kind, service)
    assert len(name) < 256
    assert set(name) <= set(string.ascii_letters + string.digits + ":-_.\\")
    assert matches(names_pattern(kind, service), name)


@given(KINDS, NAMES, KINDS, NAMES | st.just("a"), st.text("0123456789abcdef", min_size=8, max_size=8))
def test_the_runs_of_one_service_are_never_taken_for_those_of_another(
    kind: str, service: str, other_kind: str, begin: str, end: str
) -> None:
    for other in (begin, f"{service}-{end}", f"{service}-{begin}"):
        same = (kind, service) == (other_kind, other)
        assert matches(names_pattern(kind, service), unit_name(other_kind, other)) == same


def test_a_service_with_an_at_sign_is_no_instance_of_a_template(machine: Machine) -> None:
    done = run(machine, "db@main.service", "/bin/true")
    assert done.outcome is Outcome.DONE
    assert done.detail["unit"].startswith(r"epoll-watchdog-restart-db\x40main.service-")


# --- what it is given -----------------------------------------------------------------------------------------------


def test_a_command_has_all_powers_though_who_asks_has_two(machine: Machine) -> None:
    argv = ("/bin/grep", "-E", "^(CapEff|NoNewPrivs|Seccomp_filters)", "/proc/self/status")
    done = json.loads(machine.python(ASK, "powerful", "", *argv, before=TWO_POWERS))
    asking = machine.run(*TWO_POWERS, *argv).stdout.strip()
    init = machine.run("/bin/grep", *argv[1:3], "/proc/1/status").stdout.strip()
    assert done["outcome"] == "done"
    assert done["detail"]["output"] == init
    assert init != asking


def test_words_that_a_shell_or_a_unit_file_would_change_arrive_as_they_are(machine: Machine) -> None:
    done = run(machine, "verbatim", "/usr/bin/python3", "-c", SAYS_ITS_WORDS, *NASTY)
    assert json.loads(done.detail["output"]) == NASTY


WORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), max_size=8)


@settings(max_examples=15, deadline=None)
@given(words=WORDS)
def test_any_words_arrive_as_they_are(machine: Machine, words: list[str]) -> None:
    done = run(machine, "any-words", "/usr/bin/python3", "-c", SAYS_ITS_WORDS, *words)
    assert json.loads(done.detail["output"]) == words


def test_a_command_has_the_environment_of_a_service_and_nothing_of_the_helper_s(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELPER_SECRET", "1")
    names = dict(line.split("=", 1) for line in run(machine, "env", "/usr/bin/env").detail["output"].splitlines())
    assert names["PATH"].split(":")[-4:] == ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    assert set(names) <= {"PATH", "LANG", "INVOCATION_ID", "SYSTEMD_EXEC_PID"}


def test_a_command_has_a_session_of_its_own_and_no_input(machine: Machine) -> None:
    code = "import os, sys; print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()), os.getcwd())"
    assert run(machine, "session", "/usr/bin/python3", "-c", code).detail["output"] == "True '' /"


def test_a_pipeline_in_a_command_ends_as_in_a_shell(machine: Machine) -> None:
    assert shell(machine, "pipeline", "yes | head -n 1").detail["output"] == "y"


# --- how it ends ----------------------------------------------------------------------------------------------------


def test_a_command_that_ends_well(machine: Machine) -> None:
    done = run(machine, "well", "/bin/echo", "here", "again")
    assert (done.outcome, done.reason) == (Outcome.DONE, "the restart command ended well")
    assert (done.detail["exit_code"], done.detail["output"]) == (0, "here again")
    assert 0 < done.detail["duration_s"] < 5
    assert set(done.detail) == {"unit", "exit_code", "output", "duration_s"}


def test_a_command_that_fails_is_told_with_its_last_word(machine: Machine) -> None:
    done = shell(machine, "fails", "echo first; echo no such database >&2; exit 3")
    assert (done.outcome, done.reason) == (Outcome.FAILED, "the restart command ended with 3: no such database")
    assert (done.detail["exit_code"], done.detail["output"]) == (3, "first\nno such database")


def test_a_command_that_a_signal_ends_is_told(machine: Machine) -> None:
    done = shell(machine, "signalled", "kill -TERM $$")
    assert (done.reason, done.detail["exit_code"]) == (
        "the restart command was killed by signal 15: it said nothing",
        -15,
    )
    assert done.outcome is Outcome.FAILED


def test_a_command_that_is_not_there_is_refused(machine: Machine) -> None:
    done = run(machine, "nowhere", "/nowhere/restart")
    assert done.outcome is Outcome.REFUSED
    assert done.reason.startswith("the restart command cannot be run: `journalctl -u epoll-watchdog-restart-nowhere-")


def test_a_command_that_is_no_path_is_refused_in_systemds_words(machine: Machine) -> None:
    done = run(machine, "relative", "./restart")
    assert done.outcome is Outcome.REFUSED
    assert done.reason.startswith("systemd refuses to run the restart command: ")
    assert done.detail == {}


def test_a_command_that_ends_with_systemds_own_code_ran_where_it_said_something(machine: Machine) -> None:
    done = shell(machine, "code-203", "echo mine; exit 203")
    assert (done.outcome, done.reason) == (Outcome.FAILED, "the restart command ended with 203: mine")


def test_a_command_that_never_stops_talking_fills_no_memory(machine: Machine) -> None:
    done = run(machine, "talks", "/usr/bin/yes", "no end of it")
    assert (done.outcome, done.detail["exit_code"]) == (Outcome.FAILED, 1)
    assert 0 < len(done.detail["output"]) <= 2000


@pytest.mark.parametrize("rung", [Rung.RESTART, Rung.CAPTURE])
def test_a_command_that_hangs_is_killed_with_its_children(machine: Machine, rung: Rung) -> None:
    child = f"/run/hanging-{rung}"
    done = shell(machine, "hangs", f"setsid sleep 1000 & echo $! >{child}; echo waiting; wait", rung, 0.5)
    assert done.outcome is Outcome.TIMED_OUT
    assert done.reason == f"the {rung} command did not end within 0.5 s and was killed: waiting"
    assert done.detail["exit_code"] == -9
    until(lambda: not lives(machine, written(machine, child)), "its child is gone")
    until(lambda: not loaded(machine, "hangs"), "its unit is forgotten")


def test_a_command_that_its_operator_stops_is_waited_for(machine: Machine) -> None:
    """Its start job is cancelled at once, and it needs a while: systemd sends SIGKILL in the end."""
    stops = "trap '' TERM; systemctl stop --no-block epoll-watchdog-restart-stopped-*; exec sleep 1000"
    done = shell(machine, "stopped", stops)
    assert (done.outcome, done.reason) == (
        Outcome.FAILED,
        "the restart command was killed by signal 9: it said nothing",
    )
    assert done.detail["duration_s"] >= STOP_WITHIN


def test_a_command_whose_job_is_cancelled_is_waited_for(machine: Machine) -> None:
    cancels = "systemctl --quiet cancel $(systemctl list-jobs --no-legend | sed 's/ .*//'); sleep 0.2; echo went on"
    assert shell(machine, "cancelled", cancels).detail["output"] == "went on"


def test_a_command_that_waits_for_other_jobs_is_called_off(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transient, "PATIENCE", 0.3)
    slow = machine.add_unit("slow-oneshot.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n")
    machine.write_file(
        "/etc/systemd/system/epoll-watchdog-restart-queued-.service.d/after.conf", f"[Unit]\nAfter={slow}\n"
    )
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "--no-block", slow)
    done = run(machine, "queued", "/bin/touch", "/run/queued-ran", deadline=0.1)
    machine.systemctl("stop", slow)
    assert (done.outcome, done.reason) == (
        Outcome.TIMED_OUT,
        "the restart command waited for other jobs of systemd's, and was called off",
    )
    assert machine.run("ls", "/run/queued-ran", check=False).returncode != 0


def test_the_journal_knows_it_by_its_unit(machine: Machine) -> None:
    done = shell(machine, "journaled", "exit 3")
    machine.run("journalctl", "--sync")
    told = machine.run("journalctl", "--output=cat", "--unit", done.detail["unit"]).stdout
    assert "epoll-watchdog: restart command of journaled" in told
    assert "Main process exited, code=exited, status=3" in told


# --- what it leaves behind ------------------------------------------------------------------------------------------


def test_a_daemon_that_a_restart_leaves_running_lives_on(machine: Machine) -> None:
    machine.run("mkfifo", "/run/left-go")
    daemon = (
        "(echo $$; read _ </run/left-go; echo late; echo alive >/run/left-alive; exec sleep 1000) & echo $! >/run/left"
    )
    first = shell(machine, "leaves", daemon + "; echo started")
    second = run(machine, "leaves", "/bin/true")  # the first one's unit is there, but it has ended
    machine.write_file("/run/left-go", "go\n")
    alive = written(machine, "/run/left-alive")
    pid = written(machine, "/run/left")
    assert (first.outcome, second.outcome, alive) == (Outcome.DONE, Outcome.DONE, "alive")
    assert first.detail["unit"] in machine.run("cat", f"/proc/{pid}/cgroup").stdout
    machine.run("kill", pid)
    until(lambda: not loaded(machine, "leaves"), "its unit is forgotten with its last process")


def test_a_capture_leaves_nobody_running(machine: Machine) -> None:
    done = shell(machine, "capturing", "setsid sleep 1000 & echo $! >/run/captured", Rung.CAPTURE)
    assert done.outcome is Outcome.DONE
    assert not lives(machine, written(machine, "/run/captured"))


def test_a_process_that_a_capture_leaves_stopped_goes_on_though_the_helper_may_not_send_a_signal(
    machine: Machine,
) -> None:
    attaches = "import ctypes, sys, time; ctypes.CDLL(None).ptrace(16, int(sys.argv[1]), 0, 0); time.sleep(1000)"
    code = """if True:
        import dataclasses, json, sys
        from watchdog.helper.capture import capture
        from watchdog.helper.transient import Transient
        from watchdog.model import Epoch
        from watchdog.target import Target, start_time
        unit, pid, attaches = sys.argv[1:]
        target = Target(unit=unit, capture=("/usr/bin/python3", "-c", attaches, "{pid}"))
        epoch = Epoch(int(pid), start_time(int(pid)))
        performed = capture(target, epoch, runner=Transient("debugged"), command_deadline=3.0)
        print(json.dumps(dataclasses.asdict(performed)))
    """
    unit = machine.add_unit("debugged.service", SLEEPER + "User=nobody\n", start=True)
    pid = machine.show(unit, "MainPID")
    done = json.loads(machine.python(code, unit, pid, attaches, before=TWO_POWERS))
    status = machine.run("grep", "-E", "^(State|TracerPid)", f"/proc/{pid}/status").stdout
    assert done["outcome"] == "timed_out"
    assert done["reason"].endswith(f"; it left process {pid} stopped, so it was let go on by SIGCONT")
    assert (done["detail"]["left_stopped"], done["detail"]["continued"]) == (True, True)
    assert status.split() == ["State:", "S", "(sleeping)", "TracerPid:", "0"]


CAPTURE = """if True:
    import sys
    from watchdog.helper.capture import capture
    from watchdog.helper.transient import Transient
    from watchdog.model import Epoch
    from watchdog.target import Target, start_time
    unit, pid, directory = sys.argv[1:]
    target = Target(unit=unit, capture=("/bin/sh", "-c", "kill -STOP $1; exec sleep 1000", "capture", "{pid}"))
    epoch = Epoch(int(pid), start_time(int(pid)))
    capture(target, epoch, runner=Transient("halted"), service="halted", directory=directory)
"""
HELPER = """if True:
    import os, socket, subprocess, sys
    ours, theirs = socket.socketpair()
    words = ["--fd", str(theirs.fileno()), "--config", "/nowhere", "--ledger", sys.argv[1]]
    with subprocess.Popen([sys.executable, "-m", "watchdog.helper", *words], pass_fds=[theirs.fileno()]) as helper:
        sys.stdin.read()
        helper.kill()
"""


@pytest.fixture
def halted(machine: Machine) -> Iterator[str]:
    """The PID of a process that a capture stops, which goes on though its helper was killed."""
    unit = machine.add_unit("halted.service", SLEEPER + "User=nobody\n", start=True)
    pid = machine.show(unit, "MainPID")
    machine.run("mkdir", "-p", "/run/halted")
    capture = [*TWO_POWERS, "--pdeathsig=KILL", str(PYTHON), "-c", CAPTURE, unit, pid, "/run/halted/capturing"]
    inside = ["nsenter", f"--target={machine.leader}", "--all", "--", *capture]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(inside, env=environment, stdout=subprocess.PIPE) as helper:
        try:
            until(lambda: state(machine, pid) == "T", "the capture has stopped it", within_s=30.0)
        finally:
            helper.kill()  # nsenter, and so its child
            helper.communicate()  # the child had the pipe too
    yield pid
    machine.systemctl("stop", "epoll-watchdog-capture-halted-*.service", unit)
    machine.run("rm", "-r", "/run/halted")


def state(machine: Machine, pid: str) -> str:
    """As proc_pid_stat(5) has it."""
    return machine.run("sed", "s/.*) //; s/ .*//", f"/proc/{pid}/stat").stdout.strip()


def cleans_up(machine: Machine) -> int:
    """The exit code of what systemd runs when the helper has ended."""
    words = (*TWO_POWERS, PYTHON, "-P", "-m", "watchdog.helper", "--thaw", "--ledger", "/run/halted/ledger.json")
    return machine.run(*words, env={"PYTHONPATH": str(REPOSITORY)}, check=False).returncode


def test_a_process_whose_capture_outlived_its_helper_goes_on_once_that_has_ended(machine: Machine, halted: str) -> None:
    assert cleans_up(machine) == 0
    assert (state(machine, halted), len(loaded(machine, "halted", "activating"))) == ("T", 1)  # it is at work still
    machine.systemctl("stop", "epoll-watchdog-capture-halted-*.service")
    assert cleans_up(machine) == 0
    assert state(machine, halted) == "S"
    assert machine.run("ls", "/run/halted/capturing").stdout == ""


def test_the_next_helper_waits_for_the_end_of_a_capture_and_lets_its_process_go_on(
    machine: Machine, halted: str
) -> None:
    inside = ["nsenter", f"--target={machine.leader}", "--all", "--", str(PYTHON), "-c", HELPER]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([*inside, "/run/halted/ledger.json"], env=environment, stdin=subprocess.PIPE) as helper:
        try:
            until(lambda: "watchdog.helper" in machine.run("ps", "-eo", "args").stdout, "it has started")
            assert state(machine, halted) == "T"
            machine.systemctl("stop", "epoll-watchdog-capture-halted-*.service")
            until(lambda: state(machine, halted) == "S", "it goes on", within_s=30.0)
        finally:
            helper.communicate()


def test_a_process_that_has_ended_is_not_let_go_on(machine: Machine) -> None:
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        process = os.pidfd_open(sleeper.pid)
        sleeper.kill()
    try:
        with pytest.raises(ProcessLookupError):
            Transient("ended", machine.bus_address).let_go_on(process)
    finally:
        os.close(process)


# --- who asks, and who is asked -------------------------------------------------------------------------------------


@pytest.fixture
def asking(machine: Machine) -> Iterator[subprocess.Popen[bytes]]:
    """Who has asked for a restart of "orphaned" that has begun, and ends when a line comes to /run/orphaned-go."""
    machine.run("mkfifo", "/run/orphaned-go")
    script = "echo begun >/run/orphaned; read _ </run/orphaned-go; echo ended >>/run/orphaned"
    argv = [sys.executable, "-c", ASK, "orphaned", machine.bus_address, "/bin/sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            written(machine, "/run/orphaned")
            yield process
        finally:
            process.kill()


def test_a_command_outlives_who_asked_for_it_and_is_not_run_beside_itself(
    machine: Machine, asking: subprocess.Popen[bytes]
) -> None:
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    (unit,) = loaded(machine, "orphaned", "activating")
    beside = run(machine, "orphaned", "/bin/touch", "/run/beside")
    another = run(machine, "orphaned-too", "/bin/true")
    machine.write_file("/run/orphaned-go", "go\n")
    until(lambda: written(machine, "/run/orphaned") == "ended", "it came to its end")
    until(lambda: not loaded(machine, "orphaned"), "its unit is forgotten")
    afterwards = run(machine, "orphaned", "/bin/true")
    assert beside.outcome is Outcome.REFUSED
    assert beside.reason == f"the restart command of before still runs, as {unit}: `systemctl stop` ends it"
    assert beside.detail == {"unit": unit}
    assert (another.outcome, afterwards.outcome) == (Outcome.DONE, Outcome.DONE)
    assert machine.run("ls", "/run/beside", check=False).returncode != 0


def test_without_a_bus_nothing_is_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    done = Transient("unheard", f"unix:path={tmp_path}/nobody").run(Rung.RESTART, ("/bin/touch", str(ran)))
    assert done.outcome is Outcome.FAILED
    assert done.reason.startswith("the restart command was not run: cannot connect to the system bus: ")
    assert not ran.exists()


def test_without_systemd_nothing_is_run(tmp_path: Path) -> None:
    address, ran = f"unix:path={tmp_path}/bus", tmp_path / "ran"
    daemon = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address"]
    with subprocess.Popen(daemon, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as bus:
        try:
            assert bus.stdout is not None
            assert bus.stdout.readline()
            done = Transient("alone", address).run(Rung.RESTART, ("/bin/touch", str(ran)))
        finally:
            bus.kill()
    assert done.outcome is Outcome.FAILED
    assert done.reason.startswith("the restart command was not run: systemd does not answer on the system bus: ")
    assert not ran.exists()


async def test_a_bus_that_is_lost_meanwhile_is_told_and_the_command_goes_on(machine: Machine) -> None:
    script = "echo begun >/run/unseen; sleep 1000"
    running = asyncio.create_task(asyncio.to_thread(shell, machine, "unseen", script))
    await asyncio.to_thread(written, machine, "/run/unseen")
    cut_off_from_the_bus()
    done = await running
    (unit,) = loaded(machine, "unseen", "activating")
    machine.systemctl("kill", "--signal=KILL", unit)
    assert done.outcome is Outcome.FAILED
    assert done.reason.startswith(f"the restart command may go on as {unit}, but how it ends is not known: ")


def cut_off_from_the_bus() -> None:
    """Shut this process' connection to a system bus, as a bus does that ends."""
    for link in list(Path("/proc/self/fd").iterdir()):
        try:
            with socket.socket(fileno=os.dup(int(link.name))) as connection:
                if str(connection.getpeername()).endswith("system_bus_socket"):
                    connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # no socket, or not connected
            continue


# --- the verb -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("under_systemd", [True, False])
def test_the_table_for_a_helper_under_systemd_runs_the_restart_command_as_a_unit(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, under_systemd: bool
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", machine.bus_address)
    pidfile = tmp_path / "service.pid"
    pidfile.write_text(f"{os.getpid()}\n")
    target = Target(pidfile=str(pidfile), restart_command=("/bin/cat", "/proc/self/cgroup"))
    request = Request(id=1, verb="restart", service="by-verb")
    done = verbs(transient=under_systemd)["restart"].act(target, request, frozenset())
    assert done.outcome is Outcome.DONE
    assert ("/epoll-watchdog-restart-by-verb-" in done.detail["output"]) is under_systemd
    assert ("unit" in done.detail) is under_systemd
