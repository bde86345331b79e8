"""`epoll-watchdog drill`, with the real daemon and helper: its story, its exit code, and that it always ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.guarding import ENVIRONMENT, FAST, FASTER, Guarding, demo_table, guarding, kinds
from tests.servers import until
from watchdog.demo import child
from watchdog.helper.stall import parked
from watchdog.model import Epoch
from watchdog.target import start_time

UNHEALED = 'drill = true\nladder = { epoll_stall = ["alert"], hung = ["alert"], lost_edge = ["alert"] }\n'


def argv(guard: Guarding, *words: str) -> list[str]:
    where = ("--url", f"http://{guard.daemon.address}", "--config", str(guard.config))
    return [sys.executable, "-P", "-m", "watchdog", "drill", *words, *where]


TAKES_SIGINT = ("env", "--default-signal=INT")  # whatever became of it in who runs the tests


def drill(guard: Guarding, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv(guard, *words), capture_output=True, text=True, timeout=100)


def dark(service: child.Service) -> int:
    return len(parked(Epoch(service.pid, start_time(service.pid))))


@contextmanager
def guarded(directory: Path, keys: str) -> Iterator[tuple[Guarding, child.Service]]:
    """The embedded service, healthy under a daemon that a busy host does not make blind."""
    with (
        child.service(directory) as service,
        guarding(directory, demo_table(service, keys).replace(FASTER, FAST), env=ENVIRONMENT) as guard,
    ):
        guard.wait_verdict("demo", "healthy")
        yield guard, service


def test_the_daemon_heals_it_and_the_story_is_told(tmp_path: Path) -> None:
    with guarded(tmp_path, "drill = true\n") as (guard, service):
        done = drill(guard, "demo")
        [incident] = guard.incidents("demo")
        assert dark(service) == 0
    assert done.returncode == 0, done.stdout + done.stderr
    assert [kind for kind in kinds(incident) if kind in ("nudged", "restarted")] == ["nudged"]
    assert (incident["verdict"], incident["certainty"]) == ("epoll_stall", "confirmed")
    told = [line.split()[2] for line in done.stdout.splitlines() if re.match(r" +\d+\.\d\d s  ", line)]
    assert told[:1] == ["dark"]
    assert told[-1:] == ["resolved"]
    assert {"opened", "nudged", "awake"} <= set(told)
    assert re.search(r"^Healed by the daemon in \d\.\d\d s, by a nudge; ", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert guard.letters_until("resolved")[0]["kind"] == "opened"


def test_json_tells_the_whole_story(tmp_path: Path) -> None:
    with guarded(tmp_path, "drill = true\n") as (guard, _):
        done = drill(guard, "demo", "--json")
        [incident] = guard.incidents("demo")
    told = json.loads(done.stdout)
    assert (done.returncode, told["threads"], told["healed_by"], told["incident"]) == (0, 1, "a nudge", incident["id"])
    assert min(told["woken_seconds"], told["resolved_seconds"]) > 0
    assert told["timeline"] == incident["timeline"]


@pytest.mark.parametrize(
    ("keys", "service", "reason"),
    [
        ("drill = true\n", "web", "the daemon guards no 'web'; it guards demo"),
        ("", "demo", "the helper refused it: the config allows no drill of 'demo'\n    add `drill = true`"),
        ('drill = true\nmode = "observe"\n', "demo", 'demo is in mode "observe": the daemon would not heal it'),
        ("drill = true\nbudget = { nudge = { burst = 0 } }\n", "demo", "no nudge of demo is left in its budget"),
    ],
    ids=["unknown", "not_allowed", "observe", "budget"],
)
def test_it_is_refused_where_nothing_would_heal_it(tmp_path: Path, keys: str, service: str, reason: str) -> None:
    with guarded(tmp_path, keys) as (guard, demo):
        done = drill(guard, service)
        assert dark(demo) == 0
    assert (done.returncode, reason in done.stderr) == (4, True), done.stderr


def test_it_is_refused_while_the_service_is_ill(tmp_path: Path) -> None:
    with guarded(tmp_path, UNHEALED) as (guard, service):
        service.lose_wakeup()
        guard.wait_record("demo", "opened")
        done = drill(guard, "demo")
        assert dark(service) == 0
    assert done.returncode == 4
    assert "has an open incident" in done.stderr


def test_what_the_daemon_does_not_heal_the_helper_undoes_and_the_exit_code_says_so(tmp_path: Path) -> None:
    with guarded(tmp_path, UNHEALED) as (guard, service):
        done = drill(guard, "demo", "--at-most", "1s")
        assert dark(service) == 0
        guard.wait_verdict("demo", "healthy")
    assert done.returncode == 1
    assert "The daemon did not heal it: the drill was over after " in done.stdout


def test_root_keeps_no_account_where_others_may_write(tmp_path: Path) -> None:
    with guarded(tmp_path, "drill = true\n") as (guard, service):
        os.chown(tmp_path / "state", 65534, 65534)
        done = drill(guard, "demo")
        assert dark(service) == 0
    assert done.returncode == 4
    assert "systemctl start epoll-watchdog-helper.socket" in done.stderr


@pytest.mark.parametrize(("sent", "at_most"), [(signal.SIGTERM, "60s"), (signal.SIGINT, "60s"), (signal.SIGKILL, "2s")])
def test_a_command_that_is_ended_leaves_nobody_dark(tmp_path: Path, sent: signal.Signals, at_most: str) -> None:
    with guarded(tmp_path, UNHEALED) as (guard, service):
        with subprocess.Popen(
            [*TAKES_SIGINT, *argv(guard, "demo", "--at-most", at_most)], stdout=subprocess.DEVNULL
        ) as running:
            until(lambda: dark(service) == 1, 20, "the drill")
            running.send_signal(sent)
        until(lambda: dark(service) == 0, 10, "the end of the drill")
        guard.wait_verdict("demo", "healthy")
        drills = guard.config.parent / "state/drilling"
        until(lambda: not list(drills.iterdir()), 10, "the record's end")


def test_a_daemon_that_ends_meanwhile_is_told_and_the_drill_undone(tmp_path: Path) -> None:
    with guarded(tmp_path, UNHEALED) as (guard, service):
        with subprocess.Popen(argv(guard, "demo", "--at-most", "60s"), stderr=subprocess.PIPE, text=True) as running:
            until(lambda: dark(service) == 1, 20, "the drill")
            guard.daemon.process.send_signal(signal.SIGTERM)
            guard.daemon.process.wait(20)
            _, told = running.communicate(timeout=20)
        assert dark(service) == 0
    assert running.returncode == 3
    assert "the daemon can't be asked" in told


@pytest.mark.parametrize("at_most", ["0.5s", "61s", "soon"])
def test_a_time_that_is_none_is_wrong_usage(at_most: str) -> None:
    command = [sys.executable, "-P", "-m", "watchdog", "drill", "demo", "--at-most", at_most]
    assert subprocess.run(command, capture_output=True, timeout=20).returncode == 2
