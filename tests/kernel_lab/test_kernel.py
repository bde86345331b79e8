"""The lab's kernel loses the wake-ups that it is told to lose, and no others; what it lost, a nudge brings back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.kernel_lab import guest, kernel, uml
from tests.kernel_lab.guest import Seen
from watchdog.proof import EPOLL_SLEEP

BOOT_AND_ALL = 60.0  # s; it takes about five


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the guest has written what it saw; the kernel boots once for it all."""
    if lacking := kernel.missing():
        pytest.skip(f"needs {lacking}")
    base = tmp_path_factory.mktemp("kernel")
    init = [f"{kernel.REPOSITORY}/.venv/bin/python", guest.__file__, str(kernel.REPOSITORY), str(base)]
    with uml.booted(base, init) as machine:
        machine.wait(BOOT_AND_ALL)
    assert (base / "returned.json").exists(), (base / "console").read_text(errors="replace")[-4000:]
    return base


@pytest.fixture(scope="module")
def seen(told: Path) -> Mapping[str, Seen]:
    """What became of each victim's event."""
    return {name: Seen(**each) for name, each in json.loads((told / "seen.json").read_text()).items()}


def test_an_event_whose_wake_up_is_lost_stays_unanswered(seen: Mapping[str, Seen]) -> None:
    victim = seen["without time-out"]
    assert (victim.answered, victim.lost, victim.left) == (False, 1, 0)


def test_the_thread_sleeps_on_in_epoll_wait(seen: Mapping[str, Seen]) -> None:
    victim = seen["without time-out"]
    call, _epfd, _events, _maxevents, timeout, *_rest = victim.call.split()
    assert (call, timeout) == ("232", "0xffffffff")
    assert victim.wchan in EPOLL_SLEEP


def test_a_nudge_wakes_it_and_the_event_is_there(seen: Mapping[str, Seen]) -> None:
    victim = seen["without time-out"]
    assert victim.answered_after_nudge, victim.nudge


def test_a_process_of_another_name_loses_nothing(seen: Mapping[str, Seen]) -> None:
    assert seen["of another name"] == Seen(answered=True, lost=0, left=1)


def test_a_wait_with_a_time_out_loses_nothing(seen: Mapping[str, Seen]) -> None:
    assert seen["with time-out"] == Seen(answered=True, lost=0, left=1)


def test_a_nudged_wait_returns_its_events_and_eintr_only_where_there_are_none(told: Path) -> None:
    assert json.loads((told / "returned.json").read_text()) == {"ready": "events", "nothing": "EINTR"}
