"""Healthy programs with several loops, under load: what no proof may ever be found of.

node with a handler that is busy, and a worker thread with a loop of its own; asyncio with two loops in two threads, one
of them busy; nginx with two workers; haproxy with four threads. In each, one loop sleeps while another has work in its
epoll, again and again. Rules as in `programs.py`; the load ends by itself, too.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import servers
from tests.lookalikes.programs import HERE, load, told_by_lines
from tests.lookalikes.watched import HTTP_GET

LOADED_FOR_S = 3600


@dataclass(frozen=True, slots=True)
class Load:
    """Clients an address, and the pause of each between two questions."""

    clients: int
    pause_ms: int


HEAVY = Load(4, 5)  # no loop sleeps for long
LIGHT = Load(1, 150)  # each loop sleeps through whole readings, while another has work


@dataclass(frozen=True, slots=True)
class Healthy:
    """A running program under load; its main process is in the pidfile, too."""

    pid: int
    pidfile: Path


def _healthy(pid: int, directory: Path) -> Healthy:
    pidfile = directory / f"{uuid.uuid4().hex[:8]}.pid"
    pidfile.write_text(f"{pid}\n")
    return Healthy(pid, pidfile)


@contextmanager
def _loaded(running: Healthy, loads: Sequence[Load], *addresses: str) -> Iterator[Healthy]:
    with ExitStack() as stack:
        for address, how in zip(addresses, loads, strict=True):
            stack.enter_context(
                load(address, clients=how.clients, pause_ms=how.pause_ms, ask=HTTP_GET, seconds=LOADED_FOR_S)
            )
        yield running


@contextmanager
def _script(directory: Path, loads: Sequence[Load], *argv: str) -> Iterator[Healthy]:
    """A program that prints the two ports that it answers HTTP on."""
    with told_by_lines(argv, directory) as script:
        ports = script.wait_for("ready ").split()[1:]
        with _loaded(_healthy(script.pid, directory), loads, *(f"127.0.0.1:{port}" for port in ports)) as running:
            yield running


def node(directory: Path, loads: Sequence[Load]) -> AbstractContextManager[Healthy]:
    """busy.js."""
    return _script(directory, loads, "node", str(HERE / "busy.js"))


def two_loops(directory: Path, loads: Sequence[Load]) -> AbstractContextManager[Healthy]:
    """two_loops.py."""
    return _script(directory, loads, sys.executable, "-m", "tests.lookalikes.two_loops")


@contextmanager
def nginx(directory: Path, loads: Sequence[Load]) -> Iterator[Healthy]:
    """Two workers that share their listeners."""
    with servers.nginx(directory, workers=2) as server:
        addresses = (server.address, str(server.path))
        with _loaded(Healthy(server.pid, server.pidfile), loads, *addresses) as running:
            yield running


HAPROXY_CONF = """
global
    nbthread 4
    maxconn 500
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 5s
frontend hello
    bind 127.0.0.1:{port}
    bind unix@{directory}/haproxy.sock
    http-request return status 200 content-type text/plain string hello
"""


@contextmanager
def haproxy_alone(directory: Path) -> Iterator[tuple[servers.Server, int]]:
    """Four threads that share their listeners; the port of one, the other is haproxy.sock in the server's directory."""
    home = directory / f"haproxy-{uuid.uuid4().hex[:8]}"
    home.mkdir()
    port = servers.free_port()
    (home / "haproxy.cfg").write_text(HAPROXY_CONF.format(port=port, directory=home))
    argv = ["/usr/sbin/haproxy", "-db", "-f", str(home / "haproxy.cfg")]
    with servers.running(argv, home) as server:
        request = HTTP_GET.encode()
        servers.wait_ready(server, lambda: servers.ask(("127.0.0.1", port), request, b" 200 "))
        yield server, port


@contextmanager
def haproxy(directory: Path, loads: Sequence[Load]) -> Iterator[Healthy]:
    """The same under load."""
    with haproxy_alone(directory) as (server, port):
        addresses = (f"127.0.0.1:{port}", str(server.directory / "haproxy.sock"))
        with _loaded(_healthy(server.pid, server.directory), loads, *addresses) as running:
            yield running


Program = Callable[[Path, Sequence[Load]], AbstractContextManager[Healthy]]

PROGRAMS: Mapping[str, Program] = {
    "node, a busy handler": node,
    "asyncio, two loops": two_loops,
    "nginx, two workers": nginx,
    "haproxy, four threads": haproxy,
}
LOADS: Mapping[str, Sequence[Load]] = {"heavy": (HEAVY, HEAVY), "light": (LIGHT, LIGHT), "uneven": (HEAVY, LIGHT)}
