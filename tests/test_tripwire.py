from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.evidence.listeners import client, listen
from tests.examining import Logged, Shifted, inode
from watchdog.evidence.sockdiag import Listening
from watchdog.model import Certainty, Incident, Policy, State, Verdict
from watchdog.reading import Queue, Queues
from watchdog.tripwire import Tripwire

POLICY = Policy(interval=5.0, interval_suspect=0.5)


@dataclass
class Guarded:
    """Stands in for a guard: a service with these listeners, and how often somebody tripped."""

    listeners: frozenset[int]
    policy: Policy = POLICY
    state: State = field(default_factory=State)
    abroad: int = 0
    trips: int = 0

    @property
    def service(self) -> Guarded:
        return self

    def queues(self, listening: Listening) -> Queues:
        return Queues(0.0, tuple(queue for queue in listening.queues if queue.inode in self.listeners))

    def trip(self) -> None:
        self.trips += 1


@dataclass
class Wired:
    """A tripwire over one guard, with real queues."""

    wire: Tripwire
    guards: dict[str, Guarded]
    guard: Guarded
    time: Shifted
    told: list[tuple[str, tuple[Queue, ...]]]
    asked: list[str]

    def read(self, times: int = 1, every: float = 0.25) -> int:
        """Read so often; how many trips there were."""
        before = self.guard.trips
        for _ in range(times):
            self.wire.read()
            self.time.by += every
        return self.guard.trips - before


@pytest.fixture
def crowd() -> Iterator[contextlib.ExitStack]:
    """Who listens and who waits, until the end of the test."""
    with contextlib.ExitStack() as held:
        yield held


@pytest.fixture
def wired(crowd: contextlib.ExitStack, tmp_path: Path) -> Callable[..., Wired]:
    """A tripwire over a service of which so many clients wait at each listener."""

    def make(*waiting: int, kind: str = "v4", policy: Policy = POLICY) -> Wired:
        inodes = set()
        for number in waiting:
            listener = crowd.enter_context(listen(kind, tmp_path, 16))
            inodes.add(inode(listener))
            for _ in range(number):
                crowd.enter_context(client(listener))
        guard, time = Guarded(frozenset(inodes), policy), Shifted()
        told: list[tuple[str, tuple[Queue, ...]]] = []
        asked: list[str] = []
        diag = crowd.enter_context(contextlib.closing(Logged(asked)))
        guards = {"web": guard}

        def tell(name: str, queues: Queues) -> None:
            told.append((name, queues.queues))

        wire = Tripwire(guards, diag, time.clock, tell)  # type: ignore[arg-type]
        return Wired(wire, guards, guard, time, told, asked)

    return make


@pytest.mark.parametrize("kind", ["v4", "v6", "unix"])
def test_a_queue_that_is_filled_in_two_readings_trips(kind: str, wired: Callable[..., Wired]) -> None:
    web = wired(1, kind=kind)
    assert [web.read(), web.read()] == [0, 1]


def test_an_idle_listener_never_trips(wired: Callable[..., Wired]) -> None:
    assert wired(0, 0).read(times=40) == 0


def test_a_queue_that_is_filled_now_and_then_is_not_one_that_stays(
    wired: Callable[..., Wired], crowd: contextlib.ExitStack, tmp_path: Path
) -> None:
    web = wired()
    first, second = (crowd.enter_context(listen("v4", tmp_path)) for _ in range(2))
    web.guard.listeners = frozenset({inode(first), inode(second)})
    trips = []
    for listener in (first, second, first, second):
        with client(listener):
            trips.append(web.read())
            listener.accept()[0].close()
    assert trips == [0, 0, 0, 0]


def test_of_another_service_no_queue_trips(wired: Callable[..., Wired]) -> None:
    web = wired(1)
    web.guard.listeners = frozenset()
    assert web.read(times=4) == 0


def test_a_service_that_lives_with_filled_queues_is_looked_at_ever_more_seldom(wired: Callable[..., Wired]) -> None:
    web = wired(1)
    at = [number * 0.25 for number in range(240) if web.read()]
    pauses = [after - before for before, after in itertools.pairwise(at)]
    assert pauses[:5] == [0.5, 1.0, 2.0, 4.0, 5.0]
    assert set(pauses[5:]) == {5.0}


def test_it_is_looked_at_soon_again_after_a_quiet_time(
    wired: Callable[..., Wired], crowd: contextlib.ExitStack
) -> None:
    web = wired(1)
    assert web.read(times=60) > 3
    its, web.guard.listeners = web.guard.listeners, frozenset()
    web.time.by += 60
    web.read(times=2)
    web.guard.listeners = its
    assert web.read(times=4) == 2


def test_the_pause_is_never_longer_than_the_interval(wired: Callable[..., Wired]) -> None:
    web = wired(1, policy=Policy(interval=0.5, interval_suspect=0.5))
    assert web.read(times=21) == 10


def test_an_open_incident_is_left_alone(wired: Callable[..., Wired]) -> None:
    web = wired(1)
    incident = Incident(id="i", since=0, opened=0, verdict=Verdict.HUNG, certainty=Certainty.SUSPECTED)
    web.guard.state = State(incident=incident)
    assert web.read(times=8) == 0
    web.guard.state = replace(web.guard.state, incident=None)
    assert web.read() == 1


def test_each_reading_is_told_and_asks_the_kernel_once_for_all_services(wired: Callable[..., Wired]) -> None:
    web = wired(0, 2)
    web.read(times=3)
    assert web.asked == ["queues"] * 3
    assert [(name, sorted(queue.length for queue in queues)) for name, queues in web.told] == [("web", [0, 2])] * 3


async def test_it_reads_in_each_period_until_it_is_cancelled(wired: Callable[..., Wired]) -> None:
    web, periods = wired(1), iter([0.0, 0.0, 0.0])
    ended = asyncio.Event()

    def period() -> float:
        left = next(periods, None)
        if left is None:
            ended.set()
        return 3600.0 if left is None else left

    watching = asyncio.create_task(web.wire.watch(period))
    await asyncio.wait_for(ended.wait(), 5)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert (len(web.asked), web.guard.trips) == (3, 1)


def test_a_service_in_another_network_namespace_is_read_once_a_second(wired: Callable[..., Wired]) -> None:
    web = wired(1)
    web.guard.abroad = 4711
    assert web.read(times=4) == 0
    assert len(web.told) == 1
    assert web.read() == 1


def test_a_guard_that_is_new_begins_anew(wired: Callable[..., Wired]) -> None:
    web = wired(1)
    web.read()
    del web.guards["web"]
    web.read()
    web.guards["web"] = web.guard
    assert web.read() == 0
