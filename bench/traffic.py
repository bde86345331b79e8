"""(e) The same under traffic, at the default interval: nginx and redis, found by the tripwire.

All is at its default but for the budgets: a round every 5 s. A few clients ask all the time on fresh connections, so
the accept queues fill when a loop sleeps. The stalls begin at evenly spread moments of the 5 s: most of them long
before the next round.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench import needs
from bench.report import Section, below, none, percentile
from bench.stalled import BUDGET, COLUMNS, nginx_subject, redis_subject
from tests.integration.guarding import ENVIRONMENT, guarding
from tests.lookalikes.programs import load
from tests.servers import snmpd
from tests.stall import PING, build_shim
from watchdog.model import Policy

STALLS = 20  # of each
QUICK_STALLS = 3
INTERVAL_S = Policy().interval
P95_S = 1.0
CLIENTS = 4  # of each service
PAUSE_MS = 20  # of a client, between two questions
LASTS_S = 900  # at most
GET = "GET / HTTP/1.0\r\n\r\n"

HOW = (
    f"As (d), but at the default interval of {INTERVAL_S:g} s and with {CLIENTS} clients of each service that ask on "
    f"fresh connections, with pauses\nof {PAUSE_MS} ms. Half of the stalls begin more than {INTERVAL_S / 2:g} s before "
    "the next round: the tripwire finds them."
)


def run(*, quick: bool) -> Section:
    """Measure. Raises `Missing`."""
    needs.programs(cc="gcc", nginx="nginx-light", redis_server="redis-server", snmpd="snmpd", snmpget="snmp")
    stalls = QUICK_STALLS if quick else STALLS
    with tempfile.TemporaryDirectory(prefix="epoll-watchdog-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        library = build_shim(directory)
        witness = stack.enter_context(snmpd(directory))
        web = stack.enter_context(nginx_subject(directory, library, witness, BUDGET))
        cache = stack.enter_context(redis_subject(directory, library, witness, BUDGET))
        for subject, question in ((web, GET), (cache, PING[0].decode())):
            traffic = load(subject.address, clients=CLIENTS, pause_ms=PAUSE_MS, ask=question, seconds=LASTS_S)
            stack.enter_context(traffic)
        guard = stack.enter_context(guarding(directory, web.table + cache.table, env=ENVIRONMENT))
        for number in range(stalls):
            for subject in (web, cache):
                subject.stall(guard, INTERVAL_S, number / stalls)
        rows = (web.row(guard), cache.row(guard))
        bars = (
            below("p95 of all stalls", percentile(web.took + cache.took, 0.95), P95_S, "s"),
            none("restarts", web.restarts(guard) + cache.restarts(guard)),
        )
    return Section("(e) From stall to healed under traffic", HOW, COLUMNS, rows, bars)
