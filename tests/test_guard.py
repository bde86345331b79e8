from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.simulated import SERVICE, Around, SimulatedHands, SimulatedLook, World
from watchdog.config import Service
from watchdog.guard import Guard
from watchdog.look import Seen
from watchdog.model import Action, Host, Performed, RecordKind, RestartOutlook
from watchdog.store import Store, StoreUnwritable


class Blinking(SimulatedLook):
    """A look that has a fault of its own, the first time."""

    async def round(self) -> Seen:
        self.rounds += 1
        if self.rounds == 1:
            raise ZeroDivisionError
        return await super().round()


class Clumsy(SimulatedHands):
    """Hands that break their promise."""

    async def perform(self, service: str, action: Action) -> Performed:
        raise OSError("too many open files")


@pytest.fixture
def world() -> World:
    return World(nudge_heals=False)


@pytest.fixture
def around(world: World) -> Around:
    return Around(world)


@pytest.fixture
async def unwritable(tmp_path: Path, world: World) -> AsyncIterator[Store]:
    """A store whose directory is missing."""
    store = Store(tmp_path / "missing", world.clock)
    yield store
    await store.close()


async def live(guard: Guard, world: World, seconds: float) -> None:
    """Turn by turn, as fast as the machine goes."""
    end = world.now + seconds
    await guard.resume()
    while world.now < end:
        world.live(max(guard.next_round, world.now + 0.001))
        await guard.turn()


async def test_while_the_state_cannot_be_written_nudges_go_on_and_restarts_are_refused(
    world: World, around: Around, unwritable: Store
) -> None:
    guard = Guard(SERVICE, SimulatedLook(world), SimulatedHands(world), unwritable, world.clock, around)  # type: ignore[arg-type]
    await live(guard, world, 60)
    assert (world.nudges, world.restarts) == (2, 0)
    restarted = next(record for record in around.records if record.kind is RecordKind.RESTARTED)
    assert restarted.text.startswith("restart refused: the state cannot be written: ")


async def test_while_the_state_cannot_be_written_the_alerts_are_kept_for_delivery(
    world: World, around: Around, unwritable: Store
) -> None:
    guard = Guard(SERVICE, SimulatedLook(world), SimulatedHands(world), unwritable, world.clock, around)  # type: ignore[arg-type]
    await live(guard, world, 60)
    kinds = []
    with contextlib.suppress(StoreUnwritable):  # once none waits in memory
        while True:
            (letter,) = await unwritable.outbox("ops", 10)
            kinds.append(letter.kind)
            await unwritable.delivered(letter.key)
    assert kinds == ["opened", "nudged", "nudged", "held", "restarted", "escalated"]


async def test_a_fault_in_the_watchdog_itself_voids_a_round_and_ends_nothing(
    tmp_path: Path, world: World, around: Around, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path, world.clock, deadline=30)
    look = Blinking(world)
    guard = Guard(SERVICE, look, SimulatedHands(world), store, world.clock, around)  # type: ignore[arg-type]
    look.woken.set()  # the next round comes at once
    running = asyncio.create_task(guard.run())
    async with asyncio.timeout(5):
        while guard.seen is None:
            look.woken.set()
            await asyncio.sleep(0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert "service web: a fault in the watchdog itself; the round is void" in caplog.text
    await store.close()


async def test_a_fault_in_a_remedy_is_its_outcome_and_the_guard_goes_on(
    tmp_path: Path, world: World, around: Around
) -> None:
    store = Store(tmp_path, world.clock, deadline=30)
    guard = Guard(SERVICE, SimulatedLook(world), Clumsy(world), store, world.clock, around)  # type: ignore[arg-type]
    await live(guard, world, 60)
    assert guard.state.pending is None
    assert [record.kind for record in around.records if record.severity is not None][-1] is RecordKind.ESCALATED
    await store.close()


async def test_a_restart_that_systemd_would_refuse_is_not_asked_for(
    tmp_path: Path, world: World, around: Around
) -> None:
    world.outlook = RestartOutlook(takes_along=("app.service",))
    store = Store(tmp_path, world.clock, deadline=30)
    guard = Guard(SERVICE, SimulatedLook(world), SimulatedHands(world), store, world.clock, around)  # type: ignore[arg-type]
    await live(guard, world, 60)
    passed = [record.detail["reason"] for record in around.records if record.kind is RecordKind.PASSED]
    assert (world.nudges, world.restarts, passed) == (2, 0, ["blast_radius"])
    await store.close()


@pytest.mark.parametrize("turns", range(6))
async def test_a_guard_is_cancelled_also_as_its_wait_for_the_next_round_ends(
    turns: int, tmp_path: Path, world: World, around: Around
) -> None:
    store, look = Store(tmp_path, world.clock), SimulatedLook(world)
    guard = Guard(SERVICE, look, SimulatedHands(world), store, world.clock, around)  # type: ignore[arg-type]
    waiting = asyncio.create_task(guard._wait(3600))
    for _ in range(3):
        await asyncio.sleep(0)
    look.woken.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    begun = waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled() == begun
    await store.close()


async def test_a_guard_that_is_told_to_end_ends_after_its_turn(tmp_path: Path, world: World, around: Around) -> None:
    store = Store(tmp_path, world.clock, deadline=30)
    guard = Guard(SERVICE, SimulatedLook(world), SimulatedHands(world), store, world.clock, around)  # type: ignore[arg-type]
    running = asyncio.create_task(guard.run())
    guard.end()
    await asyncio.wait_for(running, 5)
    await store.close()


async def test_a_guard_made_with_a_state_takes_it_up(tmp_path: Path, world: World, around: Around) -> None:
    store = Store(tmp_path, world.clock, deadline=30)
    first = Guard(SERVICE, SimulatedLook(world), SimulatedHands(world), store, world.clock, around)  # type: ignore[arg-type]
    await live(first, world, 15)
    second = Guard(
        SERVICE,
        SimulatedLook(world),  # type: ignore[arg-type]
        SimulatedHands(world),
        store,
        world.clock,
        around,
        first.state,
    )
    await second.resume()
    assert second.state == first.state
    assert second.state.incident is not None
    await store.close()


class Meanwhile(Around):
    """While this guard asks systemd what a restart would come to, another one begins the one restart."""

    restarting_now = ""

    def host(self, service: str) -> Host:
        return Host(sick=1, restarting=self.restarting_now)

    async def outlook(self, service: Service) -> RestartOutlook | None:
        self.restarting_now = "another"
        return await super().outlook(service)


async def test_a_restart_that_another_guard_began_meanwhile_is_waited_for(tmp_path: Path, world: World) -> None:
    store = Store(tmp_path, world.clock, deadline=30)
    around = Meanwhile(world)
    guard = Guard(SERVICE, SimulatedLook(world), SimulatedHands(world), store, world.clock, around)  # type: ignore[arg-type]
    await live(guard, world, 60)
    assert (world.nudges, world.restarts) == (2, 0)
    assert guard.state.tally.holds == ("restart_running",)
    await store.close()
