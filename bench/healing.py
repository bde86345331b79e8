"""(d) From a stall to the first good answer: the embedded service, made to lose wake-ups under the real daemon.

`interval` and `timeout` are 500 ms, all else is at its default but for the budgets. The clock runs from the moment at
which the service's loop went to sleep to the answer to a client that was connected before and asked at that moment. The
stalls begin at different moments of the daemon's interval, evenly spread.
"""

from __future__ import annotations

import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench.report import Bar, Section, below, percentile
from tests.integration.guarding import ENVIRONMENT, FAST, Guarding, guarding, kinds
from tests.servers import until
from watchdog.demo import child
from watchdog.demo.agent import SYS_UPTIME

STALLS = 20
QUICK_STALLS = 4
INTERVAL_S = 0.5
HEALED_WITHIN_S = 3.0
GIVEN_UP_S = 30.0

HOW = (
    "Seconds from the moment at which the service's loop went to sleep to the first good answer, by a connection that "
    "was\nopen before. Each stall was healed by nudges alone, in the same process, and its incident closed before the "
    "next began."
)
COLUMNS = ("stalls", "p50 s", "p95 s", "longest s", "nudges")

SERVICE = """\
[service.demo]
pidfile = "{at.pidfile}"
budget = {{ nudge = {{ burst = 100000, interval = "1h" }} }}
{fast}
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


class NotHealed(Exception):
    """A stall did not end as it should; the text says how it went."""


def run(*, quick: bool) -> Section:
    """Measure."""
    stalls = QUICK_STALLS if quick else STALLS
    with tempfile.TemporaryDirectory(prefix="epoll-watchdog-bench-") as name, child.service(Path(name)) as service:
        table = SERVICE.format(at=service.addresses, fast=FAST, oid=SYS_UPTIME)
        with guarding(Path(name), table, env=ENVIRONMENT) as guard, closing(_client(service)) as client:
            took = [_stall(service, guard, client, number / stalls * INTERVAL_S) for number in range(stalls)]
            nudges = guard.metric("actions_total", rung="nudge", outcome="done") or 0.0
    shown = (f"{value:.2f}" for value in (statistics.median(took), percentile(took, 0.95), max(took)))
    row = (str(stalls), *shown, f"{nudges:.0f}")
    return Section("(d) From stall to healed", HOW, COLUMNS, (row,), tuple(_bars(took)))


def _client(service: child.Service) -> socket.socket:
    host, port = service.addresses.tcp.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=GIVEN_UP_S)


def _stall(service: child.Service, guard: Guarding, client: socket.socket, wait_s: float) -> float:
    """One stall, `wait_s` after the last one was over; how long it lasted. Raises `NotHealed`, `TimeoutError`."""
    guard.wait_verdict("demo", "healthy", GIVEN_UP_S)
    before = {incident["id"] for incident in guard.incidents("demo")}
    time.sleep(wait_s)
    service.events()  # the end of the last stall is known
    service.lose_wakeup()
    lost = service.next_event()
    client.sendall(b"ping\n")
    answer = client.recv(100)
    took = time.monotonic() - lost.at
    if lost.name != "lost" or answer != b"pong\n":
        raise NotHealed(f"the service told {lost.name!r} and answered {answer!r}")

    def closed() -> bool:
        return any(new["closed"] is not None for new in guard.incidents("demo") if new["id"] not in before)

    until(closed, GIVEN_UP_S, "the incident is closed")
    told = kinds(guard.incidents("demo")[0])
    if "nudged" not in told or "restarted" in told:
        raise NotHealed(f"healed, but not by a nudge: {told}")
    return took


def _bars(took: list[float]) -> Iterator[Bar]:
    yield below("the longest of all stalls", max(took), HEALED_WITHIN_S, "s")
