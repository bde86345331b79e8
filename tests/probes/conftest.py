"""Small servers that misbehave in one way each, and the asking of a probe."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from watchdog import probes, secret
from watchdog.model import Epoch, Observation
from watchdog.probes.deadline import Deadline

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Start = Callable[..., Awaitable[str]]


async def ask(kind: str, settings: object, within_s: float = 5.0, target: Epoch | None = None) -> Observation:
    """One probe, with a deadline of its own."""
    deadline = Deadline(asyncio.get_running_loop().time() + within_s)
    return await probes.PROBES[kind].probe(settings, target, deadline)


async def until(check: Callable[[], object]) -> None:
    """Wait for what a probe notes down while it runs, which is no event. Raises `TimeoutError`."""
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
async def clean() -> AsyncIterator[None]:
    """Nothing that a probe keeps goes from one test to the next."""
    secret.forget()
    yield
    await probes.close()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts an asyncio server with a handler, on TCP (returns "host:port") or on a Unix socket (returns its path)."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            handler: Handler, *, path: str | None = None, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
        ) -> str:
            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    await handler(reader, writer)
                except (ConnectionError, asyncio.CancelledError):
                    pass
                finally:
                    writer.close()

            if path is not None:
                address = f"\0{path[1:]}" if path.startswith("@") else path
                await stack.enter_async_context(await asyncio.start_unix_server(handle, address))
                return path
            server = await stack.enter_async_context(await asyncio.start_server(handle, host, 0, ssl=tls))
            port = server.sockets[0].getsockname()[1]
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

        yield start


async def pong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers one line with `pong`, else with `ERR`."""
    line = await reader.readline()
    writer.write(b"pong\n" if line == b"ping\n" else b"ERR\n")
    await reader.read()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A TCP listener whose program never accepts."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield listener


@pytest.fixture
def silent_unix(tmp_path: Path) -> Iterator[Path]:
    """A Unix listener whose program never accepts; its backlog takes one connection more than it says, that is two."""
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        yield path


def address(listener: socket.socket) -> str:
    """As a tcp probe takes it."""
    return "{}:{}".format(*listener.getsockname())
