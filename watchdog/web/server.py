"""The HTTP server: one listening address, a bound on its connections, and an end within a second.

Rules of this file: at most `CONNECTIONS` at once, so that no crowd of clients takes the descriptors that probes need;
`close` waits `GRACE` for what is being answered, then ends it, whatever the clients do.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aiohttp import web

from watchdog.web.routes import application
from watchdog.web.view import View

CONNECTIONS = 64
GRACE = 0.15  # s, used twice: for an answer to end, then for its cancelling


class CannotListen(Exception):
    """The address can't be listened on; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `address` is "host:port" with the real port."""

    address: str
    _runner: web.AppRunner = field(repr=False)
    _listener: asyncio.Server = field(repr=False)

    async def close(self) -> None:
        """End it, and every connection."""
        self._listener.close()
        await self._runner.cleanup()


async def serve(view: View, listen: str) -> Server:
    """Serve `view` on "host:port" ("[::1]:9797" for IPv6; port 0: a free one). Raises `CannotListen`."""
    host, port = _split(listen)
    runner = web.AppRunner(application(view), access_log=None, shutdown_timeout=GRACE)
    await runner.setup()
    http = runner.server
    assert http is not None  # set up above

    def connection() -> asyncio.Protocol:
        return http() if len(http.connections) < CONNECTIONS else _Refusal()

    try:
        listener = await asyncio.get_running_loop().create_server(connection, host, port)
    except OSError as error:
        await runner.cleanup()
        raise CannotListen(f"can't listen on {listen}: {error.strerror or error}") from error
    bound_host, bound_port = listener.sockets[0].getsockname()[:2]
    address = f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"
    return Server(address, runner, listener)


def _split(listen: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{listen}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None:
        raise CannotListen(f'can\'t listen on {listen}: write host:port, such as "127.0.0.1:9797" or "[::1]:9797"')
    return host, port


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
