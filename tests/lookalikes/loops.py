"""The loop or its program is what is wrong: busy, blocked, out of descriptors, deaf, its pool used up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

from tests import servers
from tests.lookalikes.condition import Scene, Stage
from tests.lookalikes.programs import server
from tests.lookalikes.watched import of_redis, of_server, watched
from tests.stall import LINE, connect, kicker

ENDLESS = b'EVAL "while true do end" 0\r\n'


@contextmanager
def cpu_bound(stage: Stage) -> Iterator[Scene]:
    """redis runs a script without an end, and is told to answer nobody meanwhile."""
    with (
        servers.redis(stage.directory, config=("--busy-reply-threshold", "0")) as running,
        watched(stage.directory, running.pidfile, *of_redis(running, stage.snmpd)) as daemon,
        closing(connect(str(running.path))) as client,
    ):
        yield Scene(daemon, lambda: client.sendall(ENDLESS))


def ordered(order: str, *options: str) -> Callable[[Stage], AbstractContextManager[Scene]]:
    """The suite's own server, made sick by one order; "free" and one more connection (a new edge) make it well."""

    @contextmanager
    def staged(stage: Stage) -> Iterator[Scene]:
        with (
            server(stage.server, stage.directory, *options) as running,
            watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
        ):

            def undo() -> None:
                running.order("free 0")
                running.wait_for("freed")  # the edge of a connection that comes before is lost to it, too
                kicker(("127.0.0.1", running.tcp), LINE[0])()
                kicker(str(running.unix), LINE[0])()

            yield Scene(daemon, lambda: running.order(order), undo)

    return staged


@contextmanager
def closed(stage: Stage) -> Iterator[Scene]:
    """Its listeners are closed; nothing opens them again."""
    with (
        server(stage.server, stage.directory) as running,
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
    ):
        yield Scene(daemon, lambda: running.order("close 0"))
