"""Asking a probe, and what it is asked against."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from watchdog import probes
from watchdog.model import Epoch, Observation
from watchdog.probes.deadline import Deadline

Start = Callable[..., Awaitable[str]]  # of the fixture `serve`


async def ask(kind: str, settings: object, within_s: float = 5.0, target: Epoch | None = None) -> Observation:
    """One probe, with a deadline of its own."""
    deadline = Deadline(asyncio.get_running_loop().time() + within_s)
    return await probes.PROBES[kind].probe(settings, target, deadline)


async def until(check: Callable[[], object]) -> None:
    """Wait for what a probe notes down while it runs, which is no event. Raises `TimeoutError`."""
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def pong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers one line with `pong`, else with `ERR`."""
    line = await reader.readline()
    writer.write(b"pong\n" if line == b"ping\n" else b"ERR\n")
    await reader.read()


def address(listener: socket.socket) -> str:
    """As a tcp probe takes it."""
    return "{}:{}".format(*listener.getsockname())
