"""The HTTP server: its listening sockets, a bound on its connections, and an end within a second.

Rules of this file: `door.py` bounds the connections of each listener; `close` waits `GRACE` for what is being answered,
then ends it, whatever the clients do. Over a private Unix socket plain HTTP is spoken and its mode is the
authentication; over all others, what the web configuration says.

The listening sockets stay through a change of the TLS settings, so nobody is refused meanwhile, and connections that
were there go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence

from watchdog.config.web import TlsUnusable, Web, context
from watchdog.web.auth import Gate
from watchdog.web.door import CONNECTIONS, HEADER, Door
from watchdog.web.listen import CannotListen, Listener, listeners
from watchdog.web.orders import Operator
from watchdog.web.routes import GATE, application
from watchdog.web.view import View

__all__ = ["CONNECTIONS", "CannotListen", "Server", "serve"]

LOOKS = 60.0  # s between two looks whether a certificate was renewed
log = logging.getLogger(__name__)

Files = tuple[tuple[int, int, int] | None, ...]


class Server:
    """A running server."""

    def __init__(
        self,
        view: View,
        made: Sequence[Listener],
        settings: Web,
        looks: float = LOOKS,
        header: float = HEADER,
        operator: Operator | None = None,
        control: str | None = None,
    ) -> None:
        self._listeners = made
        self.addresses = [listener.address for listener in made]  # "host:port" with the real port, or "unix:/path"
        self._settings = settings
        self._looks = looks
        gates = {private: Gate(settings, private) for private in (False, True)}  # listeners share a rate limit
        names = {each.host for each in made if each.host}
        self._apps = [
            application(
                view,
                gates[each.private],
                operator if control is not None and each.path == control else None,
                names if each.local else None,
            )
            for each in made
        ]
        self._doors = [Door(each.socket, app, header) for each, app in zip(made, self._apps, strict=True)]
        self._files: Files = ()
        self._turn = asyncio.Lock()  # one change at a time
        self._watching: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """The first of them."""
        return self.addresses[0]

    @property
    def url(self) -> str:
        """The first as a URL, or "unix:/path"."""
        scheme = "https" if self._settings.tls is not None else "http"
        return self.address if self.address.startswith("unix:") else f"{scheme}://{self.address}"

    async def start(self) -> None:
        """Begin to accept. Raises `CannotListen`."""
        for door in self._doors:
            await door.prepare()
        try:
            await self.reconfigure(self._settings)
        except TlsUnusable as error:
            raise CannotListen(f"can't speak TLS: {error}") from None
        for door in self._doors:
            door.open()

    async def reconfigure(self, settings: Web) -> None:
        """Serve by these settings from now on. The certificates are read anew. Raises `TlsUnusable` and `OSError`, and
        changes nothing then.
        """
        async with self._turn:
            await self._reconfigure(settings)

    async def _reconfigure(self, settings: Web) -> None:
        files = await self._stamps(settings)  # before they are read: what is written meanwhile is seen at the next look
        tls = await asyncio.to_thread(context, settings.tls) if settings.tls is not None else None
        if settings != self._settings:
            gates = {private: Gate(settings, private) for private in (False, True)}
            for listener, app in zip(self._listeners, self._apps, strict=True):
                app[GATE].now = gates[listener.private]
        for listener, door in zip(self._listeners, self._doors, strict=True):
            door.tls = None if listener.private else tls
        self._settings, self._files = settings, files
        if settings.tls is not None and self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="certificates of the web server")

    async def close(self) -> None:
        """End it, and every connection."""
        if self._watching is not None:
            self._watching.cancel()
        closing = asyncio.gather(*(door.close() for door in self._doors))
        await asyncio.sleep(0)  # no door accepts any more
        for listener in self._listeners:
            listener.close()
        await closing

    # --- renewed certificates -----------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """A renewed certificate counts without a reload; one that can't be used is told once, and the old one stays."""
        while True:
            await asyncio.sleep(self._looks)
            async with self._turn:
                await self._look()

    async def _look(self) -> None:
        stamps = await self._stamps(self._settings)
        if stamps == self._files:
            return
        try:
            await self._reconfigure(self._settings)
            log.info("the certificate of the web server was renewed")
        except TlsUnusable as error:
            self._files = stamps
            log.error("the changed certificate of the web server is not used, the old one stays: %s", error)
        except OSError as error:  # no descriptors are left, perhaps: the next look may go better
            log.error("the changed certificate of the web server cannot be read yet: %s", error.strerror)

    async def _stamps(self, settings: Web) -> Files:
        files = settings.tls.files if settings.tls is not None else ()
        return await asyncio.to_thread(lambda: tuple(map(_stamp, files)))


def _stamp(file: str) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = os.stat(file)  # noqa: PTH116
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None


async def serve(
    view: View,
    listen: str | Sequence[str],
    settings: Web | None = None,
    *,
    looks: float = LOOKS,
    header: float = HEADER,
    operator: Operator | None = None,
    control: str | None = None,
) -> Server:
    """Serve `view` on each address: "host:port" ("[::1]:9797" for IPv6; port 0: a free one), "unix:/path", "systemd".
    The `operator` takes orders over the Unix socket at the path `control`, and over no other: behind another may be a
    proxy. Raises `CannotListen`.
    """
    addresses = [*([listen] if isinstance(listen, str) else listen), *([f"unix:{control}"] if control else [])]
    made = await asyncio.to_thread(listeners, addresses)  # a name may take its time
    server = Server(view, made, settings or Web(), looks, header, operator, control)
    try:
        await server.start()
    except BaseException:
        await server.close()
        raise
    return server
