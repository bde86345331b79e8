"""Which process a service has that is no unit: how often it is looked for, and what is told where it can't be known."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from watchdog.config import Service
from watchdog.model import Epoch, Policy
from watchdog.reading import Lack
from watchdog.target import CantLook, Match, Target, start_time
from watchdog.whereabouts import Whereabouts, nobody_finds

WEB = Target(process=Match(exe="/usr/sbin/web"))


@dataclass(slots=True)
class Finder:
    """A helper that finds what it is told to, and is asked so often."""

    found: Epoch | Lack | None = None
    asked: list[str] = field(default_factory=list)

    async def find(self, service: str) -> Epoch | Lack | None:
        self.asked.append(service)
        return self.found


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "300"]) as sleeper:
        yield sleeper
        sleeper.kill()


@pytest.fixture
def finder() -> Finder:
    return Finder()


@pytest.fixture
def whereabouts(finder: Finder) -> Iterator[Whereabouts]:
    made = Whereabouts(_service(WEB), finder.find)
    yield made
    made.close()


def _service(target: Target) -> Service:
    return Service(name="web", target=target, policy=Policy(), labels={}, annotations={}, probes={})


async def test_what_was_found_is_not_looked_for_again_while_it_lives(
    whereabouts: Whereabouts, finder: Finder, process: subprocess.Popen[bytes]
) -> None:
    finder.found = Epoch(process.pid, start_time(process.pid))
    assert [await whereabouts.epoch(), await whereabouts.epoch()] == [finder.found] * 2
    assert finder.asked == ["web"]

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - it is killed
    finder.found = None
    assert [await whereabouts.epoch(), await whereabouts.epoch()] == [None] * 2
    assert finder.asked == ["web"] * 3  # once a round


async def test_why_it_can_t_be_known_is_told(whereabouts: Whereabouts, finder: Finder) -> None:
    finder.found = Lack("the service's processes", "2 processes run /usr/sbin/web: 7, 8")
    with pytest.raises(CantLook, match="2 processes run /usr/sbin/web: 7, 8"):
        await whereabouts.epoch()


async def test_what_ended_before_it_could_be_held_is_not_held(whereabouts: Whereabouts, finder: Finder) -> None:
    finder.found = Epoch(os.getpid(), start_time(os.getpid()) - 1)
    await whereabouts.epoch()
    await whereabouts.epoch()
    assert len(finder.asked) == 2


async def test_without_a_helper_nobody_can_look() -> None:
    with pytest.raises(CantLook, match="there is no helper that could look for it"):
        await Whereabouts(_service(WEB), nobody_finds).epoch()


async def test_a_cgroup_is_read_without_the_helper(finder: Finder) -> None:
    assert await Whereabouts(_service(Target(cgroup="/no-such.slice/*")), finder.find).epoch() is None
    assert finder.asked == []


async def test_no_descriptor_is_left_behind(
    whereabouts: Whereabouts, finder: Finder, process: subprocess.Popen[bytes]
) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - iterdir() holds one open
    finder.found = Epoch(process.pid, start_time(process.pid))
    await whereabouts.epoch()
    assert len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208
    whereabouts.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
