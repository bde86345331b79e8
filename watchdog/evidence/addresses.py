"""How the address of a socket is written: the same by whichever road it was read, so that two can be compared.

TCP: `127.0.0.1:80`, `[::]:80`; a device or a scope is left out. Unix: the path, or `@` and the abstract name, with each
NUL in it as another `@`, which is how ss(8) and /proc/net/unix write it. A name that is not plain text is told with
escapes: a line stays one line, and what is told can be stored and exported anywhere.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterable

from watchdog.reading import Family, Queue


@functools.lru_cache(1024)
def tcp_address(packed: bytes, port: int) -> str:
    """Of an address in network order (4 or 16 bytes). The tripwire asks for the same ones four times a second."""
    if len(packed) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, packed)}:{port}"
    return f"[{socket.inet_ntop(socket.AF_INET6, packed)}]:{port}"


@functools.lru_cache(1024)
def unix_address(name: bytes) -> str:
    """Of `sun_path`, as the kernel keeps it (a path ends with a NUL) or as /proc/net/unix has it."""
    name = name.replace(b"\0", b"@") if name.startswith(b"\0") else name.rstrip(b"\0")
    text = name.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


class Locals:
    """The local addresses at which listeners take connections, to know which connections are theirs."""

    __slots__ = ("_tcp", "_v4_ports", "_v6_ports", "ports", "unix")

    def __init__(self, listeners: Iterable[Queue]) -> None:
        listeners = tuple(listeners)
        self._tcp = {each.address for each in listeners if each.family is Family.TCP}
        self.unix = {each.address for each in listeners if each.family is Family.UNIX}
        parts = [address.rpartition(":") for address in self._tcp]
        self._v4_ports = {port for host, _, port in parts if host == "0.0.0.0"}
        # Of a dual-stack socket too: its connections by IPv4 are written [::ffff:127.0.0.1]:80.
        self._v6_ports = {port for host, _, port in parts if host == "[::]"}
        self.ports = sorted({int(port) for _, _, port in parts})

    def take_tcp(self, address: str) -> bool:
        """Whether one of the listeners takes the connections to this local address."""
        if address in self._tcp:
            return True
        return address.rpartition(":")[2] in (self._v6_ports if address.startswith("[") else self._v4_ports)
