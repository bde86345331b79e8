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
from watchdog.helper.nudge import nudge
from watchdog.helper.stall import parked
from watchdog.model import Outcome

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
    assert dark(victim) == 3
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
        peer.call("drill", "a", victim, at_most=SHORT)
    assert dark(victim) == 3
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
    return {"boot_id": ledger.now().boot_id, "service": "a", "until": 0.0, **told}


@pytest.mark.parametrize(
    "told",
    [
        of_this_boot(processes=[["self", 1]]),
        of_this_boot(processes=[[0, 1]]),
        of_this_boot(processes=4711),
        of_this_boot(processes=[], until="soon"),
        of_this_boot(processes=[], service=None),
        {"service": "a", "until": 0.0, "processes": []},
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


def test_a_drill_that_was_healed_is_not_nudged_again(tmp_path: Path, victim: Victim) -> None:
    """The worker that sees to drills finds nobody dark: it has nothing to do, though the time is over."""
    drilling.record(str(tmp_path), "a", (victim.epoch,), 0.0)
    assert worker.run(lambda: drilling.see_to(str(tmp_path)), 20.0).value == {}
    assert victim.counts().eintrs == 0
    assert nudge((victim.epoch,)).outcome() is Outcome.DONE
