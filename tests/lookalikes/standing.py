"""The process stands still, or is gone: stopped, frozen, held by a debugger, in state D, killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests import servers
from tests.lookalikes.condition import Scene, Stage
from tests.lookalikes.programs import freezer, held_by_a_debugger, server
from tests.lookalikes.watched import of_nginx, of_redis, of_server, watched


@contextmanager
def sigstop(stage: Stage) -> Iterator[Scene]:
    """nginx's only worker is stopped, its master is not."""
    with (
        servers.nginx(stage.directory) as running,
        watched(stage.directory, running.pidfile, *of_nginx(running, stage.snmpd)) as daemon,
    ):
        [worker] = running.children()
        yield Scene(daemon, lambda: os.kill(worker, signal.SIGSTOP), lambda: os.kill(worker, signal.SIGCONT))


@contextmanager
def frozen(stage: Stage) -> Iterator[Scene]:
    """By its cgroup: it shows state S and the same system call as before."""
    with (
        servers.redis(stage.directory) as running,
        freezer(running.pid) as set_frozen,
        watched(stage.directory, running.pidfile, *of_redis(running, stage.snmpd)) as daemon,
    ):
        yield Scene(daemon, lambda: set_frozen(True), lambda: set_frozen(False))


@contextmanager
def debugged(stage: Stage) -> Iterator[Scene]:
    """Every thread stands before a tracer."""
    with (
        servers.redis(stage.directory) as running,
        watched(stage.directory, running.pidfile, *of_redis(running, stage.snmpd)) as daemon,
        ExitStack() as held,
    ):
        yield Scene(daemon, lambda: held.enter_context(held_by_a_debugger(running.pid, stage.directory)), held.close)


@contextmanager
def uninterruptible(stage: Stage) -> Iterator[Scene]:
    """The loop's thread sleeps in state D, as before a disk that does not answer."""
    with (
        server(stage.server, stage.directory) as running,
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
    ):
        yield Scene(daemon, lambda: running.order("vfork 0"), lambda: running.order("free 0"))


@contextmanager
def killed(stage: Stage) -> Iterator[Scene]:
    """SIGKILL; nobody starts it again."""
    with (
        servers.redis(stage.directory) as running,
        watched(stage.directory, running.pidfile, *of_redis(running, stage.snmpd)) as daemon,
    ):
        yield Scene(daemon, running.process.kill)
