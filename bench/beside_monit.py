"""(f) The same stalls, guarded by monit at its fastest and by us at the same cycle, in turn.

Each side guards an nginx of the same kind. The clock runs from the moment at which the worker went to sleep to the
first good answer to a client that was connected before and asked at that moment; where its connection was lost, it
connects anew until it is answered. Others are connected meanwhile; how many connections are lost is counted.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import needs
from bench.monit import CYCLE_S, START_S, Restartable, monit, restartable
from bench.report import Bar, Section, at_most_a, none, times
from bench.stalled import BUDGET, next_at, wait_well
from tests.integration.guarding import ENVIRONMENT, guarding
from tests.servers import HRSWRUN_STATUS, Snmpd, snmpd, until
from tests.stall import HTTP, Held, build_shim, held

STALLS = 10
QUICK_STALLS = 2
CONNECTIONS = 10
GIVEN_UP_S = 60.0
PART = 5

HOW = (
    f"Both look once a second (monit's shortest cycle). monit: one failure of 1 s, then nginx's own fast stop, and "
    f"start; no stall\nbegan in the {START_S} s after a start in which it does not test (30 s by default). "
    f"{CONNECTIONS} connections were open at each stall and\nasked when it began; the time is that to the first good "
    "answer, by a new connection where the old one was lost."
)
COLUMNS = ("guarded by", "stalls", "p50 s", "longest s", "to ours", "connections", "lost")

TABLE = """\
[service.nginx]
pidfile = "{nginx.pidfile}"
interval = "{cycle:g}s"
{budget}
[service.nginx.probe.http]
type = "http"
url = "http://127.0.0.1:{nginx.port}/"
[service.nginx.probe.witness]
type = "snmp"
address = "{witness.address}"
oid = "{status}.{{pid}}"
community = {{ env = "SNMP_COMMUNITY" }}
expect = [1, 2]
"""


@dataclass(slots=True)
class Side:
    """Who guards an nginx; `due` waits until it is well and tells when it should lose its next wake-up."""

    name: str
    nginx: Restartable
    due: Callable[[float], float]  # share of a cycle to wall-clock time
    took: list[float] = field(default_factory=list)
    lost: int = 0

    def stall(self, share: float) -> None:
        """One stall, from `share` of a cycle on. Raises `TimeoutError` where nothing ends it."""
        with ExitStack() as stack:
            due = self.due(share)
            clients = [stack.enter_context(held(self.nginx.address, HTTP)) for _ in range(CONNECTIONS)]
            time.sleep(max(0.0, due - time.time()))
            began = self.nginx.lose()
            for client in clients:
                client.ask()
            kept = [_kept(clients[0])]
            if not kept[0]:
                until(self.nginx.answers, GIVEN_UP_S, "an answer on a new connection")
            self.took.append(time.monotonic() - began)
            kept += map(_kept, clients[1:])
        self.lost += kept.count(False)

    @property
    def p50(self) -> float:
        """The median time, in seconds."""
        return statistics.median(self.took)


def run(*, quick: bool) -> Section:
    """Measure. Raises `Missing`."""
    needs.programs(cc="gcc", nginx="nginx-light", snmpd="snmpd", snmpget="snmp", monit="monit")
    stalls = QUICK_STALLS if quick else STALLS
    with tempfile.TemporaryDirectory(prefix="epoll-watchdog-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        library = build_shim(directory)
        theirs = stack.enter_context(restartable(directory / "theirs", library))
        ours = stack.enter_context(restartable(directory / "ours", library))
        stack.enter_context(monit(directory / "monit", theirs))
        witness = stack.enter_context(snmpd(directory))
        guard = stack.enter_context(guarding(directory, _table(ours, witness), env=ENVIRONMENT))

        def after_round(share: float) -> float:
            return next_at(wait_well(guard, "nginx"), CYCLE_S, share, time.time())

        def after_test(share: float) -> float:
            theirs.wait_tested()
            return time.time() + share * CYCLE_S

        sides = Side("epoll-watchdog", ours, after_round), Side("monit", theirs, after_test)
        for number in range(stalls):
            for side in sides:
                side.stall(number / stalls)
    return Section("(f) Beside monit", HOW, COLUMNS, tuple(_rows(*sides)), tuple(_bars(*sides)))


def _table(nginx: Restartable, witness: Snmpd) -> str:
    return TABLE.format(nginx=nginx, witness=witness, cycle=CYCLE_S, budget=BUDGET, status=HRSWRUN_STATUS)


def _kept(client: Held) -> bool:
    """Whether a connection has its answer, and not its end."""
    try:
        client.answer(GIVEN_UP_S)
    except ConnectionError:
        return False
    return True


def _rows(ours: Side, theirs: Side) -> Iterator[tuple[str, ...]]:
    for side in (ours, theirs):
        stalls = len(side.took)
        shown = (f"{side.p50:.2f}", f"{max(side.took):.2f}", times(side.p50, ours.p50))
        yield (side.name, str(stalls), *shown, str(stalls * CONNECTIONS), str(side.lost))


def _bars(ours: Side, theirs: Side) -> Iterator[Bar]:
    yield none("connections lost under epoll-watchdog", ours.lost)
    yield at_most_a("p50 beside monit's", ours.p50, theirs.p50, PART)
