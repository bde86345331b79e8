"""A network namespace of the test's own, joined to the host by a veth pair; in it, nftables drops what it is told to.

The host's own rules are never touched. ip-netns(8), veth(4), nft(8).
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_numbers = threading.Lock()
_next = 0


@dataclass(frozen=True, slots=True)
class Namespace:
    """Its name, and its address as seen from the host."""

    name: str
    address: str

    @property
    def inside(self) -> tuple[str, ...]:
        """The command that runs another one in it."""
        return ("ip", "netns", "exec", self.name)

    def drop(self, port: int) -> None:
        """From now on no TCP packet to this port arrives."""
        rules = f"""
            table inet lookalike {{
                chain incoming {{ type filter hook input priority 0; tcp dport {port} drop; }}
            }}
        """
        subprocess.run([*self.inside, "nft", "-f", "-"], input=rules.encode(), check=True)

    def let_in(self) -> None:
        """Take the rule away again."""
        subprocess.run([*self.inside, "nft", "delete", "table", "inet", "lookalike"], check=True)


@contextmanager
def namespace() -> Iterator[Namespace]:
    """It ends with everything in it: a veth whose one end goes loses the other."""
    number = _number()
    name, outer = f"lookalike-{os.getpid()}-{number}", f"la{os.getpid() % 100000}n{number % 1000}"
    net = f"198.18.{os.getpid() % 64 * 4 + number // 64 % 4}.{number % 64 * 4}".rpartition(".")
    host, inner = (f"{net[0]}.{int(net[2]) + last}" for last in (1, 2))
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "address", "add", f"{host}/30", "dev", outer)
        _run("ip", "link", "set", outer, "up")
        for words in (f"address add {inner}/30 dev eth0", "link set eth0 up", "link set lo up"):
            _run("ip", "-n", name, *words.split())
        yield Namespace(name, inner)
    finally:
        _run("ip", "netns", "delete", name)


def _number() -> int:
    global _next
    with _numbers:
        _next += 1
        return _next


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)
