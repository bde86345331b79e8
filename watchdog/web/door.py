"""The door of one listening socket: it counts who came in from the accept(2) on, and shows out who asks for nothing.

Rules of this file: a connection counts from its first moment, its TLS handshake included, so that nobody takes more
descriptors than `CONNECTIONS` of a listener; each listener has a door of its own, so that a crowd at one shuts out
nobody at another. Who has not sent the header of a first request within `HEADER` is shown out.

asyncio's own server counts nothing before the handshake is done, hence the accept(2) here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

CONNECTIONS = 64  # of one listener
HEADER = 10.0  # s for the handshake and the header of the first request
IDLE = 300.0  # s between two requests; Prometheus asks each minute or so
AGAIN = 1.0  # s until the next accept, when no descriptors are left
GRACE = 0.15  # s, used twice: for an answer to end, then for its cancelling
AT_ONCE = 100  # accepts in one turn of the loop
SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
log = logging.getLogger(__name__)


class Door:
    """Lets clients of one listening socket in to an application. `tls` counts for those who come from then on."""

    def __init__(self, listening: socket.socket, app: web.Application, header: float = HEADER) -> None:
        self.tls: ssl.SSLContext | None = None
        self._listening = listening
        self._header = header
        self._entering: dict[RequestHandler, asyncio.Task[None]] = {}
        self._silent: dict[RequestHandler, asyncio.TimerHandle] = {}  # who has asked for nothing yet
        self._paused: asyncio.TimerHandle | None = None
        app.middlewares.insert(0, self._heard())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE, keepalive_timeout=IDLE)

    async def prepare(self) -> None:
        """Make ready for `open`."""
        await self._runner.setup()

    def open(self) -> None:
        """Begin to accept."""
        self._paused = None
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    async def close(self) -> None:
        """Accept no more, and end every connection."""
        if self._paused is not None:
            self._paused.cancel()
        if self._listening.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listening)
        for task in self._entering.values():
            task.cancel()
        for timer in self._silent.values():
            timer.cancel()
        await asyncio.gather(self._runner.cleanup(), *self._entering.values(), return_exceptions=True)

    def connected(self) -> int:
        """Connections that there are."""
        inside = self._http.connections
        return len(inside) + sum(protocol not in inside for protocol in self._entering)

    @property
    def _http(self) -> web.Server:
        http = self._runner.server
        assert http is not None  # set up by `prepare`
        return http

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                client, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in SHORT:
                    raise
                self._pause(error)
                return
            if self.connected() < CONNECTIONS:
                self._let_in(client)
            else:
                client.close()

    def _let_in(self, client: socket.socket) -> None:
        loop, protocol = asyncio.get_running_loop(), self._http()
        client.setblocking(False)
        for gone in [
            each for each in self._silent if each not in self._entering and each not in self._http.connections
        ]:
            self._silent.pop(gone).cancel()
        self._silent[protocol] = loop.call_later(self._header, self._show_out, protocol)
        entering = self._entering[protocol] = asyncio.create_task(self._enter(client, protocol), name="web client")
        entering.add_done_callback(functools.partial(self._entered, client, protocol))

    def _pause(self, error: OSError) -> None:
        """The socket would stay readable: without a pause the loop would do nothing else."""
        loop = asyncio.get_running_loop()
        log.error("no client of the web server can be let in: %s", error.strerror)
        loop.remove_reader(self._listening)
        self._paused = loop.call_later(AGAIN, self.open)

    async def _enter(self, client: socket.socket, protocol: RequestHandler) -> None:
        """The handshake; from then on the client is aiohttp's."""
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: protocol,
            client,
            ssl=self.tls,
            ssl_handshake_timeout=self._header if self.tls is not None else None,
            ssl_shutdown_timeout=GRACE if self.tls is not None else None,
        )

    def _entered(self, client: socket.socket, protocol: RequestHandler, entering: asyncio.Task[None]) -> None:
        del self._entering[protocol]
        if entering.cancelled():
            client.close()
        elif error := entering.exception():
            client.close()
            if not isinstance(error, OSError):  # a handshake that failed, as any client can make it
                log.error("a client of the web server could not be let in", exc_info=error)

    def _show_out(self, protocol: RequestHandler) -> None:
        del self._silent[protocol]
        if protocol in self._entering:
            self._entering[protocol].cancel()
        elif isinstance(protocol.transport, asyncio.Transport):
            protocol.transport.abort()

    def _heard(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        @web.middleware
        async def heard(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            with contextlib.suppress(KeyError):
                self._silent.pop(request.protocol).cancel()
            return await handler(request)

        return heard
