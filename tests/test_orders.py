"""Orders to guards: they count at once, keep what was there, and say what could not be kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulated import SERVICE, Around, SimulatedHands, SimulatedLook, World
from watchdog import orders
from watchdog.config import Service
from watchdog.guard import Guard
from watchdog.model import Certainty, Incident, State, Verdict
from watchdog.orders import Orders
from watchdog.store import Store
from watchdog.web.orders import NotFound
from watchdog.web.view import Unavailable

INCIDENT = Incident(
    id="0192c5f4-aaaa", since=1.0, opened=2.0, verdict=Verdict.EPOLL_STALL, certainty=Certainty.SUSPECTED
)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def store(tmp_path: Path, world: World) -> AsyncIterator[Store]:
    kept = Store(tmp_path, world.clock, deadline=30)
    yield kept
    await kept.close()


def guard(world: World, store: Store, service: Service = SERVICE, found: State | None = None) -> Guard:
    look, hands = SimulatedLook(world), SimulatedHands(world)
    return Guard(service, look, hands, store, world.clock, Around(world), found)  # type: ignore[arg-type]


def told(world: World, store: Store, *guards: Guard, expected: Collection[str] = ()) -> Orders:
    return Orders(lambda: {each.service.name: each for each in guards}, lambda: expected, store, world.clock)


async def test_a_pause_is_in_force_and_kept(world: World, store: Store) -> None:
    guarded = guard(world, store)
    await guarded.resume()
    [obeyed] = await told(world, store, guarded).pause(None, "root", "new disk", 60.0)
    assert (obeyed.changed, obeyed.unsaved, obeyed.until) == (True, "", world.clock.wall() + 60.0)
    assert (await store.load(SERVICE.name)).pause == guarded.state.pause
    assert guarded.state.pause is not None


async def test_an_order_to_a_guard_that_starts_does_not_overwrite_what_was_kept(world: World, store: Store) -> None:
    await store.commit(SERVICE.name, State(nudges=(1.0, 2.0), incident=INCIDENT), [], None)
    guarded = guard(world, store)
    ordered = asyncio.ensure_future(told(world, store, guarded).pause([SERVICE.name], "root", "", None))
    await asyncio.sleep(0)
    assert guarded.state == State()
    await guarded.resume()
    [obeyed] = await ordered
    kept = await store.load(SERVICE.name)
    assert obeyed.changed
    assert (len(kept.nudges), kept.incident is not None, kept.pause is not None) == (2, True, True)


async def test_where_the_state_can_not_be_read_yet_nothing_is_changed(
    world: World, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "LOADED_WITHIN", 0.01)
    guarded = guard(world, store)
    with pytest.raises(Unavailable, match="try again"):
        await told(world, store, guarded).pause(None, "root", "", None)
    assert guarded.state == State()


async def test_while_a_service_has_no_guard_yet_all_is_not_said_to_be_paused(world: World, store: Store) -> None:
    guarded = guard(world, store, found=State())
    given = told(world, store, guarded, expected=[SERVICE.name, "db"])
    with pytest.raises(Unavailable, match="is starting"):
        await given.pause(None, "root", "", None)
    with pytest.raises(Unavailable, match="is starting"):
        await given.acknowledge("0192c5f4", "root")
    assert guarded.state.pause is None
    assert [each.changed for each in await given.pause([SERVICE.name], "root", "", None)] == [True]


async def test_the_same_pause_again_is_recorded_nowhere_and_another_tells_what_it_replaced(
    world: World, store: Store
) -> None:
    guarded = guard(world, store, found=State())
    given = told(world, store, guarded)
    answers = [
        *await given.pause(None, "alice", "new disk", None),
        *await given.pause(None, "alice", "new disk", None),
        *await given.pause(None, "bob", "", 600.0),
        *await given.resume(None, "bob"),
        *await given.resume(None, "bob"),
    ]
    assert [(each.changed, each.text) for each in answers] == [
        (True, "paused"),
        (False, "was paused so already"),
        (True, "paused (was paused by alice: new disk)"),
        (True, "resumed"),
        (False, "was not paused"),
    ]


async def test_where_the_state_can_not_be_written_the_order_counts_and_that_is_told(
    tmp_path: Path, world: World
) -> None:
    unwritable = Store(tmp_path / "missing", world.clock)
    guarded = guard(world, unwritable, found=State())
    await guarded.resume()
    [obeyed] = await told(world, unwritable, guarded).pause(None, "root", "", None)
    await unwritable.close()
    assert guarded.state.pause is not None
    assert obeyed.changed
    assert "in force, but not kept over a restart yet" in obeyed.unsaved


async def test_many_are_paused_and_all_of_it_is_kept(world: World, store: Store) -> None:
    guards = [guard(world, store, replace(SERVICE, name=f"web{number}")) for number in range(100)]
    for each in guards:
        await each.resume()
    under_way = asyncio.ensure_future(told(world, store, *guards).pause(None, "root", "", None))
    await asyncio.sleep(0)
    assert all(each.state.pause is not None for each in guards)  # before anything is written
    assert [each.unsaved for each in await under_way] == [""] * 100
    assert all([(await store.load(each.service.name)).pause is not None for each in guards])


async def test_an_unknown_service_among_them_and_none_is_paused(world: World, store: Store) -> None:
    guarded = guard(world, store)
    await guarded.resume()
    with pytest.raises(NotFound, match="no such service is guarded: db"):
        await told(world, store, guarded).pause([SERVICE.name, "db"], "root", "", None)
    assert guarded.state.pause is None


@pytest.mark.parametrize(
    ("incident", "why"),
    [("019", "is too short"), ("ffff", "no open incident begins with"), ("0192", "several incidents begin with")],
)
async def test_what_names_no_one_incident_is_refused(world: World, store: Store, incident: str, why: str) -> None:
    guards = [guard(world, store, replace(SERVICE, name=name), State(incident=INCIDENT)) for name in ("a", "b")]
    with pytest.raises(NotFound, match=why):
        await told(world, store, *guards).acknowledge(incident, "root")


async def test_an_incident_is_acknowledged_once(world: World, store: Store) -> None:
    guarded = guard(world, store, found=State(incident=INCIDENT))
    await guarded.resume()
    given = told(world, store, guarded)
    first, second = [await given.acknowledge("0192c5f4", "root") for _ in range(2)]
    assert (first.changed, first.text) == (True, "acknowledged")
    assert (second.changed, second.text) == (False, "was acknowledged by root")
