"""The nudge by its methods, and the records of what is frozen: what needs no systemd. The rest: tests/systemd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evidence.test_freezer import hierarchy
from tests.helper.conftest import Start
from tests.helper.nobody import become_nobody
from tests.helper.victims import Victim, until
from watchdog.helper import frozen, ledger, worker
from watchdog.helper.freeze import sound
from watchdog.helper.methods import nudge_by_methods
from watchdog.model import Method
from watchdog.target import Nudging, Target

BOTH = (Method.PTRACE, Method.FREEZE)


def nudged(target: Target, victim: Victim, directory: str, become: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """What the helper does, in a worker that may become somebody else first."""

    def work() -> dict[str, Any]:
        become()
        done = nudge_by_methods(target, victim.epoch, frozenset(), directory)
        return {"outcome": done.outcome, "reason": done.reason, **done.detail}

    ending = worker.run(work, 5.0)
    assert not ending.error
    value: dict[str, Any] = ending.value
    return value


def by(*methods: Method, unit: str | None = None) -> Target:
    """A service of one process, nudged by these methods; with a unit, of that one."""
    return Target(unit=unit, nudge=Nudging(methods=methods))


# --- the order of the methods -----------------------------------------------------------------------------------------


def test_where_the_first_method_does_it_the_second_is_not_tried(start: Start, tmp_path: Path) -> None:
    victim = start("wait:2")
    told = nudged(by(*BOTH), victim, str(tmp_path))
    assert (told["outcome"], told["nudged"]) == ("done", 2)
    [method] = told["methods"]
    assert method == {
        "method": "ptrace",
        "outcome": "done",
        "reason": told["reason"],
        "stopped_seconds": told["longest_stop_seconds"],
    }
    until(lambda: victim.counts().eintrs == 2, "both answer")


def test_where_there_is_nothing_to_nudge_nothing_is_frozen_for_it(start: Start, tmp_path: Path) -> None:
    told = nudged(by(*BOTH), start("read:1"), str(tmp_path))
    assert [(each["method"], each["outcome"]) for each in told["methods"]] == [("ptrace", "refused")]
    assert told["reason"] == "none of 2 threads waits in epoll_wait: there is nothing to nudge"


def test_where_all_are_refused_it_is_the_first_ones_outcome_with_the_reasons_of_all(
    start: Start, tmp_path: Path
) -> None:
    victim = start("wait:2")
    told = nudged(by(*BOTH), victim, str(tmp_path), become_nobody)
    assert told["outcome"] == "refused"
    assert told["reason"].startswith(f"ptrace: process {victim.pid}: it runs as uid 0")
    assert told["reason"].endswith("; freeze: it has no unit, and only systemd's units are frozen")
    assert [each["refusal"] for each in told["methods"]] == ["NotPermitted", "CannotFreeze"]
    assert [each["refusal"] for each in told["skipped"]] == ["NotPermitted"]
    assert told["nudged"] == 0


def test_what_can_t_be_frozen_is_nudged_by_ptrace_if_that_comes_second(start: Start, tmp_path: Path) -> None:
    told = nudged(by(Method.FREEZE, Method.PTRACE), start("wait:1"), str(tmp_path))
    assert [(each["method"], each["outcome"]) for each in told["methods"]] == [
        ("freeze", "refused"),
        ("ptrace", "done"),
    ]
    assert (told["outcome"], told["nudged"], len(told["threads"])) == ("done", 1, 1)
    assert told["reason"].startswith("1 thread nudged")


def test_without_a_place_for_its_record_there_is_no_freeze(start: Start) -> None:
    told = nudged(by(Method.FREEZE), start("wait:1"), "")
    assert told["reason"] == "there is no place to record a freeze"


def test_beside_cgroup_v1_nothing_is_frozen(start: Start, tmp_path: Path) -> None:
    victim = start("wait:1")
    above = hierarchy("cgroup2", "rw")
    cgroup = above / f"epoll-watchdog-{os.getpid()}-x.service"
    home = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    cgroup.mkdir()
    try:
        (cgroup / "cgroup.procs").write_text(str(victim.pid))
        told = nudged(by(Method.FREEZE, unit=cgroup.name), victim, str(tmp_path))
    finally:
        (above / home.lstrip("/") / "cgroup.procs").write_text(str(victim.pid))
        until(lambda: not (cgroup / "cgroup.procs").read_text(), "nobody left in it")
        cgroup.rmdir()
    assert (told["outcome"], told["reason"]) == ("refused", "this host has cgroup v1, where systemd can't freeze")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("252.39-1~deb12u2", True),
        ("252.38-1~deb12u1", False),
        ("252-51.el9", False),
        ("253", True),
        ("255.4-1ubuntu8", True),
        ("256.17", False),
        ("257.8-1~deb13u2", False),
        ("v257.9", True),
        ("258~rc2", True),
        ("249.11-0ubuntu3", False),
        ("", False),
    ],
)
def test_a_systemd_that_may_crash_or_not_thaw_is_not_asked(text: str, asked: bool) -> None:
    assert sound(text) is asked


# --- the records ------------------------------------------------------------------------------------------------------


@given(st.text(max_size=300) | st.from_regex(r"[\w./\\@:-]*\.service"))
def test_what_passes_for_a_service_is_a_file_in_the_directory_and_no_other(name: str) -> None:
    if frozen.is_service(name):
        assert os.path.normpath(os.path.join("/records", name)) == f"/records/{name}"  # noqa: PTH118
        assert name.isascii()
        assert name.isprintable()
        assert len(name) <= 255


@pytest.mark.parametrize(
    "name", ["a.service", "redis-server.service", "user@1000.service", r"dev-sda\x2d1.service", "A_b:c.service"]
)
def test_names_of_services_pass(name: str) -> None:
    assert frozen.is_service(name)


@pytest.mark.parametrize(
    "name", ["", ".service", "a.timer", "a.service.new", "../a.service", "a b.service", "a.service\n", "é.service"]
)
def test_other_names_do_not_pass(name: str, tmp_path: Path) -> None:
    assert not frozen.is_service(name)
    with pytest.raises(ValueError, match="no service has the name"):
        frozen.record(str(tmp_path), name)
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_there_until_it_is_forgotten(tmp_path: Path) -> None:
    directory = str(tmp_path / "frozen")
    frozen.forget(directory, "a.service")
    assert frozen.recorded(directory) == []
    frozen.record(directory, "b.service")
    frozen.record(directory, "a.service")
    frozen.record(directory, "a.service")
    assert frozen.recorded(directory) == ["a.service", "b.service"]
    assert os.stat(directory).st_mode & 0o777 == 0o700  # noqa: PTH116
    frozen.forget(directory, "a.service")
    assert frozen.recorded(directory) == ["b.service"]


def test_what_was_frozen_before_the_boot_is_not_frozen_now(tmp_path: Path) -> None:
    (tmp_path / "a.service").write_text('{"boot_id": "an earlier one", "wall": ""}')
    assert frozen.recorded(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "nonsense", "[]", "{}", "[" * 4000, "\x00"])
def test_a_record_that_can_t_be_read_counts(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.service").write_text(content)
    assert frozen.recorded(str(tmp_path)) == ["a.service"]


def test_neither_a_link_nor_a_pipe_makes_us_read_elsewhere_or_wait(tmp_path: Path) -> None:
    (tmp_path / "other").write_text(json.dumps({"boot_id": "an earlier one"}))
    (tmp_path / "link.service").symlink_to("other")
    os.mkfifo(tmp_path / "pipe.service")
    assert frozen.recorded(str(tmp_path)) == ["link.service", "pipe.service"]


def test_the_records_are_beside_the_ledger() -> None:
    assert frozen.beside("/var/lib/epoll-watchdog-helper/ledger.json") == "/var/lib/epoll-watchdog-helper/frozen"


# --- python -m watchdog.helper --thaw ---------------------------------------------------------------------------------


def thaw(place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What systemd runs when the helper has ended."""
    words = [sys.executable, "-P", "-m", "watchdog.helper", "--thaw", "--ledger", str(place / "ledger.json")]
    return subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30)


def test_where_nothing_was_frozen_there_is_nothing_to_do(tmp_path: Path) -> None:
    done = thaw(tmp_path, DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nowhere")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_can_t_be_thawed_is_told_and_keeps_its_record(tmp_path: Path) -> None:
    frozen.record(str(tmp_path / "frozen"), "a.service")
    done = thaw(tmp_path, DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("epoll-watchdog helper: a.service may be frozen by us still: cannot connect to the ")
    assert frozen.recorded(str(tmp_path / "frozen")) == ["a.service"]
    assert ledger.now().boot_id in (tmp_path / "frozen/a.service").read_text()


def test_dbus_is_loaded_before_the_time_runs_that_systemd_has_to_answer() -> None:
    code = """if True:
        import sys
        from watchdog.helper.freeze import _connection
        before = "dbus_fast.aio" in sys.modules
        with _connection("unix:path=/nowhere"):
            print(before, "dbus_fast.aio" in sys.modules)
    """
    told = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "True"]
