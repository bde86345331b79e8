"""The helper as its peer sees it: what it does, what it refuses, and that nothing the peer says can break it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.helper.conftest import Start
from tests.helper.serving import BUDGET, Helper, helper, pidfile_service
from tests.helper.victims import until
from tests.servers import runs
from watchdog import board
from watchdog.helper.protocol import MAX_REPLY, MAX_REQUEST
from watchdog.helper.server import HOLD_FILE
from watchdog.helper.services import load_with_child
from watchdog.helper.verbs import VERBS, Done, Verb
from watchdog.model import Outcome, Rung


def verb(
    act: object, timeout: float = 5.0, *, rung: Rung | None = Rung.NUDGE, stored: bool = False, reads: bool = False
) -> Verb:
    """A verb that is only a test's."""
    return Verb(lambda _target, _request, _never: act(), timeout, rung, stored, reads)  # type: ignore[operator]


def done() -> Done:
    """What an easy verb comes to."""
    return Done(Outcome.DONE, "done", {})


def slow() -> Done:
    """What one comes to that takes its time."""
    time.sleep(0.2)
    return done()


# --- what it does -----------------------------------------------------------------------------------------------------


def test_a_nudge_reaches_the_service_of_the_config(tmp_path: Path, start: Start) -> None:
    victim = start("wait:3")
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", victim.pid)}) as asked:
        reply = asked.call("nudge", "a", victim)
    assert (reply.id, reply.outcome, reply.detail["nudged"]) == (1, Outcome.DONE, 3)
    until(lambda: victim.counts().eintrs == 3, "each thread returned")


def test_a_nudge_reaches_the_descendants_of_the_process_in_the_pidfile(tmp_path: Path, victim_program: Path) -> None:
    command = ["sh", "-c", f"{victim_program} wait:2; :"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:  # leaving it closes stdin
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"ready\n"
        with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", shell.pid)}) as asked:
            asked.peer.sendall(_request("a", shell.pid))
            reply = asked.reply()
    assert (reply.detail["nudged"], reply.detail["processes"]) == (2, 2)


def _request(service: str, pid: int, asked_for: str = "nudge") -> bytes:
    began = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])
    return (
        json.dumps({"id": 1, "verb": asked_for, "service": service, "pid": pid, "start_time": began}).encode() + b"\n"
    )


def test_an_examination_tells_of_the_service_and_spends_nothing(tmp_path: Path, start: Start) -> None:
    victim = start("wait:3")
    before = victim.counts().eintrs
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", victim.pid)}) as asked:
        replies = [asked.call("examine", "a", victim) for _ in range(10)]
    assert {reply.outcome for reply in replies} == {Outcome.DONE}
    assert not asked.ledger.exists()
    assert victim.counts().eintrs == before
    threads = replies[-1].detail["threads"]
    assert [thread["call"] for thread in threads if thread["tid"] != victim.pid] == ["epoll_wait"] * 3
    assert {epoll["readable"] for epoll in replies[-1].detail["epolls"]} == {None}


def test_copies_are_polled_only_where_that_is_asked_for(tmp_path: Path, start: Start) -> None:
    victim = start("wait:3")
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", victim.pid)}) as asked:
        reply = asked.call("examine", "a", victim, copy=1)
    assert [epoll["readable"] for epoll in reply.detail["epolls"]] == [False] * 3


