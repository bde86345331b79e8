"""The verb `drill`: who may have what stalled, and that the stall ends, whatever becomes of whom."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.helper.activated import Activated, activated
from tests.helper.conftest import Start
from tests.helper.nobody import NOBODY, become_nobody
from tests.helper.serving import Helper
from tests.helper.victims import Victim, until
from watchdog.helper import drilling, ledger, worker
from watchdog.helper.drilling import Drill
from watchdog.helper.stall import parked, stall
from watchdog.helper.worker import Worker
from watchdog.model import Epoch, Outcome
from watchdog.target import start_time

LONG, SHORT = 60_000, 1_000  # ms


@pytest.fixture
def place() -> Iterator[Activated]:
    with activated() as made:
        yield made


@pytest.fixture
def victim(start: Start) -> Victim:
    return start("wait:3", "read:1")


@pytest.fixture
def asked(place: Activated, victim: Victim) -> Iterator[Helper]:
    """A helper that may drill the victim."""
    place.serve_only({"a": victim.pid}, keys="drill = true")
    place.start()
    with place.peer() as peer:
        yield peer


def drills(place: Activated) -> Path:
    return place.ledger.parent / drilling.KIND


def dark(victim: Victim) -> int:
    return len(parked(victim.epoch))


def test_its_threads_are_dark_until_somebody_nudges_them_and_nothing_is_spent(
    place: Activated, victim: Victim, asked: Helper
) -> None:
    reply = asked.call("drill", "a", victim, at_most=LONG)
    assert (reply.outcome, reply.detail["stalled"]) == (Outcome.DONE, 3)
    assert reply.detail["lives"] == [[victim.pid, victim.epoch.start_time]]
    until(lambda: dark(victim) == 3, "all are dark")
    assert [drill.service for drill in drilling.recorded(str(drills(place))).values()] == ["a"]
    assert asked.call("nudge", "a", victim).detail["nudged"] == 3
    until(lambda: victim.counts().eintrs == 3, "each thread returned, once")
    until(lambda: not list(drills(place).iterdir()), "the record's end")
    assert dark(victim) == 0
    assert len(json.loads(place.ledger.read_text())["uses"]["a"]["nudge"]) == 1


def test_after_its_time_the_helper_undoes_it(victim: Victim, asked: Helper, place: Activated) -> None:
    began = time.monotonic()
    asked.call("drill", "a", victim, at_most=SHORT)
    until(lambda: dark(victim) == 0, "the end of the drill")
    assert time.monotonic() - began >= SHORT / 1000
    until(lambda: victim.counts().eintrs == 3, "each thread returned, once")
    until(lambda: not list(drills(place).iterdir()), "the record's end")


def test_it_is_undone_though_who_asked_for_it_has_gone(place: Activated, victim: Victim) -> None:
    place.serve_only({"a": victim.pid}, keys="drill = true")
    helper = place.start("--idle", "0.1")
    with place.peer() as peer:
        peer.call("drill", "a", victim, at_most=3 * SHORT)
    until(lambda: dark(victim) == 3, "all are dark")
    assert helper.wait(timeout=20) == 0
    assert dark(victim) == 0


def test_a_killed_helper_is_followed_by_one_that_undoes_it(place: Activated, victim: Victim, asked: Helper) -> None:
    asked.call("drill", "a", victim, at_most=LONG)
    place.started[0].kill()
    place.started[0].wait()
    assert dark(victim) == 3
    thaw = [sys.executable, "-P", "-m", "watchdog.helper", "--thaw", "--ledger", str(place.ledger)]
    assert subprocess.run(thaw, timeout=30).returncode == 0
    assert dark(victim) == 0
    assert not list(drills(place).iterdir())


def test_a_killed_worker_is_followed_by_another(place: Activated, victim: Victim, asked: Helper) -> None:
    asked.call("drill", "a", victim, at_most=3 * SHORT)
    children = f"/proc/{place.started[0].pid}/task/{place.started[0].pid}/children"
    until(lambda: Path(children).read_text(), "the worker that sees to it")
    os.kill(int(Path(children).read_text().split()[0]), signal.SIGKILL)
    until(lambda: dark(victim) == 0, "the end of the drill")
    until(lambda: not list(drills(place).iterdir()), "the record's end")


@pytest.mark.parametrize(
    ("keys", "burst", "at_most", "reason"),
    [
        ("", 5, LONG, "the config allows no drill of 'a'"),
        ('drill = true\nmode = "observe"', 5, LONG, 'mode is "observe" in the config, which allows no nudge'),
        ("drill = true", 0, LONG, "the helper's own budget is spent: 0 in 3600 s"),
        ("drill = true", 5, 999, "a drill of 0.999 s is none"),
        ("drill = true", 5, 60_001, "a drill of 60.001 s is none"),
    ],
)
def test_it_is_refused_and_nothing_is_done(
    place: Activated, victim: Victim, keys: str, burst: int, at_most: int, reason: str
) -> None:
    place.serve_only({"a": victim.pid}, keys=keys, burst=burst)
    place.start()
    with place.peer() as peer:
        reply = peer.call("drill", "a", victim, at_most=at_most)
    assert (reply.outcome, reply.reason) == (Outcome.REFUSED, reason)
    assert dark(victim) == 0
    assert not drills(place).exists()


def test_nobody_but_root_may_ask_for_it(place: Activated, victim: Victim) -> None:
    place.serve_only({"a": victim.pid}, keys="drill = true")
    place.start("--peer-user", "nobody")
    epoch = {"pid": victim.pid, "start_time": victim.epoch.start_time}

    def ask() -> str:
        become_nobody()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20.0)
            connection.connect(str(place.path))
            request = {"id": 1, "verb": "drill", "service": "a", **epoch, "at_most": LONG}
            connection.sendall(json.dumps(request).encode() + b"\n")
            return connection.recv(65536).decode()

    place.path.chmod(0o666)
    reply = json.loads(worker.run(ask, 30.0).value)
    assert reply["reason"] == f"only root may ask for a drill, not uid {NOBODY}"
    assert dark(victim) == 0


def test_what_can_t_be_recorded_is_not_begun(place: Activated, victim: Victim, asked: Helper) -> None:
    drills(place).write_text("")  # in the place of the directory
    reply = asked.call("drill", "a", victim, at_most=LONG)
    assert (reply.outcome, reply.detail["refusal"]) == (Outcome.REFUSED, "NoPlace")
    assert dark(victim) == 0


def test_a_process_with_nothing_to_stall_leaves_no_record(place: Activated, start: Start) -> None:
    reader = start("read:2")
    place.serve_only({"a": reader.pid}, keys="drill = true")
    place.start()
    with place.peer() as peer:
        reply = peer.call("drill", "a", reader, at_most=LONG)
    assert reply.outcome is Outcome.REFUSED
    assert "there is nothing to stall" in reply.reason
    assert not list(drills(place).iterdir())


def of_this_boot(**told: object) -> Mapping[str, object]:
    return {"boot_id": ledger.now().boot_id, "service": "a", "begun": True, "until": 0.0, **told}


@pytest.mark.parametrize(
    "told",
    [
        of_this_boot(processes=[["self", 1]]),
        of_this_boot(processes=[[0, 1]]),
        of_this_boot(processes=4711),
        of_this_boot(processes=[], until="soon"),
        of_this_boot(processes=[], service=None),
        {"service": "a", "begun": True, "until": 0.0, "processes": []},
    ],
    ids=["no_number", "pid_0", "no_list", "no_time", "no_service", "no_boot"],
)
def test_a_record_that_tells_anything_else_is_removed(tmp_path: Path, told: Mapping[str, object]) -> None:
    (tmp_path / "4711-1").write_text(json.dumps(told))
    assert drilling.recorded(str(tmp_path)) == {}
    assert not list(tmp_path.iterdir())


def test_a_life_that_has_ended_and_one_that_has_its_pid_now_are_left_alone(tmp_path: Path, victim: Victim) -> None:
    later = [victim.pid, victim.epoch.start_time + 1]
    (tmp_path / "4711-1").write_text(json.dumps(of_this_boot(processes=[[1 << 22, 1], later])))
    assert drilling.see_to(str(tmp_path)) == {}
    assert victim.counts().eintrs == 0
    assert not list(tmp_path.iterdir())


def record(directory: Path, *processes: Epoch, begun: bool = True, lasts: float = 0.0) -> None:
    until = ledger.now().boottime + lasts
    drilling.record(str(directory), processes[0], Drill("a", begun, until, processes))


def test_a_drill_that_was_healed_is_not_nudged_again(tmp_path: Path, victim: Victim) -> None:
    """The worker that sees to drills finds nobody dark: it has nothing to do, though the time is over."""
    record(tmp_path, victim.epoch)
    assert worker.run(lambda: drilling.see_to(str(tmp_path)), 20.0).value == {}
    assert victim.counts().eintrs == 0
    assert not list(tmp_path.iterdir())


def test_a_drill_that_is_just_beginning_is_not_taken_for_one_that_is_over(tmp_path: Path, victim: Victim) -> None:
    record(tmp_path, victim.epoch, begun=False, lasts=60.0)
    seen = Worker(lambda: drilling.see_to(str(tmp_path)), 60.0)
    time.sleep(drilling.EMPTY_FOR + 1.0)  # nothing tells that it goes on
    assert len(list(tmp_path.iterdir())) == 1
    seen.overrun()
    assert seen.reap(10.0)


def test_a_record_that_is_never_over_is_not_for_ever(tmp_path: Path, victim: Victim) -> None:
    (tmp_path / "4711-1").write_text(json.dumps(of_this_boot(until=1e18, processes=[])))
    [drill] = drilling.recorded(str(tmp_path)).values()
    assert drill.until <= ledger.now().boottime + drilling.LONGEST


def test_a_zombie_in_the_record_keeps_nobody_else_dark(place: Activated, victim: Victim, asked: Helper) -> None:
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    asked.call("drill", "a", victim, at_most=LONG)
    place.started[0].kill()
    place.started[0].wait()
    [name] = [path.name for path in drills(place).iterdir()]
    lives = (Epoch(zombie.pid, start_time(zombie.pid)), victim.epoch)
    (drills(place) / name).unlink()
    record(drills(place), *lives, lasts=60.0)
    assert worker.run(lambda: drilling.see_to(str(drills(place)), at_once=True), 20.0).value == {}
    assert dark(victim) == 0
    zombie.wait()


def test_only_threads_that_a_drill_has_sent_away_are_woken(tmp_path: Path, victim: Victim, start: Start) -> None:
    other = start("wait:2")
    assert worker.run(lambda: len(stall((victim.epoch,)).reached), 20.0).value == 3
    record(tmp_path, victim.epoch, other.epoch)
    assert worker.run(lambda: drilling.see_to(str(tmp_path)), 20.0).value == {}
    assert (victim.counts().eintrs, other.counts().eintrs) == (3, 0)


def test_what_can_t_be_woken_is_tried_a_few_times_and_told_and_its_record_stays(tmp_path: Path, victim: Victim) -> None:
    assert worker.run(lambda: len(stall((victim.epoch,)).reached), 20.0).value == 3
    os.kill(victim.pid, signal.SIGSTOP)
    until(lambda: victim.states() == {"T"}, "a stopped victim")
    record(tmp_path, victim.epoch)
    assert worker.run(lambda: drilling.see_to(str(tmp_path), give_up_after=3.0), 20.0).value in ({}, {"a": ""})
    os.kill(victim.pid, signal.SIGCONT)
    assert worker.run(lambda: drilling.see_to(str(tmp_path)), 20.0).value == {}
    assert dark(victim) == 0


def test_there_is_one_drill_at_a_time_and_the_first_one_is_undone(
    place: Activated, victim: Victim, asked: Helper
) -> None:
    asked.call("drill", "a", victim, at_most=3 * SHORT)
    second = asked.call("drill", "a", victim, at_most=LONG)
    assert (second.outcome, second.detail["refusal"]) == (Outcome.REFUSED, "UnderWay")
    until(lambda: dark(victim) == 0, "the end of the first")


def test_a_drill_may_follow_one_that_was_healed_at_once(victim: Victim, asked: Helper) -> None:
    for _ in range(3):
        assert asked.call("drill", "a", victim, at_most=LONG).detail["stalled"] == 3
        assert asked.call("nudge", "a", victim).detail["nudged"] == 3
    assert dark(victim) == 0


BUSY = """
import select, threading

