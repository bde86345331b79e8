"""Small servers that misbehave in one way each."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.probes.asking import Start
from watchdog import probes, secret

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


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
