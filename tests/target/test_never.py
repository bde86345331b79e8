"""What is never touched, by each way of naming it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.target.sleepers import inside
from watchdog.model import Epoch
from watchdog.target import (
    NeverATarget,
    Target,
    check_allowed,
    check_process,
    is_never_touched,
    pidfile_epoch,
    processes,
    start_time,
    untouchable_part,
)

NEVER = [
    *("init.scope", "dbus.service", "dbus-broker.service", "epoll-watchdog.service", "epoll-watchdog-helper.service"),
    *("systemd-logind.service", "systemd-journald@web.service", "systemd-udevd.service", "systemd-new.service"),
]
GUARDED = [
    *("web.service", "systemd-exporter.service", "systemd-nspawn@web.service", "my-dbus.service", "dbus-web.service"),
    "epoll-watchdog-restart-web-0a1b.service",  # what a restart command has started lives there
]


@pytest.mark.parametrize("unit", NEVER)
def test_what_the_host_stands_on_is_no_target(unit: str) -> None:
    for named in (Target(unit=unit), Target(cgroup=f"/system.slice/{unit}"), Target(cgroup=f"/a/{unit}/b")):
        with pytest.raises(NeverATarget, match="never touched"):
            check_allowed(named)


@pytest.mark.parametrize("unit", GUARDED)
def test_what_is_only_called_like_it_is_one(unit: str) -> None:
    check_allowed(Target(unit=unit))
    check_allowed(Target(cgroup=f"/system.slice/{unit}"))


def test_process_1_and_kernel_threads_are_never_touched(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    for pid, why in ((1, "process 1 is never touched"), (2, "process 2 is a kernel thread")):
        pidfile.write_text(str(pid))
        with pytest.raises(NeverATarget, match=why):
            check_process(pid)
        with pytest.raises(NeverATarget, match=why):
            pidfile_epoch(str(pidfile))
        with pytest.raises(NeverATarget, match=why):
            processes(Target(pidfile=str(pidfile)), Epoch(pid, start_time(pid)))


@pytest.mark.parametrize("below", ["", "/udev"])
def test_a_pidfile_is_no_way_to_it(cgroup: Path, tmp_path: Path, below: str) -> None:
    pidfile = tmp_path / "pid"
    with inside(cgroup / f"dbus.service{below}") as pid:
        pidfile.write_text(str(pid))
        with pytest.raises(NeverATarget, match=f"process {pid} is of dbus.service, which is never touched"):
            pidfile_epoch(str(pidfile))


def test_a_unit_that_holds_it_is_no_way_to_it(cgroup: Path) -> None:
    """A container with a systemd of its own, which is one unit here."""
    with inside(cgroup / "box.service") as main, inside(cgroup / "box.service/init.scope"):
        found = Epoch(main, start_time(main))
        with pytest.raises(NeverATarget, match=r"is of init\.scope"):
            processes(Target(unit="box.service"), found)


PARTS = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.lists(PARTS, max_size=4), st.sampled_from(NEVER), st.lists(PARTS, max_size=4))
def test_it_is_seen_wherever_in_a_path_it_stands(before: list[str], name: str, after: list[str]) -> None:
    assert is_never_touched(untouchable_part("/".join(["", *before, name, *after])))


@given(st.lists(PARTS, max_size=6))
def test_no_path_is_refused_for_anything_else(parts: list[str]) -> None:
    found = untouchable_part("/".join(["", *parts]))
    assert (found in parts and is_never_touched(found)) or (not found and not any(map(is_never_touched, parts)))
