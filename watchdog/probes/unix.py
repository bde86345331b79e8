"""The unix probe: a stream socket in the file system or, with a leading "@", in the abstract namespace. unix(7).

A full backlog is told at once (EAGAIN); a socket that this process may not connect to says nothing of the service.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from watchdog.model import Epoch, Kind, Observation, Plane, Road, Transport
from watchdog.probes import exchange, sockets
from watchdog.probes.attempt import Finding, observe
from watchdog.probes.deadline import Deadline
from watchdog.probes.rights import UNIT, remedy

LONGEST = 107  # bytes: sockaddr_un.sun_path has 108


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`path` is absolute, or "@name"; `expect` is a regular expression. Only `send`: any byte back counts."""

    path: str
    send: str | None = None
    expect: str | None = None
    connect_only: bool = False

    def __post_init__(self) -> None:
        check_path(self.path)
        exchange.check(self.send, self.expect, self.connect_only)


def check_path(path: str) -> None:
    """Raise `ValueError` for what cannot be the address of a Unix socket."""
    if not path.startswith(("/", "@")) or path == "@":
        raise ValueError(f'"{path}" is no absolute path and no "@name" of an abstract socket')
    if len(os.fsencode(path)) > LONGEST:
        raise ValueError(f"the path has more than {LONGEST} bytes, which no Unix socket can have")


def road(_settings: Settings) -> Road:
    """No firewall stops this road."""
    return Road(Plane.SOCKET, transport=Transport.UNIX)


def listener(settings: Settings) -> tuple[str, ...]:
    """The listening socket that is asked."""
    return (settings.path,)


def warnings(settings: Settings) -> tuple[str, ...]:
    """What an operator should know of these settings."""
    return exchange.warnings(settings.connect_only)


async def probe(settings: Settings, target: Epoch | None, deadline: Deadline) -> Observation:
    """Ask once."""
    return await observe(_attempt(settings, deadline), deadline)


async def _attempt(settings: Settings, deadline: Deadline) -> Finding:
    try:
        sock = connect(settings.path, deadline)
    except OSError as error:
        return refused(settings.path, error)
    try:
        if settings.connect_only:
            return Kind.ALIVE, "connected"
        return await exchange.exchange(sock, settings.send, settings.expect, deadline)
    finally:
        sock.close()


def connect(path: str, deadline: Deadline) -> socket.socket:
    """A connected socket: a Unix socket connects at once or not at all. Raises `OSError`, or `Found` (backlog full)."""
    address = f"\0{path[1:]}" if path.startswith("@") else path
    sock = sockets.begin((socket.AF_UNIX, address), deadline)
    deadline.connected = True
    return sock


def refused(path: str, error: OSError) -> Finding:
    """What a connection that failed says, of the service or of ourselves. Raises what it does not know."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return Kind.ERROR, f"may not connect to {path}: {remedy(path, write=True)}"
    if error.errno == errno.EPROTOTYPE:
        return Kind.ERROR, f"{path} is no stream socket"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        if _listed(path):
            return Kind.ERROR, (
                f"{path} does not exist for this process, yet a socket is bound to it: its file was deleted, "
                f"or {UNIT} or the service has a file system of its own (PrivateTmp=, RootDirectory=)"
            )
        return Kind.REFUSED, f"{path} does not exist"
    raise error


def _listed(path: str) -> bool:
    """Whether the kernel lists a socket bound to the path, in this network namespace (proc(5), /proc/net/unix)."""
    try:
        lines = Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    return any(line.endswith(f" {path}") for line in lines)
