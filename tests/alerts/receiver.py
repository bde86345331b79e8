"""A real webhook receiver on loopback that answers as it is told, byte by byte, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

R = TypeVar("R")
DEADLINE = 10.0

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
HANG = b""  # takes the request and never answers
CUT = b"HTTP/1.1 200 OK\r\nConte"  # closes in the middle of the headers


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass(frozen=True, slots=True)
class Request:
    """What came in. Names of headers are in lower case."""

    target: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(slots=True)
class Receiver:
    """`answers` are used up one a request; then every request gets 204."""

    url: str
    answers: deque[bytes] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    ended: int = 0
    cut_short: int = 0  # connections that the sender ended before it had the whole answer
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def received(self, count: int, within_s: float = DEADLINE) -> list[Request]:
        """Wait until so many requests have come in."""
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def reached(self, attempt: Callable[[], Awaitable[R]]) -> list[R]:
        """What comes of attempts, up to one that has come in: a stall may outlast the time-out of those before it."""
        known, results = len(self.requests), list[R]()
        async with asyncio.timeout(DEADLINE):
            while len(self.requests) == known:
                results.append(await attempt())
        return results

    async def all_ended(self) -> None:
        """Wait until every connection has ended."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: self.ended == self.connections)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        self.connections += 1
        try:
            request = await _read(reader)
            reply = self.answers.popleft() if self.answers else NO_CONTENT
            async with self._changed:
                self.requests.append(request)
                self._changed.notify_all()
            if reply == HANG:
                await reader.read()
            writer.write(reply)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):  # the sender left, or did not trust us
            self.cut_short += 1
        finally:
            self.ended += 1
            writer.close()
            async with self._changed:
                self._changed.notify_all()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(first.split(" ")[1], headers, body, asyncio.get_running_loop().time())


@contextlib.asynccontextmanager
async def receiver(*answers: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a free port, its path a secret."""
    place = Receiver("", deque(answers))
    server = await asyncio.start_server(place.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    place.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/hook/path-that-nobody-may-see"
    try:
        yield place
    finally:
        server.close()
