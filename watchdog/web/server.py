"""The HTTP server: its listening sockets, a bound on its connections, and an end within a second.

Rules of this file: at most `CONNECTIONS` at once, so that no crowd of clients takes the descriptors that probes need;
`close` waits `GRACE` for what is being answered, then ends it, whatever the clients do. Over a private Unix socket
plain HTTP is spoken and its mode is the authentication; over all others, what the web configuration says.

The listening sockets stay through a change of the TLS settings: asyncio is given copies of them, so nobody is refused
meanwhile, and connections that were there go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Callable, Sequence

from aiohttp import web

from watchdog.config.web import TlsUnusable, Web, context
from watchdog.web.auth import Gate
from watchdog.web.listen import CannotListen, Listener, listeners
from watchdog.web.routes import GATE, application
from watchdog.web.view import View

__all__ = ["CannotListen", "Server", "serve"]

CONNECTIONS = 64
GRACE = 0.15  # s, used twice: for an answer to end, then for its cancelling
LOOKS = 60.0  # s between two looks whether a certificate was renewed
HANDSHAKE = 10.0  # s
log = logging.getLogger(__name__)

Files = tuple[tuple[int, int, int] | None, ...]


class Server:
    """A running server."""

    def __init__(self, view: View, made: Sequence[Listener], settings: Web, looks: float) -> None:
        self._listeners = made
        self.addresses = [listener.address for listener in made]  # "host:port" with the real port, or "unix:/path"
        self._settings = settings
        self._looks = looks
        self._gates = {private: application(view, Gate(settings, private)) for private in (False, True)}
        self._runners = {
            private: web.AppRunner(app, access_log=None, shutdown_timeout=GRACE) for private, app in self._gates.items()
        }
        self._accepting: list[asyncio.Server] = []
        self._files: Files = ()
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
        for runner in self._runners.values():
            await runner.setup()
        try:
            await self.reconfigure(self._settings)
        except TlsUnusable as error:
            raise CannotListen(f"can't speak TLS: {error}") from None

    async def reconfigure(self, settings: Web) -> None:
        """Serve by these settings from now on. The certificates are read anew. Raises `TlsUnusable`, and changes
        nothing then.
        """
        tls = await asyncio.to_thread(context, settings.tls) if settings.tls is not None else None
        self._files = await self._stamps(settings)
        if settings != self._settings:
            for private, app in self._gates.items():
                app[GATE].now = Gate(settings, private)
        self._settings = settings
        await self._accept(tls)
        if settings.tls is not None and self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="certificates of the web server")

    async def close(self) -> None:
        """End it, and every connection."""
        if self._watching is not None:
            self._watching.cancel()
        for accepting in self._accepting:
            accepting.close()
        for listener in self._listeners:
            listener.close()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners.values()))

    async def _accept(self, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        before, self._accepting = self._accepting, []
        for listener in self._listeners:
            spoken = None if listener.private else tls
            self._accepting.append(
                await loop.create_server(
                    self._connections(listener.private),
                    sock=listener.socket.dup(),
                    ssl=spoken,
                    ssl_handshake_timeout=HANDSHAKE if spoken is not None else None,
                    ssl_shutdown_timeout=GRACE if spoken is not None else None,
                )
            )
        for accepting in before:
            accepting.close()

    def _connections(self, private: bool) -> Callable[[], asyncio.Protocol]:
        http = self._runners[private].server
        assert http is not None  # set up by `start`

        def connection() -> asyncio.Protocol:
            return http() if self._connected() < CONNECTIONS else _Refusal()

        return connection

    def _connected(self) -> int:
        servers = [runner.server for runner in self._runners.values()]
        return sum(len(server.connections) for server in servers if server is not None)

    # --- renewed certificates -----------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """A renewed certificate counts without a reload; one that can't be used is told once, and the old one stays."""
        while True:
            await asyncio.sleep(self._looks)
            stamps = await self._stamps(self._settings)
            if stamps == self._files:
                continue
            try:
                await self.reconfigure(self._settings)
                log.info("the certificate of the web server was renewed")
            except TlsUnusable as error:
                self._files = stamps
                log.error("the changed certificate of the web server is not used, the old one stays: %s", error)

    async def _stamps(self, settings: Web) -> Files:
        files = settings.tls.files if settings.tls is not None else ()
        return await asyncio.to_thread(lambda: tuple(map(_stamp, files)))


def _stamp(file: str) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = os.stat(file)  # noqa: PTH116
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None


async def serve(
    view: View, listen: str | Sequence[str], settings: Web | None = None, *, looks: float = LOOKS
) -> Server:
    """Serve `view` on each address: "host:port" ("[::1]:9797" for IPv6; port 0: a free one), "unix:/path", "systemd".
    Raises `CannotListen`.
    """
    addresses = [listen] if isinstance(listen, str) else listen
    made = await asyncio.to_thread(listeners, addresses)  # a name may take its time
    server = Server(view, made, settings or Web(), looks)
    try:
        await server.start()
    except BaseException:
        await server.close()
        raise
    return server


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