def test_an_examination_reaches_the_descendants_of_the_process_in_the_pidfile(
    tmp_path: Path, victim_program: Path
) -> None:
    command = ["sh", "-c", f"{victim_program} wait:2; :"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"ready\n"
        with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", shell.pid)}) as asked:
            asked.peer.sendall(_request("a", shell.pid, "examine"))
            detail = asked.reply().detail
    assert detail["processes"][0]["pid"] == shell.pid
    assert [thread["name"] for thread in detail["threads"]] == ["sh", "victim", "victim", "victim"]


def test_hello_tells_what_the_helper_may_do(tmp_path: Path) -> None:
    with helper(tmp_path, {}) as asked:
        reply = asked.call("hello")
    assert reply.outcome is Outcome.DONE
    assert (reply.detail["uid"], reply.detail["cap_sys_ptrace"]) == (0, True)
    assert set(reply.detail) == {"version", "uid", "cap_sys_ptrace", "yama_ptrace_scope"}


def test_a_restart_runs_the_configured_command(tmp_path: Path, start: Start) -> None:
    victim = start("wait:1")
    proof = tmp_path / "restarted"
    service = pidfile_service(tmp_path, "a", victim.pid, restart_command=["/bin/touch", str(proof)])
    with helper(tmp_path, {"a": service}) as asked:
        reply = asked.call("restart", "a", victim)
    assert reply.outcome is Outcome.DONE, reply
    assert proof.exists()


@pytest.mark.parametrize("asked_for", ["restart", "capture"])
def test_a_service_that_runs_on_without_its_first_thread_has_not_ended(
    tmp_path: Path, start: Start, asked_for: str
) -> None:
    victim = start("wait:1", "leave:0")
    until(lambda: "Z" in victim.states(), "the first thread has ended")
    service = pidfile_service(tmp_path, "a", victim.pid, restart_command=["/bin/true"], capture=["/bin/true"])
    with helper(tmp_path, {"a": service}) as asked:
        assert asked.call(asked_for, "a", victim).outcome is Outcome.DONE


def test_a_changed_config_counts_from_the_next_request(tmp_path: Path, start: Start) -> None:
    victim = start("wait:1")
    with helper(tmp_path, {}) as asked:
        assert asked.call("nudge", "a", victim).outcome is Outcome.REFUSED
        asked.serve_only(a=pidfile_service(tmp_path, "a", victim.pid))
        assert asked.call("nudge", "a", victim).outcome is Outcome.DONE


def test_a_bad_config_leaves_the_old_one_in_force(
    tmp_path: Path, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    victim = start("wait:1")
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", victim.pid)}) as asked:
        assert asked.call("nudge", "a", victim).outcome is Outcome.DONE
        asked.config.write_text("{")
        assert asked.call("nudge", "a", victim).outcome is Outcome.DONE
        assert "it is bad" in asked.call("nudge", "b", victim).reason
    assert "bad config, kept the old one" in capfd.readouterr().err


def test_root_does_not_obey_a_config_that_others_can_write(tmp_path: Path, start: Start) -> None:
    victim = start("wait:1")
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", victim.pid)}) as asked:
        asked.config.chmod(0o666)
        asked.call("nudge", "a", victim)
    with helper(tmp_path, {"b": pidfile_service(tmp_path, "b", victim.pid)}) as asked:
        os.chown(asked.config, 65534, 65534)
        reply = asked.call("nudge", "b", victim)
    assert reply.outcome is Outcome.REFUSED
    assert "chown root" in reply.reason


# --- what it refuses --------------------------------------------------------------------------------------------------


def test_a_process_that_the_config_does_not_name_is_refused(tmp_path: Path, start: Start) -> None:
    guarded, other = start("wait:1"), start("wait:1")
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", guarded.pid)}) as asked:
        assert asked.call("nudge", "a", other).outcome is Outcome.GONE
        assert asked.call("nudge", "b", guarded).outcome is Outcome.REFUSED
    assert other.counts().eintrs == guarded.counts().eintrs == 0


def test_only_processes_that_the_config_names_are_examined(tmp_path: Path, start: Start) -> None:
    guarded, other = start("wait:1"), start("wait:1")
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", guarded.pid)}) as asked:
        replies = [asked.call("examine", "a", other), asked.call("examine", "b", guarded), asked.call("examine", "a")]
        asked.peer.sendall(_request("a", guarded.pid, "examine").replace(b'"start_time": ', b'"start_time": 1'))
        replies.append(asked.reply())
    assert [reply.outcome for reply in replies] == [Outcome.GONE, Outcome.REFUSED, Outcome.GONE, Outcome.GONE]
    assert not any("threads" in reply.detail for reply in replies)


def test_only_the_process_that_the_config_names_is_captured(tmp_path: Path, start: Start) -> None:
    guarded, other = start("wait:1"), start("wait:1")
    capture = ["/bin/sh", "-c", f"echo $1 >>{tmp_path}/captured", "capture", "{pid}"]
    budget = BUDGET | {"capture": {"burst": 3, "interval": 60}}
    service = pidfile_service(tmp_path, "a", guarded.pid, capture=capture, budget=budget)
    with helper(tmp_path, {"a": service}) as asked:
        refused = [asked.call("capture", "a", other).outcome, asked.call("capture", "a").outcome]
        captured = asked.call("capture", "a", guarded)
    with helper(tmp_path, {}) as asked:
        asked.serve_only(b=pidfile_service(tmp_path, "b", asked.pid, capture=capture))
        asked.peer.sendall(_request("b", asked.pid, "capture"))
        assert asked.reply().detail["refusal"] == "NeverATarget"
    assert (refused, captured.outcome) == ([Outcome.GONE] * 2, Outcome.DONE)
    assert (tmp_path / "captured").read_text() == f"{guarded.pid}\n"


def test_a_restart_for_a_process_of_somebody_else_is_none(tmp_path: Path, start: Start) -> None:
    guarded, other = start("wait:1"), start("wait:1")
    proof = tmp_path / "restarted"
    service = pidfile_service(tmp_path, "a", guarded.pid, restart_command=["/bin/touch", str(proof)])
    with helper(tmp_path, {"a": service}) as asked:
        assert asked.call("restart", "a", other).outcome is Outcome.GONE
    assert not proof.exists()


def test_another_life_of_the_process_is_gone(tmp_path: Path, start: Start) -> None:
    victim = start("wait:1")
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", victim.pid)}) as asked:
        asked.peer.sendall(_request("a", victim.pid).replace(b'"start_time": ', b'"start_time": 1'))
        assert asked.reply().outcome is Outcome.GONE
        victim.process.kill()
        victim.process.wait()
        asked.peer.sendall(b'{"id": 2, "verb": "nudge", "service": "a", "pid": %d, "start_time": 1}\n' % victim.pid)
        assert asked.reply().outcome is Outcome.GONE
    assert not asked.ledger.exists()


def test_a_nudge_of_no_process_is_gone(tmp_path: Path, start: Start) -> None:
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", start().pid)}) as asked:
        assert asked.call("nudge", "a").outcome is Outcome.GONE


def test_the_helper_is_never_its_own_target(tmp_path: Path) -> None:
    with helper(tmp_path, {}) as asked:
        asked.serve_only(a=pidfile_service(tmp_path, "a", asked.pid))
        asked.peer.sendall(_request("a", asked.pid))
        helper_reply = asked.reply()
        asked.serve_only(a=pidfile_service(tmp_path, "a", os.getpid()))
        asked.peer.sendall(_request("a", os.getpid()))
        brain_reply = asked.reply()
        asked.peer.sendall(_request("a", os.getpid(), "examine"))
        assert asked.reply().detail["refusal"] == "NeverATarget"
    refused = [reply.detail["skipped"][0] for reply in (helper_reply, brain_reply)]
    assert [(skipped["pid"], skipped["refusal"]) for skipped in refused] == [
        (asked.pid, "NeverATarget"),
        (os.getpid(), "NeverATarget"),
    ]


@pytest.mark.parametrize("unit", ["dbus.service", "init.scope", "epoll-watchdog.service", "systemd-journald.service"])
@pytest.mark.parametrize("asked_for", ["examine", "nudge", "capture", "restart"])
def test_what_the_host_stands_on_is_never_touched(tmp_path: Path, unit: str, asked_for: str) -> None:
    service = pidfile_service(tmp_path, "a", 1) | {"unit": unit, "pidfile": None}
    with helper(tmp_path, {"a": service}) as asked:
        reply = asked.call(asked_for, "a")
    assert (reply.outcome, reply.detail["refusal"]) == (Outcome.REFUSED, "NeverATarget")


def test_no_more_is_done_than_the_helper_s_own_budget_allows(tmp_path: Path, start: Start) -> None:
    victim = start("wait:1")
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", victim.pid)}) as asked:
        outcomes = [asked.call("nudge", "a", victim).outcome for _ in range(6)]
    assert outcomes == [Outcome.DONE] * 5 + [Outcome.REFUSED]
    until(lambda: victim.counts().eintrs == 5, "five nudges")


def test_the_budget_outlives_the_helper(tmp_path: Path, start: Start) -> None:
    victim = start("wait:1")
    budget = BUDGET | {"nudge": {"burst": 1, "interval": 60}}
    services = {"a": pidfile_service(tmp_path, "a", victim.pid, budget=budget)}
    with helper(tmp_path, services) as asked:
        assert asked.call("nudge", "a", victim).outcome is Outcome.DONE
    with helper(tmp_path, services) as asked:
        reply = asked.call("nudge", "a", victim)
    assert reply.outcome is Outcome.REFUSED
    assert reply.reason == "the helper's own budget is spent: 1 in 60 s"


@pytest.mark.parametrize(
    ("mode", "asked_for"),
    [("observe", "nudge"), ("observe", "restart"), ("observe", "capture"), ("nudge", "restart"), ("nudge", "capture")],
)
def test_what_the_mode_forbids_is_refused_whatever_the_brain_asks_for(
    tmp_path: Path, mode: str, asked_for: str
) -> None:
    """By the config as root reads it, with the real child."""
    config = tmp_path / "config.toml"
    service = f'[service.a]\nunit = "a.service"\nmode = "{mode}"\n[service.a.probe.tcp]\n'
    config.write_text(service + 'type = "tcp"\naddress = "127.0.0.1:80"\nsend = "ping"\n')
    loaded = load_with_child(str(config))
    proof = tmp_path / "acted"
    verbs = {asked_for: verb(proof.touch, rung=Rung(asked_for))}
    with helper(tmp_path, loaded["services"], verbs=verbs) as asked:
        reply = asked.call(asked_for, "a")
    assert reply.outcome is Outcome.REFUSED
    assert reply.reason == f'mode is "{mode}" in the config, which allows no {asked_for}'
    assert not proof.exists()


def test_in_mode_nudge_a_nudge_is_done_and_in_mode_observe_the_service_is_examined(
    tmp_path: Path, start: Start
) -> None:
    victim = start("wait:1")
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", victim.pid, mode="nudge")}) as asked:
        assert asked.call("nudge", "a", victim).outcome is Outcome.DONE
        asked.serve_only(a=pidfile_service(tmp_path, "a", victim.pid, mode="observe"))
        assert asked.call("examine", "a", victim).outcome is Outcome.DONE


def test_while_there_is_a_hold_every_act_is_refused_and_readings_go_on(tmp_path: Path, start: Start) -> None:
    victim = start("wait:1")
    proof = tmp_path / "acted"
    commands = {"restart_command": ["/bin/touch", str(proof)], "capture": ["/bin/touch", str(proof)]}
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", victim.pid, **commands)}) as asked:
        asked.hold.touch()
        refused = [asked.call(act, "a", victim) for act in ("nudge", "restart", "capture")]
        read = [asked.call(reading, "a", victim) for reading in ("hello", "find", "examine")]
        untouched = victim.counts().eintrs == 0 and not proof.exists() and not asked.ledger.exists()
        asked.hold.unlink()
        after = asked.call("nudge", "a", victim)
    assert {reply.outcome for reply in refused} == {Outcome.REFUSED}
    assert {reply.reason for reply in refused} == {f"{asked.hold} exists: no remedy until it is removed"}
    assert {reply.outcome for reply in read} == {Outcome.DONE}
    assert untouched
    assert after.outcome is Outcome.DONE


def test_the_hold_is_the_one_that_the_brain_looks_for() -> None:
    assert str(board.HOLD_FILE) == HOLD_FILE


def test_a_use_is_on_the_disk_before_the_act(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    verbs = {"nudge": verb(lambda: Done(Outcome.DONE, ledger.read_text(), {}))}
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", 1)}, verbs=verbs) as asked:
        assert len(json.loads(asked.call("nudge", "a").reason)["uses"]["a"]["nudge"]) == 1


# --- a ledger in trouble ----------------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with no room left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "epoll-watchdog-test", disk], check=True)
    try:
        with pytest.raises(OSError, match="No space left"):
            (disk / "ballast").write_bytes(b"x" * (1 << 20))
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_on_a_full_disk_a_nudge_runs_within_the_budget_and_a_restart_or_capture_is_refused(
    tmp_path: Path, full_disk: Path, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    victim = start("wait:1")
    service = pidfile_service(tmp_path, "a", victim.pid, restart_command=["/bin/true"], capture=["/bin/true"])
    with helper(tmp_path, {"a": service}, ledger=full_disk / "ledger.json") as asked:
        restart = asked.call("restart", "a", victim)
        capture = asked.call("capture", "a", victim)
        nudges = [asked.call("nudge", "a", victim).outcome for _ in range(6)]
    assert restart.outcome is Outcome.REFUSED
    assert "No space left on device" in restart.reason
    assert capture.outcome is Outcome.REFUSED
    assert capture.reason.startswith("the helper's ledger can't be written, so there is no capture: ")
    assert nudges == [Outcome.DONE] * 5 + [Outcome.REFUSED]
    assert capfd.readouterr().err.count("can't be written") == 1


def test_a_restart_refused_for_the_ledger_is_not_spent(tmp_path: Path, full_disk: Path, start: Start) -> None:
    victim = start("wait:1")
    service = pidfile_service(tmp_path, "a", victim.pid, restart_command=["/bin/true"])
    with helper(tmp_path, {"a": service}, ledger=full_disk / "ledger.json") as asked:
        refused = [asked.call("restart", "a", victim).outcome for _ in range(3)]
        (full_disk / "ballast").unlink()
        assert asked.call("restart", "a", victim).outcome is Outcome.DONE
    assert refused == [Outcome.REFUSED] * 3


def test_a_hung_disk_delays_a_nudge_by_a_second_and_no_more(tmp_path: Path, start: Start) -> None:
    """A FIFO in place of the draft: whoever opens it waits for ever."""
    victim = start("wait:1")
    os.mkfifo(tmp_path / "ledger.json.new")
    service = pidfile_service(tmp_path, "a", victim.pid, restart_command=["/bin/true"])
    with helper(tmp_path, {"a": service}) as asked:
        began = time.monotonic()
        assert asked.call("nudge", "a", victim).outcome is Outcome.DONE
        assert time.monotonic() - began < 3
        assert asked.call("restart", "a", victim).outcome is Outcome.REFUSED


@pytest.mark.parametrize("asked_for", ["nudge", "restart"])
def test_with_a_ledger_that_is_not_understood_nothing_is_done(tmp_path: Path, start: Start, asked_for: str) -> None:
    victim = start("wait:1")
    (tmp_path / "ledger.json").write_text("torn")
    service = pidfile_service(tmp_path, "a", victim.pid, restart_command=["/bin/true"])
    with helper(tmp_path, {"a": service}) as asked:
        reply = asked.call(asked_for, "a", victim)
        (tmp_path / "ledger.json").unlink()
        assert asked.call(asked_for, "a", victim).outcome is Outcome.DONE
    assert reply.outcome is Outcome.REFUSED
    assert "can't be understood" in reply.reason


# --- workers in trouble -----------------------------------------------------------------------------------------------


def test_several_services_are_served_at_once(tmp_path: Path) -> None:
    verbs = {"nudge": verb(done), "restart": verb(lambda: time.sleep(60), timeout=60.0, rung=Rung.RESTART)}
    services = {name: pidfile_service(tmp_path, name, 1) for name in ("slow", "quick")}
    with helper(tmp_path, services, verbs=verbs) as asked:
        asked.ask(1, "restart", "slow")
        asked.ask(2, "nudge", "quick")
        assert (asked.reply().id) == 2


def test_a_service_never_has_two_actions_at_once(tmp_path: Path) -> None:
    verbs = {"nudge": verb(done), "restart": verb(lambda: time.sleep(60), timeout=60.0, rung=Rung.RESTART)}
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", 1)}, verbs=verbs) as asked:
        asked.ask(1, "restart", "a")
        asked.ask(2, "nudge", "a")
        reply = asked.reply()
    assert (reply.id, reply.outcome) == (2, Outcome.REFUSED)
    assert reply.reason == "a restart of 'a' is under way"


def test_a_service_is_examined_while_it_is_restarted_but_never_twice_at_once(tmp_path: Path) -> None:
    verbs = {
        "examine": verb(slow, rung=None, reads=True),
        "restart": verb(lambda: time.sleep(60), timeout=60.0, rung=Rung.RESTART),
    }
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", 1)}, verbs=verbs) as asked:
        asked.ask(1, "restart", "a")
        asked.ask(2, "examine", "a")
        asked.ask(3, "examine", "a")
        replies = {reply.id: reply for reply in (asked.reply(), asked.reply())}
        assert asked.call("examine", "a").outcome is Outcome.DONE
    assert (replies[2].outcome, replies[3].outcome) == (Outcome.DONE, Outcome.REFUSED)
    assert replies[3].reason == "an examine of 'a' is under way"


def test_a_worker_that_overruns_is_killed_and_answered_for(tmp_path: Path) -> None:
    verbs = {"nudge": verb(lambda: time.sleep(60), timeout=0.1)}
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", 1)}, verbs=verbs) as asked:
        reply = asked.call("nudge", "a")
        until(lambda: not children(asked.pid), "the worker is gone")
    assert (reply.outcome, reply.reason) == (Outcome.TIMED_OUT, "no answer within 0.1 s: its worker was killed")


def test_a_worker_that_dies_is_answered_for(tmp_path: Path) -> None:
    verbs = {"nudge": verb(lambda: os.kill(os.getpid(), signal.SIGSEGV))}
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", 1)}, verbs=verbs) as asked:
        reply = asked.call("nudge", "a")
    assert (reply.outcome, reply.reason) == (Outcome.FAILED, "its worker ended without an answer (signal 11)")


def test_a_fault_of_ours_in_a_verb_is_told(tmp_path: Path) -> None:
    def fault() -> NoReturn:
        raise ZeroDivisionError("ours")

    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", 1)}, verbs={"nudge": verb(fault)}) as asked:
        reply = asked.call("nudge", "a")
    assert (reply.outcome, reply.reason) == (Outcome.FAILED, "ZeroDivisionError: ours")


def test_no_worker_outlives_a_helper_that_is_killed(tmp_path: Path) -> None:
    verbs = {"nudge": verb(lambda: time.sleep(60), timeout=60.0)}
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", 1)}, verbs=verbs) as asked:
        asked.ask(1, "nudge", "a")
        until(lambda: (tmp_path / "ledger.json").exists() and len(children(asked.pid)) == 1, "under way")
        [worker] = children(asked.pid)
        os.kill(asked.pid, signal.SIGKILL)
        until(lambda: not runs(int(worker)), "the worker has ended too")


def children(pid: int) -> list[str]:
    """The children of a process."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


# --- a peer in trouble ------------------------------------------------------------------------------------------------


def test_the_helper_ends_with_its_peer(tmp_path: Path) -> None:
    verbs = {"nudge": verb(lambda: time.sleep(60), timeout=60.0)}
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", 1)}, verbs=verbs) as asked:
        asked.ask(1, "nudge", "a")
        asked.peer.shutdown(socket.SHUT_RDWR)
        until(lambda: ") Z " in Path(f"/proc/{asked.pid}/stat").read_text(), "ended")


def test_a_mebibyte_on_one_line_is_refused_once_and_the_next_request_is_served(tmp_path: Path) -> None:
    with helper(tmp_path, {}) as asked:
        asked.peer.sendall(b"x" * (1 << 20) + b"\n")
        reply = asked.reply()
        assert asked.call("hello").outcome is Outcome.DONE
    assert (reply.id, reply.outcome) == (None, Outcome.REFUSED)
    assert reply.reason == f"not understood: the line is longer than {MAX_REQUEST} bytes"


def test_a_mebibyte_of_nonsense_is_answered_line_by_line(tmp_path: Path) -> None:
    with helper(tmp_path, {}) as asked:
        reasons = nonsense(asked, 1 << 13)
        before = resident_kib(asked.pid)  # a forked process first has to touch its pages
        reasons |= nonsense(asked, 1 << 16)
        assert asked.call("hello").outcome is Outcome.DONE
        assert resident_kib(asked.pid) < before + 2048
    assert reasons == {"not understood: the line is no JSON"}


def nonsense(asked: Helper, lines: int) -> set[str]:
    """Send so many lines of 16 bytes, and read what is made of them."""
    sending = threading.Thread(target=asked.peer.sendall, args=(b"nonsense 123456\n" * lines,))
    sending.start()
    reasons = {asked.reply().reason for _ in range(lines)}
    sending.join()
    return reasons


def test_a_peer_that_never_reads_its_replies_costs_no_memory(tmp_path: Path) -> None:
    with helper(tmp_path, {}) as asked:
        nonsense(asked, 1 << 13)
        before = resident_kib(asked.pid)
        asked.peer.setblocking(False)
        while select.select([], [asked.peer], [], 0.5)[1]:
            asked.peer.send(b"nonsense\n" * 1000)
        assert resident_kib(asked.pid) < before + 2048


def resident_kib(pid: int) -> int:
    """VmRSS."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def test_replies_of_a_mebibyte_cost_the_helper_no_memory(tmp_path: Path) -> None:
    big = Done(Outcome.DONE, "", {"text": "x" * (MAX_REPLY - 1000)})
    verbs = {"examine": verb(lambda: big, rung=None, reads=True)}
    with helper(tmp_path, {"a": pidfile_service(tmp_path, "a", 1)}, verbs=verbs) as asked:
        first = [asked.call("examine", "a") for _ in range(5)]  # malloc's arenas have their size by then
        assert {len(reply.detail["text"]) for reply in first} == {MAX_REPLY - 1000}
        before = resident_kib(asked.pid)
        replies = [asked.call("examine", "a") for _ in range(20)]
        assert resident_kib(asked.pid) < before + 2048  # one of them may just be on its way out, or not
    assert {reply.outcome for reply in replies} == {Outcome.DONE}


def test_an_unknown_verb_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with helper(tmp_path, {}) as asked:
        reply = asked.call("stall")
    known = "hello, find, examine, nudge, drill, capture, restart"
    assert reply.reason == f"not understood: unknown verb 'stall'; known: {known}"


def test_the_whole_surface_is_seven_verbs() -> None:
    assert {name: (verb.rung, verb.stored, verb.reads) for name, verb in VERBS.items()} == {
        "hello": (None, False, False),
        "find": (None, False, True),
        "examine": (None, False, True),
        "nudge": (Rung.NUDGE, False, False),
        "drill": (Rung.NUDGE, False, False),
        "capture": (Rung.CAPTURE, True, False),
        "restart": (Rung.RESTART, True, False),
    }
