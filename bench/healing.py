"""(d) From a stall to the first good answer: nginx, redis and the embedded service under the real daemon.

`interval` is 500 ms and all else at its default but for the budgets. The stalls begin at evenly spread moments of the
daemon's interval. One daemon guards nginx and redis, another one the embedded service: three that are sick at once
would be held (`max_sick`). They take turns, so one heals while the incident of another is being closed.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import needs
from bench.report import Bar, Section, below, none, percentile
from bench.stalled import BUDGET, COLUMNS, NotHealed, Subject, nginx_subject, redis_subject
from tests.integration.guarding import ENVIRONMENT, Guarding, guarding
from tests.servers import snmpd
from tests.stall import LINE, build_shim, held
from watchdog.demo import child
from watchdog.demo.agent import SYS_UPTIME

STALLS = {"nginx": 100, "redis": 100, "demo": 20}
QUICK_STALLS = {"nginx": 4, "redis": 4, "demo": 2}
INTERVAL_S = 0.5
KEYS = f'interval = "500ms"\n{BUDGET}'
P50_S = 0.6
P95_S = 1.0
DEMO_WITHIN_S = 3.0

HOW = (
    "Seconds from the moment at which the service's loop went to sleep to the first good answer, by a connection that "
    "was\nopen before. No connection was lost, no process was another afterwards, and each incident was closed before "
    "the service's\nnext stall began."
)

DEMO = """\
[service.demo]
pidfile = "{at.pidfile}"
{keys}
[service.demo.probe.tcp]
type = "tcp"
address = "{at.tcp}"
send = "ping\\n"
expect = "pong"
[service.demo.probe.unix]
type = "unix"
path = "{at.unix}"
send = "ping\\n"
expect = "pong"
[service.demo.probe.snmp]
type = "snmp"
address = "{at.snmp}"
oid = "{oid}"
community = {{ env = "SNMP_COMMUNITY" }}
strength = "inside"
"""


def run(*, quick: bool) -> Section:
    """Measure. Raises `Missing`."""
    needs.programs(cc="gcc", nginx="nginx-light", redis_server="redis-server", snmpd="snmpd", snmpget="snmp")
    stalls = QUICK_STALLS if quick else STALLS
    with tempfile.TemporaryDirectory(prefix="epoll-watchdog-bench-") as name, _guarded(Path(name)) as guarded:
        for number in range(max(stalls.values())):
            for subject, guard in guarded:
                if number < (of_all := stalls[subject.name]):
                    subject.stall(guard, INTERVAL_S, number / of_all)
        rows = tuple(subject.row(guard) for subject, guard in guarded)
        bars = tuple(bar for subject, guard in guarded for bar in _bars(subject, guard))
    return Section("(d) From stall to healed", HOW, COLUMNS, rows, bars)


@contextmanager
def _guarded(directory: Path) -> Iterator[list[tuple[Subject, Guarding]]]:
    """Each subject with the daemon that guards it."""
    library = build_shim(directory)
    with ExitStack() as stack:
        witness = stack.enter_context(snmpd(directory))
        real = [
            stack.enter_context(nginx_subject(directory, library, witness, KEYS)),
            stack.enter_context(redis_subject(directory, library, witness, KEYS)),
        ]
        demo = stack.enter_context(_demo_subject(directory))
        homes = [directory / "guarding", directory / "guarding-demo"]
        tables = ["".join(subject.table for subject in real), demo.table]
        guards = []
        for home, table in zip(homes, tables, strict=True):
            home.mkdir()
            guards.append(stack.enter_context(guarding(home, table, env=ENVIRONMENT)))
        yield [*((subject, guards[0]) for subject in real), (demo, guards[1])]


@contextmanager
def _demo_subject(directory: Path) -> Iterator[Subject]:
    """The embedded service."""
    with child.service(directory) as service:
        host, port = service.addresses.tcp.rsplit(":", 1)
        table = DEMO.format(at=service.addresses, keys=KEYS, oid=SYS_UPTIME)
        with held((host, int(port)), LINE) as client:
            yield Subject("demo", table, client, lambda: _lose(service), lambda: (service.pid,))


def _lose(service: child.Service) -> float:
    service.events()  # the end of the last stall is known
    service.lose_wakeup()
    lost = service.next_event()
    if lost.name != "lost":
        raise NotHealed(f"the service told {lost.name!r}")
    return lost.at


def _bars(subject: Subject, guard: Guarding) -> Iterator[Bar]:
    if subject.name == "demo":
        yield below("the longest stall of demo", max(subject.took), DEMO_WITHIN_S, "s")
    else:
        yield below(f"p50 of {subject.name}", statistics.median(subject.took), P50_S, "s")
        yield below(f"p95 of {subject.name}", percentile(subject.took, 0.95), P95_S, "s")
    yield none(f"restarts of {subject.name}", subject.restarts(guard))
