"""Lost wake-ups, of all loops and of one among four. On a sound kernel they are imitated: shim, demo, server.c."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests import servers
from tests.lookalikes.condition import Scene, Stage
from tests.lookalikes.programs import load, server
from tests.lookalikes.watched import inside, of_nginx, of_redis, of_server, tcp, unix, watched
from tests.stall import HTTP, kicker, shim_for
from watchdog.demo import child


@contextmanager
def nginx(stage: Stage) -> Iterator[Scene]:
    """Both workers."""
    shim = shim_for(stage.shim, stage.directory / "shim")
    with (
        servers.nginx(stage.directory, workers=2, env=shim.environment) as running,
        watched(stage.directory, running.pidfile, *of_nginx(running, stage.snmpd)) as daemon,
    ):
        kick = kicker(("127.0.0.1", running.port), HTTP[0])
        yield Scene(daemon, lambda: shim.stall(kick, loops=2))


@contextmanager
def redis(stage: Stage) -> Iterator[Scene]:
    """Its one loop; the time-out that it asked for is gone."""
    shim = shim_for(stage.shim, stage.directory / "shim")
    with (
        servers.redis(stage.directory, env=shim.environment) as running,
        watched(stage.directory, running.pidfile, *of_redis(running, stage.snmpd)) as daemon,
    ):
        yield Scene(daemon, lambda: shim.stall(lambda: None))


@contextmanager
def demo(stage: Stage) -> Iterator[Scene]:
    """The embedded service."""
    home = stage.directory / "demo"
    home.mkdir()
    with child.service(home) as service:
        at = service.addresses
        probes = tcp(at.tcp), unix(at.unix), inside(at.snmp)
        with watched(stage.directory, at.pidfile, *probes) as daemon:
            yield Scene(daemon, service.lose_wakeup)


@contextmanager
def all_of_four(stage: Stage) -> Iterator[Scene]:
    """Every loop of four, each with a listener of its own."""
    with (
        server(stage.server, stage.directory, "loops=4") as running,
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
    ):
        yield Scene(daemon, lambda: running.order(*(f"park {loop}" for loop in range(4))))


@contextmanager
def one_of_four(stage: Stage) -> Iterator[Scene]:
    """A quarter of the connections is dark, at random; nobody connects but the probes."""
    with (
        server(stage.server, stage.directory, "loops=4") as running,
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
    ):
        yield Scene(daemon, lambda: running.order("park 2"))


@contextmanager
def one_of_four_under_traffic(stage: Stage) -> Iterator[Scene]:
    """The same, edge-triggered, with clients."""
    with (
        server(stage.server, stage.directory, "loops=4", "trigger=edge") as running,
        load(running.address, clients=8, pause_ms=50),
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
    ):
        yield Scene(daemon, lambda: running.order("park 2"))


@contextmanager
def the_first_of_four(stage: Stage) -> Iterator[Scene]:
    """The one that serves the Unix socket: that one is always dark, TCP now and then."""
    with (
        server(stage.server, stage.directory, "loops=4") as running,
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
    ):
        yield Scene(daemon, lambda: running.order("park 0"))
