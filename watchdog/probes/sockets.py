"""Non-blocking sockets for probes, without asyncio's transports: fewer steps, and every errno is seen.

asyncio's own `sock_connect` takes EAGAIN for a connection in progress; of a Unix socket it means that the backlog is
full, at once and for good (unix(7), connect(2)). TCP's EINPROGRESS is waited for. On loopback the handshake is done by
the time connect(2) returns, so `connected` mostly need not wait.

An address is resolved by a thread of the loop only where it is a name.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from functools import lru_cache
from typing import Any, Literal

from watchdog.model import Kind
from watchdog.probes.attempt import Found
from watchdog.probes.deadline import Deadline

IpProtocol = Literal["ip4", "ip6"]
Place = tuple[int, Any]  # an address family and an address of it

CHUNK = 16384


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[IPv6]:port". Raises `ValueError` with what would be right."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f'"{address}" is no address; an IPv6 address stands in brackets: "[::1]:80"')
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f'"{address}" is no address; write "host:port", such as "127.0.0.1:6379"')
    return host, int(port)


def listener(host: str, port: int) -> tuple[str, ...]:
    """How the kernel may write the address of a listening socket that is reached so: its own, or all addresses."""
    named = {"localhost": ("127.0.0.1", "[::1]")}.get(host, (f"[{host}]" if ":" in host else host,))
    return (*(f"{name}:{port}" for name in named), f"*:{port}")


@lru_cache(maxsize=256)
def literal(host: str, port: int) -> Place | None:
    """The place that a numeric address names; None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return (family, (host, port))
    return None


async def resolve(
    host: str, port: int, prefer: IpProtocol | None, deadline: Deadline, kind: int = socket.SOCK_STREAM
) -> Place:
    """Where a host is: the first address of the preferred family, else the resolver's first (RFC 6724's order)."""
    place = literal(host, port)
    if place is not None:
        return place
    deadline.ours = f'the name "{host}" was not resolved'
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind)
    except socket.gaierror as error:
        raise Found((Kind.ERROR, f'the name "{host}" was not resolved: {error.strerror}')) from None
    deadline.ours = ""
    family = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6, None: None}[prefer]
    best = next((info for info in infos if info[0] == family), infos[0])
    return (best[0], best[4])


def begin(place: Place, deadline: Deadline, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket whose connection has begun (see `connected`). Raises `OSError`; EAGAIN of a Unix socket is `Found`."""
    family, address = place
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        deadline.watch(sock)
        sock.connect(address)
    except BlockingIOError as error:
        if family == socket.AF_UNIX:
            sock.close()
            raise Found((Kind.UNREACHABLE, "backlog full (EAGAIN)")) from None
        if error.errno != errno.EINPROGRESS:
            sock.close()
            raise
    except BaseException:
        sock.close()
        raise
    return sock


async def connected(sock: socket.socket, deadline: Deadline) -> None:
    """Return when the connection stands. Raises the `OSError` of a connection that failed."""
    try:
        sock.getpeername()
    except OSError:
        await writable(sock)
        failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            raise OSError(failure, os.strerror(failure)) from None
    deadline.connected = True


async def secured(
    sock: socket.socket, context: ssl.SSLContext, server_name: str | None, deadline: Deadline
) -> ssl.SSLSocket:
    """TLS over a connection that stands. `sock` is used up, whatever happens. Raises `OSError`, also `ssl.SSLError`."""
    try:
        secure = context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    deadline.watch(secure)
    try:
        while True:
            try:
                secure.do_handshake()
            except ssl.SSLWantReadError:
                await readable(secure)
            except ssl.SSLWantWriteError:
                await writable(secure)
            else:
                return secure
    except BaseException:
        secure.close()
        raise


async def send(sock: socket.socket, data: bytes) -> None:
    """Send all of `data`."""
    while data:
        try:
            data = data[sock.send(data) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            await writable(sock)
        except ssl.SSLWantReadError:
            await readable(sock)


async def receive(sock: socket.socket) -> bytes:
    """The next bytes; none at the end of the stream."""
    while True:
        try:
            return sock.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            await readable(sock)
        except ssl.SSLWantWriteError:
            await writable(sock)


async def readable(sock: socket.socket) -> None:
    """Return when reading would not block, or would fail."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    descriptor = sock.fileno()
    loop.add_reader(descriptor, _wake, future)
    try:
        await future
    finally:
        loop.remove_reader(descriptor)


async def writable(sock: socket.socket) -> None:
    """Return when writing would not block, or would fail; of a connection in progress: when it is decided."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    descriptor = sock.fileno()
    loop.add_writer(descriptor, _wake, future)
    try:
        await future
    finally:
        loop.remove_writer(descriptor)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
