"""A stall that is healed within a second: from the guard's verdict to the receivers."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.alerts.receiver import Receiver, receiver
from tests.simulated import POLICY, SERVICE, SimulatedHands, SimulatedLook, World
from watchdog.alerts.delivery import Courier
from watchdog.alerts.webhook import Settings, Webhook
from watchdog.board import Board
from watchdog.config import Channel, Config, Http
from watchdog.guard import Guard
from watchdog.metrics import Metrics
from watchdog.model import RecordKind, Severity
from watchdog.store import Store

HASTY = replace(SERVICE, policy=replace(POLICY, fall=1, rise=1, settle=0.2, interval_suspect=0.2))


def board_with(directory: Path, store: Store, world: World, settings: dict[str, Settings]) -> Board:
    """A board with these channels."""
    channels = {name: Channel(name=name, type="webhook", settings=each) for name, each in settings.items()}
    config = Config(
        files=(),
        services={"web": HASTY},
        channels=channels,
        http=Http(),
        state_directory=directory,
        max_sick=None,
        warnings=(),
    )
    return Board(config, store, world.clock, Metrics(), lambda: True)


async def stall_and_heal(board: Board, store: Store, world: World) -> float:
    """The guard's whole story; how long the incident took."""
    guard = Guard(HASTY, SimulatedLook(world), SimulatedHands(world), store, world.clock, board)  # type: ignore[arg-type]
    board.guards["web"] = guard
    await guard.resume()
    while world.now < 1030.0:
        world.live(max(guard.next_round, world.now + 0.001))
        await guard.turn()
    (incident,) = await store.incidents()
    assert incident.closed is not None
    return incident.closed - incident.opened


async def test_it_is_told_where_its_severity_is_taken_and_nowhere_else(tmp_path: Path) -> None:
    world = World()
    store = Store(tmp_path, world.clock, deadline=30)
    names = ("everything", "warnings", "pager", "openings")
    async with contextlib.AsyncExitStack() as stack:
        places: dict[str, Receiver] = {name: await stack.enter_async_context(receiver()) for name in names}
        wanted: dict[str, dict[str, Any]] = {
            "everything": {},
            "warnings": {"min_severity": Severity.WARNING},
            "pager": {"min_severity": Severity.CRITICAL},
            "openings": {"events": (RecordKind.OPENED,)},
        }
        settings = {name: Settings(url=places[name].url, **wanted[name]) for name in names}
        board = board_with(tmp_path, store, world, settings)
        took = await stall_and_heal(board, store, world)
        couriers = [
            Courier(name=name, channel=Webhook(each), routing=each, outbox=store, notified=lambda _name, _ok: None)
            for name, each in settings.items()
        ]
        tasks = [asyncio.create_task(courier.run()) for courier in couriers]
        async with asyncio.timeout(10):
            while await store.outbox_length():  # noqa: ASYNC110  (another thread's doing)
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    await store.close()
    heard = {name: [request.json["kind"] for request in place.requests] for name, place in places.items()}
    assert took <= 1.0
    assert heard == {
        "everything": ["opened", "nudged", "resolved"],
        "warnings": ["opened", "resolved"],
        "pager": [],
        "openings": ["opened", "resolved"],
    }
    last = places["warnings"].requests[-1].json
    assert (last["times_30d"], [each["outcome"] for each in last["done"]]) == (1, ["done"])
