"""The http probe: over TCP, TLS or a Unix socket, with blackbox_exporter's names for what it expects.

RFC 9110 (semantics), RFC 9112 (HTTP/1.1). Each probe makes a fresh connection: a kept one would prove nothing of the
listener. Beyond blackbox_exporter: `unix_socket` (every connection of the probe goes there, whatever the URL's host),
`certificate_min_validity`. `http_client` does the asking.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from watchdog.model import Epoch, Observation, Plane, Road, Transport
from watchdog.probes import sockets
from watchdog.probes.attempt import observe
from watchdog.probes.deadline import Deadline
from watchdog.probes.http_settings import Settings as Settings


def road(settings: Settings) -> Road:
    """A firewall stops TCP and never a Unix socket."""
    return Road(Plane.SOCKET, transport=Transport.TCP if settings.unix_socket is None else Transport.UNIX)


def listener(settings: Settings) -> tuple[str, ...]:
    """The listening socket that is asked."""
    if settings.unix_socket is not None:
        return (settings.unix_socket,)
    parts = urlsplit(settings.url)
    return sockets.listener(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def warnings(settings: Settings) -> tuple[str, ...]:
    """What an operator should know of these settings."""
    config = settings.tls_config
    if config is None or not config.insecure_skip_verify:
        return ()
    return ("insecure_skip_verify = true: an expired or foreign certificate is not noticed",)


def prepare(_settings: Settings) -> None:
    """Load aiohttp's parser, and with it all of aiohttp (18 MiB)."""
    from watchdog.probes import http_client  # noqa: F401


async def probe(settings: Settings, target: Epoch | None, deadline: Deadline) -> Observation:
    """Ask once."""
    from watchdog.probes import http_client

    return await observe(http_client.ask(settings, deadline), deadline)
