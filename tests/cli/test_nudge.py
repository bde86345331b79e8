"""`epoll-watchdog nudge`: what it does, says and ends with, run as a command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helper.victims import build, running, until


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The victim."""
    return build(tmp_path_factory.mktemp("victim"))


def nudge(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "watchdog", "nudge", *arguments], capture_output=True, text=True, timeout=30
    )


def test_every_nudged_thread_is_shown(program: Path) -> None:
    with running(program, "wait:2", "read:1") as victim:
        done = nudge(str(victim.pid))
        until(lambda: victim.counts().eintrs == 2, "each thread returned")
    heading, first, second, summary = done.stdout.splitlines()
    assert heading.split() == ["PID", "THREAD", "NAME", "WAITED", "IN", "STOPPED", "FOR"]
    assert first.split()[0] == second.split()[0] == str(victim.pid)
    assert summary.startswith("2 threads nudged, longest stop ")
    assert done.returncode == 0


def test_json_tells_the_same(program: Path) -> None:
    with running(program, "wait:1") as victim:
        told = json.loads(nudge("--json", str(victim.pid)).stdout)
    assert (told["outcome"], told["nudged"], len(told["threads"])) == ("done", 1, 1)
    assert 0 < told["longest_stop_seconds"] < told["took_seconds"]


def test_nothing_to_nudge_is_told(program: Path) -> None:
    with running(program, "read:1") as victim:
        done = nudge(str(victim.pid))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "none of 2 threads waits in epoll_wait: there is nothing to nudge\n"


def test_a_refusal_is_told_by_name_with_what_to_do() -> None:
    done = nudge("1")
    assert done.returncode == 1
    refusal, hint = done.stderr.splitlines()
    assert refusal == "refused: NeverATarget: process 1 is never touched"
    assert "PID 1" in hint


def test_a_pid_that_nobody_has_is_told() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    done = nudge("--json", str(process.pid))
    assert done.returncode == 1
    assert [skipped["refusal"] for skipped in json.loads(done.stdout)["skipped"]] == ["Gone"]


def test_a_unit_that_can_t_be_asked_for_is_told() -> None:
    """No bus, or no such unit: which of the two is the host's."""
    done = nudge("epoll-watchdog-no-such-unit")
    assert done.returncode == 1
    assert "UnitUnknown" in done.stderr
    assert "systemctl status" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("0",), ("",), ("--", "-5"), ("a/b",), ("1", "2"), ("--force", "1")])
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    done = nudge(*arguments)
    assert done.returncode == 2
    assert "Usage:" in done.stderr


def test_help_teaches() -> None:
    done = nudge("--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("EINTR", "PID|UNIT", "Exit status", "Examples"))
