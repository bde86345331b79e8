"""`/events`: tells an open page that something changed, by server-sent events; the page then asks for itself anew.

Rules of this file. A stream holds one of its listener's 64 connections, so there are few (`STREAMS` of each listener),
each for a while only: a browser comes back by itself. Only hints are sent, never what changed: some 30 bytes, at most
`LIFETIME / APART` of them, which the kernel's buffers hold. So a client that is there and reads nothing costs its
connection, for `LIFETIME`, and nothing else; one that is gone without a word, as a laptop that sleeps is, is let go of
by the kernel `UNHEARD` after the hint that it did not take. When the server ends, they end at once.

Facts: the HTML standard, "Server-sent events"; a line that begins with a colon is a comment. tcp(7), TCP_USER_TIMEOUT.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field

from aiohttp import web

from watchdog.web.keys import VIEW

STREAMS = 24
APART = 0.5  # s between two hints, at least
REFRESH = 10.0  # s after which a page is old, though nothing happened: what was asked when, and how long it took
LIFETIME = 600.0  # s
UNHEARD = 15.0  # s in which the client's kernel must say that it got what was sent
RETRY = 2000  # ms until a browser comes back


@dataclass(slots=True)
class Streams:
    """Those that are open."""

    ending: asyncio.Event = field(default_factory=asyncio.Event)
    open: int = 0


STREAMING: web.AppKey[Streams] = web.AppKey("streaming")


def add_to(app: web.Application) -> None:
    """Let the application tell of changes."""
    app[STREAMING] = Streams()
    app.on_shutdown.append(_end)
    app.router.add_get("/events", _events)


async def _end(app: web.Application) -> None:
    app[STREAMING].ending.set()


async def _events(request: web.Request) -> web.StreamResponse:
    streams = request.app[STREAMING]
    if streams.open >= STREAMS:
        raise web.HTTPServiceUnavailable(text="as many pages as may are told of changes", headers={"Retry-After": "30"})
    streams.open += 1
    try:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.force_close()  # as after a page
        await response.prepare(request)
        _expect_to_be_heard(request)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(LIFETIME):
                await _tell(request, response, streams)
        return response
    finally:
        streams.open -= 1


async def _tell(request: web.Request, response: web.StreamResponse, streams: Streams) -> None:
    """A hint whenever something changed, and one now and then."""
    bell = request.app[VIEW].bell
    await response.write(f"retry: {RETRY}\n\n".encode())
    ended = asyncio.ensure_future(streams.ending.wait())
    try:
        told = bell.rung
        while not ended.done():
            changed = asyncio.ensure_future(bell.after(told))
            try:
                await asyncio.wait({ended, changed}, timeout=REFRESH, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            if not ended.done():
                told = bell.rung
                await response.write(f"event: changed\ndata: {told}\n\n".encode())
                await asyncio.wait({ended}, timeout=APART)
    finally:
        ended.cancel()


def _expect_to_be_heard(request: web.Request) -> None:
    """Over TCP: the other end of a Unix socket can't vanish without its kernel, which is ours."""
    found = request.transport.get_extra_info("socket") if request.transport is not None else None
    if found is not None and found.family != socket.AF_UNIX:
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNHEARD * 1000))
