"""Real programs that lose a wake-up when they are told to, under the real daemon, and how long that is felt.

What (d) and (e) share. The clock runs from the moment at which a loop went to sleep, told by who put it to sleep (the
shim, or the embedded service), to the first good answer to a client that was connected before and asked at that moment.
Rules: a stall begins once the one before is over for the daemon (incident closed, verdict healthy), at a chosen part of
the daemon's interval; what woke the loop for its last time waits nowhere afterwards; a lost connection, another process
or an answer that never comes ends the section.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from bench.report import percentile
from tests.integration.guarding import Guarding, nginx_table, redis_table
from tests.servers import Snmpd, nginx, redis, until
from tests.stall import HTTP, PING, Held, Shim, held, kicker, shim_for
from watchdog.model import Outcome

GIVEN_UP_S = 60.0  # a stall that is healed later than it should be is told as what it took
BUDGET = 'budget = { nudge = { burst = 100000, interval = "1h" } }\n'  # for more stalls than anybody has in an hour
COLUMNS = ("service", "stalls", "p50 s", "p95 s", "longest s", "nudges", "restarts")


class NotHealed(Exception):
    """A stall did not end as it should; the text says how it went."""


@dataclass(slots=True)
class Subject:
    """A service, its `[service.…]` table, a client that is connected to it, and what its stalls came to."""

    name: str
    table: str
    client: Held
    lose: Callable[[], float]  # its loop goes to sleep; when, by CLOCK_MONOTONIC
    pids: Callable[[], tuple[int, ...]]  # others after a restart
    address: str = ""
    took: list[float] = field(default_factory=list)

    def stall(self, guard: Guarding, interval_s: float, share: float) -> None:
        """One stall, `share` of an interval after a round. Raises `NotHealed`, or `OSError` for a lost connection."""
        before = self.pids()
        due = next_at(wait_well(guard, self.name), interval_s, share, time.time())
        time.sleep(max(0.0, due - time.time()))
        lost = self.lose()
        self.client.ask()
        try:
            self.client.answer(GIVEN_UP_S)
        except TimeoutError:
            raise NotHealed(f"no answer within {GIVEN_UP_S:g} s\n{guard.daemon.said()[-4000:]}") from None
        self.took.append(time.monotonic() - lost)
        if self.pids() != before:
            raise NotHealed(f"{self.name} was {before} and is {self.pids()}")

    def row(self, guard: Guarding) -> tuple[str, ...]:
        """Its row of the table."""
        figures = (statistics.median(self.took), percentile(self.took, 0.95), max(self.took))
        nudges = guard.metric("actions_total", name=self.name, rung="nudge", outcome="done") or 0.0
        counts = (f"{nudges:.0f}", f"{self.restarts(guard):.0f}")
        return (self.name, str(len(self.took)), *(f"{value:.2f}" for value in figures), *counts)

    def restarts(self, guard: Guarding) -> float:
        """How many of it were done or tried."""
        return sum(guard.metric("actions_total", name=self.name, rung="restart", outcome=how) or 0.0 for how in Outcome)


def next_at(last_round: float, interval: float, share: float, now: float) -> float:
    """The next moment, not in the past, that lies `share` of an interval after a round; rounds have that interval."""
    first = last_round + share * interval
    return first + max(0, math.ceil((now - first) / interval)) * interval


def wait_well(guard: Guarding, name: str) -> float:
    """Until nothing is left of the last stall; the wall-clock time of the last round."""

    def well() -> bool:
        view = guard.service(name)
        return view["incident"] is None and view["verdict"] == "healthy"

    try:
        until(well, GIVEN_UP_S, f"{name} is well")
    except TimeoutError as error:
        raise NotHealed(f"{error}\n{guard.daemon.said()[-4000:]}") from None
    return datetime.fromisoformat(guard.service(name)["last_round_at"]).timestamp()


@contextmanager
def nginx_subject(directory: Path, library: Path, witness: Snmpd, keys: str) -> Iterator[Subject]:
    """Debian's nginx with one worker; `keys` are those of its table."""
    shim = shim_for(library, directory / "nginx-shim")
    with nginx(directory, env=shim.environment) as server, held(("127.0.0.1", server.port), HTTP) as client:
        lose = losing(shim, kicker(("127.0.0.1", server.port), HTTP[0]))
        yield Subject("nginx", nginx_table(server, witness, keys), client, lose, server.children, server.address)


@contextmanager
def redis_subject(directory: Path, library: Path, witness: Snmpd, keys: str) -> Iterator[Subject]:
    """Debian's redis; `keys` are those of its table."""
    shim = shim_for(library, directory / "redis-shim")
    with redis(directory, env=shim.environment) as server, held(("127.0.0.1", server.port), PING) as client:
        lose = losing(shim, kicker(("127.0.0.1", server.port), PING[0]))
        yield Subject("redis", redis_table(server, witness, keys), client, lose, lambda: (server.pid,), server.address)


def losing(shim: Shim, kick: Callable[[], None]) -> Callable[[], float]:
    """Makes the one loop of a program lose a wake-up; when it went to sleep. It is kicked once: more would wait."""

    def lose() -> float:
        kicks = iter([kick])

        def once() -> None:
            for due in kicks:
                due()

        [lost] = shim.stall(once)
        return lost.at

    return lose
