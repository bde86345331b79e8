"""`/events`: tells an open page that something changed, by server-sent events; the page then asks for itself anew.

Rules of this file. A stream holds one of the listener's connections, so there are few (`STREAMS`, of all listeners'
64 each), each for a while only: a browser comes back by itself. Only hints are sent, never what changed, so a client
that is slow costs nothing but its connection, and that for `WITHIN` at most. When the server ends, they end at once.

Facts: the HTML standard, "Server-sent events"; a line that begins with a colon is a comment.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from aiohttp import web

from watchdog.web.keys import VIEW

STREAMS = 24
APART = 0.5  # s between two hints, at least
REFRESH = 10.0  # s after which a page is old, though nothing happened: what was asked when, and how long it took
LIFETIME = 600.0  # s
WITHIN = 5.0  # s in which a client must take what is sent to it
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
        await response.prepare(request)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(LIFETIME):
                await _tell(request, response, streams)
        return response
    finally:
        streams.open -= 1


async def _tell(request: web.Request, response: web.StreamResponse, streams: Streams) -> None:
    """A hint whenever something changed, and one now and then."""
    bell = request.app[VIEW].bell
    await _send(response, f"retry: {RETRY}\n\n")
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
                await _send(response, f"event: changed\ndata: {told}\n\n")
                await asyncio.wait({ended}, timeout=APART)
    finally:
        ended.cancel()


async def _send(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(WITHIN):
        await response.write(text.encode())
