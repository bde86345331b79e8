"""Processes that real cgroups froze, of both kinds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helper.conftest import Start
from tests.helper.victims import Victim, until
from watchdog.evidence import freezer
from watchdog.evidence.procfs import sample


def hierarchy(kind: str, option: str) -> Path:
    """Where it is mounted."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next(Path(at) for _, at, fs, options, *_ in mounts if fs == kind and option in options.split(","))


@contextlib.contextmanager
def frozen(victim: Victim, above: Path, file: str, freeze: str, thaw: str, inside: str) -> Iterator[None]:
    """The victim in the cgroup `inside`, below one of ours that is frozen by writing to `file`."""
    ours = above / f"epoll-watchdog-test-{os.getpid()}"
    (ours / inside).mkdir(parents=True)
    home = (above / "cgroup.procs").open("w")
    try:
        (ours / inside / "cgroup.procs").write_text(str(victim.pid))
        (ours / file).write_text(freeze)
        yield
    finally:
        (ours / file).write_text(thaw)
        with home:
            home.write(str(victim.pid))
        until(lambda: not (ours / inside / "cgroup.procs").read_text(), "nobody left in it")
        for directory, _, _ in os.walk(ours, topdown=False):
            Path(directory).rmdir()


@pytest.mark.parametrize("inside", [".", "below"])
def test_a_process_frozen_by_cgroup_v2_looks_asleep_and_is_told_frozen(start: Start, inside: str) -> None:
    victim = start("wait:2")
    with frozen(victim, hierarchy("cgroup2", "rw"), "cgroup.freeze", "1", "0", inside):
        until(lambda: sample([victim.epoch]).processes[0].frozen, "frozen")
        read = sample([victim.epoch])
    assert {thread.state for thread in read.threads} == {"S"}
    assert [thread.call for thread in read.threads if thread.tid != victim.pid] == ["epoll_wait"] * 2
    assert {thread.wchan for thread in read.threads}.isdisjoint({"ep_poll", "do_epoll_wait"})
    assert not sample([victim.epoch]).processes[0].frozen


@pytest.mark.parametrize("inside", [".", "below"])
def test_a_process_frozen_by_cgroup_v1_is_told_frozen(start: Start, inside: str) -> None:
    victim = start("wait:2")
    with frozen(victim, hierarchy("cgroup", "freezer"), "freezer.state", "FROZEN", "THAWED", inside):
        until(lambda: victim.states() == {"D"}, "frozen")
        assert sample([victim.epoch]).processes[0].frozen
    assert not sample([victim.epoch]).processes[0].frozen


def test_where_no_hierarchy_is_mounted_that_is_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = start("wait:1")
    monkeypatch.setattr(freezer, "cgroup_mounts", lambda _controller: iter(()))
    [lack] = sample([victim.epoch]).lacks
    assert lack.what == f"freezing of process {victim.pid}"
    assert lack.reason.startswith("no hierarchy of cgroups that can freeze it is mounted here: mount")
