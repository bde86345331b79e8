"""It lives: slow, starved, paused for a moment, busy in one of its loops, or with nothing to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests import servers
from tests.lookalikes.condition import Scene, Stage
from tests.lookalikes.programs import hogs, load, server, weigh_session
from tests.lookalikes.watched import by_snmpd, http, of_server, watched


@contextmanager
def full_backlog(stage: Stage) -> Iterator[Scene]:
    """It takes a connection each 100 ms, and more come."""
    with (
        server(stage.server, stage.directory, "backlog=4") as running,
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
        ExitStack() as clients,
    ):

        def make() -> None:
            running.order("slow 100")
            clients.enter_context(load(running.address, str(running.unix), clients=12))

        def undo() -> None:
            running.order("free 0")
            clients.close()

        yield Scene(daemon, make, undo)


@contextmanager
def slow_backend(stage: Stage) -> Iterator[Scene]:
    """nginx waits for a backend that answers after 4 s."""
    with server(stage.server, stage.directory, "pool=32") as backend:
        location = f"location /api/ {{ proxy_pass http://{backend.address}; }}"
        with servers.nginx(stage.directory, server_config=location) as running:
            probes = http(f"{running.url}api/"), by_snmpd(stage.snmpd)
            with watched(stage.directory, running.pidfile, *probes) as daemon:
                yield Scene(daemon, lambda: backend.order("delay 4000"), lambda: backend.order("free 0"))


@contextmanager
def paused(stage: Stage) -> Iterator[Scene]:
    """All threads stand still for 3 s, the witness' too, as for a garbage collection."""
    with (
        server(stage.server, stage.directory, "loops=2") as running,
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
    ):
        yield Scene(daemon, lambda: running.order("pause 3000"))


@contextmanager
def idle(stage: Stage) -> Iterator[Scene]:
    """Nobody asks it but the probes."""
    with (
        server(stage.server, stage.directory, "loops=4") as running,
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
    ):
        yield Scene(daemon, lambda: None)


@contextmanager
def busy_loop(stage: Stage) -> Iterator[Scene]:
    """One of two loops burns 15 ms for each request, and always has one."""
    with (
        server(stage.server, stage.directory, "loops=2") as running,
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
        ExitStack() as clients,
    ):

        def make() -> None:
            running.order("work 1 15")
            clients.enter_context(load(running.address, clients=2, pause_ms=2))

        yield Scene(daemon, make)


@contextmanager
def starved_threads(stage: Stage) -> Iterator[Scene]:
    """Four threads wait on one epoll, have much to do, and get hardly any CPU."""
    with (
        server(stage.server, stage.directory, "loops=4", "epolls=one", before=("nice", "-n", "19")) as running,
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
        ExitStack() as others,
    ):

        def make() -> None:
            weigh_session(running.pid, 19)
            others.enter_context(load(running.address, clients=8, pause_ms=10))
            others.enter_context(hogs(6, cpu_s=10))

        yield Scene(daemon, make, others.close)


@contextmanager
def starved_host(stage: Stage) -> Iterator[Scene]:
    """Dozens of processes that go first take all CPU, from the watchdog too."""
    with (
        server(stage.server, stage.directory, "loops=2") as running,
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
        ExitStack() as others,
    ):

        def make() -> None:
            others.enter_context(load(running.address, clients=4, pause_ms=20))
            others.enter_context(hogs(24, niceness=-10, cpu_s=1))

        yield Scene(daemon, make, others.close)
