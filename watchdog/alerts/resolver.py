"""aiohttp's look-ups of names, in the threads of a channel. Importing this imports aiohttp."""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from watchdog.alerts.aside import Aside

NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Resolver(AbstractResolver):
    """As aiohttp's `ThreadedResolver`, which uses the executor of the loop."""

    def __init__(self, aside: Aside) -> None:
        self._aside = aside

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of the host. Raises `OSError`."""
        infos = await self._aside.look_up(host, port, family, socket.AI_ADDRCONFIG)
        return [
            ResolveResult(
                hostname=host,
                host=_written(address),
                port=address[1],
                family=found,
                proto=protocol,
                flags=NUMERIC,
            )
            for found, _, protocol, _, address in infos
        ]

    async def close(self) -> None:
        """Its threads are the channel's."""


def _written(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """The address, with the interface that a link-local one of IPv6 needs (RFC 4007, 11)."""
    if len(address) == 4 and address[3]:
        return f"{address[0].partition('%')[0]}%{address[3]}"
    return address[0]
