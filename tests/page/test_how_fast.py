"""The page of the daemon's own board: 100 services, 1,000 incidents in a real database; what others wait meanwhile."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from tests.simulated import SERVICE, SimulatedHands, SimulatedLook, World
from tests.store.make import OPENED, RESOLVED
from tests.web.test_web import request
from watchdog.board import Board
from watchdog.config import Config, Http
from watchdog.guard import Guard
from watchdog.history import HOURS
from watchdog.metrics import Metrics
from watchdog.model import Kind, Observation, State
from watchdog.store import Store
from watchdog.web.server import Server, serve

SERVICES, INCIDENTS = 100, 1000
WITHIN = 0.1  # s


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Of a board with all that."""
    world = World()
    world.now = 1e6
    store = Store(tmp_path, world.clock, deadline=30)
    config = Config(
        files=(), services={}, channels={}, http=Http(), state_directory=tmp_path, max_sick=None, warnings=()
    )
    board = Board(config, store, world.clock, Metrics(), lambda: True)
    for number in range(SERVICES):
        name = f"web{number}"
        service = replace(SERVICE, name=name)
        guard = Guard(service, SimulatedLook(world), SimulatedHands(world), store, world.clock, board)  # type: ignore[arg-type]
        await guard.resume()
        await guard.turn()
        board.guards[name] = guard
        for ago in range(HOURS.seconds, 0, -30):
            kind = Kind.SILENT if ago // 600 % 9 == number % 9 else Kind.ALIVE
            found = {probe: Observation(kind, 0.001 + ago % 7 / 1000, "") for probe in SERVICE.probes}
            board.history.looked(name, world.now - ago, found, 30.0)
    for number in range(INCIDENTS):
        opened = replace(OPENED, incident=f"i{number:04}", at=world.now - 10 * (INCIDENTS - number))
        resolved = replace(RESOLVED, incident=opened.incident, at=opened.at + 2)
        await store.commit(f"web{number % SERVICES}", State(), (opened, resolved), None)
    server = await serve(board, "127.0.0.1:0")
    yield server
    await server.close()
    await store.close()


async def test_it_answers_within_100_ms_and_lets_others_have_their_turns(server: Server) -> None:
    async with aiohttp.ClientSession() as client:
        assert (await request(client, server, "/")).status == 200  # the templates are loaded now
        passes = [await timed(client, server, anew) for anew in range(3)]
    assert min(took[0] for took, _ in passes) < WITHIN  # the machine is shared: the best of three
    assert min(statistics.median(took) for took, _ in passes) < WITHIN
    assert min(statistics.quantiles(waited, n=100)[97] for _, waited in passes) < 0.02


async def timed(client: aiohttp.ClientSession, server: Server, anew: int) -> tuple[list[float], list[float]]:
    """How long each page took, and how much too late the loop came back to who slept for a millisecond; both in s."""
    took, waited = list[float](), list[float]()

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            waited.append(time.monotonic() - began - 0.001)

    ticking = asyncio.create_task(tick())
    for path in ("/", "/incidents", "/incidents?page=20", "/services/web7", "/incidents/i0500"):
        began = time.monotonic()
        answer = await request(client, server, f"{path}{'&' if '?' in path else '?'}anew={anew}")
        took.append(time.monotonic() - began)
        assert answer.status == 200, path
    ticking.cancel()
    return took, waited