def wait():
    epoll = select.epoll()
    while True:
        epoll.poll()

for _ in range(2):
    threading.Thread(target=wait, daemon=True).start()
print("ready", flush=True)
while True:
    pass
"""


@pytest.fixture
def busy() -> Iterator[Victim]:
    """Two of its threads wait, and one never does: a drill lies in wait for that one in vain."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Victim(process)
        finally:
            process.kill()


def test_the_daemons_nudge_is_done_while_a_drill_lies_in_wait(place: Activated, asked: Helper, busy: Victim) -> None:
    place.serve_only({"a": busy.pid}, keys="drill = true")
    asked.ask(1, "drill", "a", busy, at_most=LONG)
    until(lambda: dark(busy) == 2, "the stall of those who sleep")
    asked.ask(2, "nudge", "a", busy)
    replies = {reply.id: reply for reply in (asked.reply(), asked.reply())}
    assert (replies[2].outcome, replies[2].detail["nudged"]) == (Outcome.DONE, 2)
    assert replies[1].detail["stalled"] == 2


def test_a_helper_of_a_command_that_is_killed_before_the_reply_ends_what_it_began(
    place: Activated, busy: Victim
) -> None:
    place.serve_only({"a": busy.pid}, keys="drill = true")
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-P", "-m", "watchdog.helper", "--config", str(place.config), "--ledger"]
        options = [str(place.ledger), "--fd", str(theirs.fileno())]
        helper = subprocess.Popen([*command, *options], pass_fds=(theirs.fileno(),))
    request = {"id": 1, "verb": "drill", "service": "a", "pid": busy.pid, "start_time": busy.epoch.start_time}
    ours.sendall(json.dumps({**request, "at_most": 3 * SHORT}).encode() + b"\n")
    until(lambda: dark(busy) == 2, "the stall of those who sleep")
    ours.close()
    assert helper.wait(timeout=30) == 0
    assert dark(busy) == 0
    assert not list(drills(place).iterdir())
