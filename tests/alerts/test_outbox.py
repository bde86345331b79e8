"""Nothing is lost: events through three channels, one of them down for half the time, while the daemon is killed over
and over. `OUTBOX_EVENTS=10000 OUTBOX_KILLS=50` is the whole measure; what is there by default is its shorter form.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.alerts.outbox_child import SERVICES, STORY

EVENTS = int(os.environ.get("OUTBOX_EVENTS", "1000"))
KILLS = int(os.environ.get("OUTBOX_KILLS", "8"))
CHANNELS = 3
FLAP = 0.4  # s on the average that the third channel is up, or down
DEADLINE = 60.0 + EVENTS / 50  # s; some 5 ms an event, where nothing else runs


@dataclass(slots=True)
class Told:
    """What a receiver was told, in order: the key that the sender gave it, the incident, the event's number."""

    up: bool = True
    url: str = ""
    messages: list[tuple[str, str, int]] = field(default_factory=list)
    refused: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request. While it is down it answers 500, or nothing, or takes the message and loses the answer."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            told = json.loads(await reader.readexactly(length))
            how = "take" if self.up else random.choice(["refuse", "close", "lose"])
            if how in ("take", "lose"):
                self.messages.append((told["id"], told["incident"], int(told["text"])))
            else:
                self.refused += 1
            if how in ("take", "refuse"):
                status = "204 Taken" if how == "take" else "500 Down"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
        writer.close()

    async def flap(self) -> None:
        """Be down for half the time."""
        while True:
            await asyncio.sleep(random.uniform(0, 2 * FLAP))
            self.up = not self.up


@contextlib.asynccontextmanager
async def receivers() -> AsyncIterator[list[Told]]:
    """Three, the last of which flaps."""
    told = [Told() for _ in range(CHANNELS)]
    async with contextlib.AsyncExitStack() as servers:
        for each in told:
            server = await servers.enter_async_context(await asyncio.start_server(each.serve, "127.0.0.1", 0))
            each.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        flapping = asyncio.create_task(told[-1].flap())
        yield told
        flapping.cancel()


@contextlib.asynccontextmanager
async def lives(directory: Path, told: list[Told]) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process that begins a life of the daemon for each line."""
    stderr = (directory / "stderr").open("wb")
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.alerts.outbox_child",
        str(directory),
        str(EVENTS),
        *(each.url for each in told),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )
    stderr.close()
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


async def live_and_die(child: asyncio.subprocess.Process, told: list[Told]) -> int:
    """All the lives but the last are ended by SIGKILL, at moments spread over the whole story; how many there were."""
    assert child.stdin is not None
    assert child.stdout is not None
    killed = 0
    while True:
        child.stdin.write(b"\n")
        pid = int(await child.stdout.readline())
        ended = asyncio.create_task(child.stdout.readline())
        while not ended.done() and sum(len(each.messages) for each in told) < (killed + 1) * CHANNELS * EVENTS / (
            KILLS + 1
        ):
            await asyncio.wait([ended], timeout=0.005)
        if killed < KILLS and not ended.done():
            await asyncio.sleep(random.uniform(0, 0.02))
            os.kill(pid, signal.SIGKILL)
        status = int(await ended)
        if status == 0:
            return killed
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        killed += 1


@pytest.mark.timeout(DEADLINE + 10)
async def test_none_is_lost_none_is_out_of_order_and_duplicates_have_the_same_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    async with asyncio.timeout(DEADLINE), receivers() as told, lives(tmp_path, told) as child:
        killed = await live_and_die(child, told)
    took = time.monotonic() - began
    per_service = EVENTS // SERVICES
    expected = {(f"s{s}-{n // len(STORY)}", n) for s in range(SERVICES) for n in range(per_service)}
    lost = [len(expected - {message[1:] for message in each.messages}) for each in told]
    disorder = [disordered(each.messages) for each in told]
    ids = [len({message[0] for message in each.messages}) for each in told]
    with capsys.disabled():
        print(
            f"\n{len(expected)} events, {CHANNELS} channels, {killed} kills, {took:.0f} s:"
            f" lost {sum(lost)}, out of order {sum(disorder)},"
            f" duplicates {[len(each.messages) - len(expected) for each in told]} (all with the id of the first),"
            f" refused {[each.refused for each in told]}"
        )
    assert killed == KILLS
    assert lost == [0] * CHANNELS
    assert disorder == [0] * CHANNELS
    assert ids == [len(expected)] * CHANNELS
    assert [len({(key, *about) for key, *about in each.messages}) for each in told] == ids
    assert told[-1].refused > 0
    assert (tmp_path / "stderr").read_text() == ""


def disordered(messages: list[tuple[str, str, int]]) -> int:
    """How many came after a later one of their incident."""
    latest: dict[str, int] = defaultdict(int)
    count = 0
    for _, incident, number in messages:
        count += number < latest[incident]
        latest[incident] = max(latest[incident], number)
    return count
