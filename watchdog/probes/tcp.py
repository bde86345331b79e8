"""The tcp probe: connect, send, expect; over TLS if asked to. tcp(7)."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from watchdog.model import Epoch, Kind, Observation, Plane, Road, Transport
from watchdog.probes import exchange, sockets
from watchdog.probes.attempt import Finding, observe
from watchdog.probes.deadline import Deadline
from watchdog.probes.tls import TlsConfig, context


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`address` is "host:port"; `expect` is a regular expression. Only `send`: any byte back counts as an answer."""

    address: str
    preferred_ip_protocol: sockets.IpProtocol | None = None
    send: str | None = None
    expect: str | None = None
    connect_only: bool = False
    tls: bool = False
    tls_config: TlsConfig | None = None

    def __post_init__(self) -> None:
        sockets.split_address(self.address)
        exchange.check(self.send, self.expect, self.connect_only)
        if not self.tls and self.tls_config is not None:
            raise ValueError("tls_config without tls = true has no effect; say tls = true, or leave it out")


def road(_settings: Settings) -> Road:
    """A firewall stops this road."""
    return Road(Plane.SOCKET, transport=Transport.TCP)


def listener(settings: Settings) -> tuple[str, ...]:
    """The listening socket that is asked."""
    return sockets.listener(*sockets.split_address(settings.address))


def warnings(settings: Settings) -> tuple[str, ...]:
    """What an operator should know of these settings."""
    return exchange.warnings(settings.connect_only)


async def probe(settings: Settings, target: Epoch | None, deadline: Deadline) -> Observation:
    """Ask once."""
    return await observe(_attempt(settings, deadline), deadline)


async def _attempt(settings: Settings, deadline: Deadline) -> Finding:
    host, port = sockets.split_address(settings.address)
    place = await sockets.resolve(host, port, settings.preferred_ip_protocol, deadline)
    sock: socket.socket = sockets.begin(place, deadline)
    try:
        await sockets.connected(sock, deadline)
        if settings.tls:
            config = settings.tls_config or TlsConfig()
            sock = await sockets.secured(sock, context(config), config.server_name or host, deadline)
        if settings.connect_only:
            return Kind.ALIVE, "connected"
        return await exchange.exchange(sock, settings.send, settings.expect, deadline)
    finally:
        sock.close()
