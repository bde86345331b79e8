"""Orders to guards: they count at once, keep what was there, and say what could not be kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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

INCIDENT = Incident(
    id="0192c5f4-aaaa", since=1.0, opened=2.0, verdict=Verdict.EPOLL_STALL, certainty=Certainty.SUSPECTED
)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def store(tmp_path: Path, world: World) -> AsyncIterator[Store]:
    kept = Store(tmp_path, world.clock)
    yield kept
    await kept.close()


def guard(world: World, store: Store, service: Service = SERVICE, found: State | None = None) -> Guard:
    look, hands = SimulatedLook(world), SimulatedHands(world)
    return Guard(service, look, hands, store, world.clock, Around(world), found)  # type: ignore[arg-type]


def told(world: World, *guards: Guard) -> Orders:
    return Orders(lambda: {each.service.name: each for each in guards}, world.clock)


async def test_a_pause_is_in_force_and_kept(world: World, store: Store) -> None:
    guarded = guard(world, store)
    await guarded.resume()
    [obeyed] = await told(world, guarded).pause(None, "root", "new disk", 60.0)
    assert (obeyed.changed, obeyed.unsaved, obeyed.until) == (True, "", world.clock.wall() + 60.0)
    assert guarded.state.pause == (await store.load(SERVICE.name)).pause
    assert guarded.state.pause is not None


async def test_an_order_to_a_guard_that_starts_does_not_overwrite_what_was_kept(world: World, store: Store) -> None:
    await store.commit(SERVICE.name, State(nudges=(1.0, 2.0), incident=INCIDENT), [], None)
    guarded = guard(world, store)
    ordered = asyncio.ensure_future(told(world, guarded).pause([SERVICE.name], "root", "", None))
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
    [obeyed] = await told(world, guarded).pause(None, "root", "", None)
    assert (obeyed.changed, obeyed.text, guarded.state) == (False, "not paused", State())
    assert "try again" in obeyed.unsaved


async def test_where_the_state_can_not_be_written_the_order_counts_and_that_is_told(
    tmp_path: Path, world: World
) -> None:
    unwritable = Store(tmp_path / "missing", world.clock)
    guarded = guard(world, unwritable, found=State())
    await guarded.resume()
    [obeyed] = await told(world, guarded).pause(None, "root", "", None)
    await unwritable.close()
    assert guarded.state.pause is not None
    assert obeyed.changed
    assert "in force, but not kept over a restart yet" in obeyed.unsaved


async def test_many_are_paused_and_all_of_it_is_kept(world: World, store: Store) -> None:
    guards = [guard(world, store, replace(SERVICE, name=f"web{number}")) for number in range(100)]
    for each in guards:
        await each.resume()
    obeyed = await told(world, *guards).pause(None, "root", "", None)
    assert [each.unsaved for each in obeyed] == [""] * 100
    assert all([(await store.load(each.service.name)).pause is not None for each in guards])


async def test_an_unknown_service_among_them_and_none_is_paused(world: World, store: Store) -> None:
    guarded = guard(world, store)
    await guarded.resume()
    with pytest.raises(NotFound, match="no such service is guarded: db"):
        await told(world, guarded).pause([SERVICE.name, "db"], "root", "", None)
    assert guarded.state.pause is None


@pytest.mark.parametrize(
    ("incident", "why"),
    [("019", "is too short"), ("ffff", "no open incident begins with"), ("0192", "several incidents begin with")],
)
async def test_what_names_no_one_incident_is_refused(world: World, store: Store, incident: str, why: str) -> None:
    guards = [guard(world, store, replace(SERVICE, name=name), State(incident=INCIDENT)) for name in ("a", "b")]
    with pytest.raises(NotFound, match=why):
        await told(world, *guards).acknowledge(incident, "root")


async def test_an_incident_is_acknowledged_once(world: World, store: Store) -> None:
    guarded = guard(world, store, found=State(incident=INCIDENT))
    await guarded.resume()
    given = told(world, guarded)
    first, second = [await given.acknowledge("0192c5f4", "root") for _ in range(2)]
    assert (first.changed, first.text) == (True, "acknowledged")
    assert (second.changed, second.text) == (False, "was acknowledged by root")
