"""(h) A thousand services in one daemon, and what a scrape every 5 s adds to the lateness of their probes.

The real daemon with its helper; every service has an http and a tcp probe, at the default interval, all at one nginx,
whose access log tells when each request came. Phases without and with scrapes take turns, so that whatever else the
host does falls on both.
"""

from __future__ import annotations

import http.client
import re
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from bench import needs
from bench.processes import cpu_seconds, memory
from bench.report import Bar, Section, at_most, percentile
from tests.integration.guarding import Guarding, guarding
from tests.servers import Nginx, free_port, nginx
from watchdog.model import Policy

SERVICES = 1000
PROBES = 2
INTERVAL_S = Policy().interval
SCRAPE_EVERY_S = 5.0
STARTS_WITHIN_S = 180.0
ROUNDS_BEFORE = 12  # of each service, when the measuring begins: until then the baselines of all are learned
PHASES = 3  # of each kind
ROUNDS = 5  # of each service in a phase
QUICK = 1, 2
MOST_SERIES = 30  # of a service
MOST_ADDED_MS = 100
ACCEPT = (  # Prometheus' own
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)

HOW = (
    f"{SERVICES:,} services of {PROBES} probes (http, tcp), a round of each every {INTERVAL_S:g} s (the default), all "
    "at one nginx, whose log tells\nwhen each request came. A probe is late by how long it comes after its place in "
    f"the {INTERVAL_S:g} s, the median without scrapes.\n{PHASES} phases without and {PHASES} with a scrape every "
    f"{SCRAPE_EVERY_S:g} s take turns. CPU is in % of one."
)
COLUMNS = ("scrapes", "probes", "late p50 ms", "p99 ms", "p99.9 ms", "worst ms", "CPU %", "RSS MiB", "scrape ms", "kB")

LOGGED = """\
log_format moment '$msec $uri';
server {{ listen {address}; access_log {log} moment; location / {{ default_type text/plain; return 200 "hello\n"; }} }}
"""
SERVICE = """\
[service.service-{number}]
pidfile = "{nginx.pidfile}"
[service.service-{number}.probe.http]
type = "http"
url = "http://{address}/{number}/http"
[service.service-{number}.probe.tcp]
type = "tcp"
address = "{address}"
send = "GET /{number}/tcp HTTP/1.0\\r\\n\\r\\n"
expect = " 200 "
"""


@dataclass(slots=True)
class Kind:
    """What was found in all phases of a kind."""

    windows: list[tuple[float, float]] = field(default_factory=list)  # of the wall clock
    cpu: float = 0.0
    scrapes: list[float] = field(default_factory=list)  # s that each took
    rss: float = 0.0
    size: int = 0  # bytes of a scrape


def run(*, quick: bool) -> Section:
    """Measure. Raises `Missing`."""
    needs.programs(nginx="nginx-light")
    phases, rounds = QUICK if quick else (PHASES, ROUNDS)
    with tempfile.TemporaryDirectory(prefix="epoll-watchdog-bench-") as name:
        directory = Path(name)
        log = directory / "access.log"
        address = f"127.0.0.1:{free_port()}"
        logged = LOGGED.format(address=address, log=log)
        with ExitStack() as stack:
            server = stack.enter_context(nginx(directory, http_config=logged))
            guard = stack.enter_context(guarding(directory, _tables(server, address), within_s=STARTS_WITHIN_S))
            time.sleep((ROUNDS_BEFORE + 0.5) * INTERVAL_S)
            without, scraped = Kind(), Kind()
            for _ in range(phases):
                _phase(guard, without, rounds, scrapes=False)
                _phase(guard, scraped, rounds, scrapes=True)
            series = _series(_scrape(guard)[1])
        arrived = _arrivals(log)
    late = _lateness(arrived, (without, scraped))
    words = ("none", f"every {SCRAPE_EVERY_S:g} s")
    rows = tuple(_row(*kind) for kind in zip(words, (without, scraped), late, strict=True))
    return Section("(h) A thousand services and a scrape", HOW, COLUMNS, rows, tuple(_bars(series, *late)))


def _tables(server: Nginx, address: str) -> str:
    return "".join(SERVICE.format(number=number, nginx=server, address=address) for number in range(SERVICES))


def _phase(guard: Guarding, kind: Kind, rounds: int, *, scrapes: bool) -> None:
    began, spent = time.time(), cpu_seconds(guard.pid)
    for _ in range(int(rounds * INTERVAL_S / SCRAPE_EVERY_S)):
        due = time.monotonic() + SCRAPE_EVERY_S
        if scrapes:
            took, body = _scrape(guard)
            kind.scrapes.append(took)
            kind.size = len(body)
        time.sleep(max(0.0, due - time.monotonic()))
    kind.windows.append((began, time.time()))
    kind.cpu += cpu_seconds(guard.pid) - spent
    kind.rss = memory(guard.pid).rss


def _scrape(guard: Guarding) -> tuple[float, str]:
    began = time.monotonic()
    with closing(http.client.HTTPConnection(guard.daemon.address, timeout=10)) as connection:
        connection.request("GET", "/metrics", headers={"Accept": ACCEPT})
        body = connection.getresponse().read().decode()
    return time.monotonic() - began, body


def _series(body: str) -> int:
    """The most that a service has."""
    return max(Counter(re.findall(r'^[^#].*[{,]name="([^"]+)"', body, re.MULTILINE)).values())


def _arrivals(log: Path) -> dict[str, list[float]]:
    """When each probe's requests came, by its path."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for line in log.read_text().splitlines():
        moment, _, path = line.partition(" ")
        found[path].append(float(moment))
    return {path: sorted(moments) for path, moments in found.items() if path.count("/") == 2}


def _lateness(arrived: dict[str, list[float]], kinds: tuple[Kind, ...]) -> list[list[float]]:
    """Of each probe in the phases of each kind, in ms: how long after its place, where it is without scrapes."""
    found: list[list[float]] = [[] for _ in kinds]
    for moments in arrived.values():
        first = moments[-1]
        offsets = [(moment - first + INTERVAL_S / 2) % INTERVAL_S for moment in moments]
        seen = [
            (offset, number)
            for moment, offset in zip(moments, offsets, strict=True)
            for number, kind in enumerate(kinds)
            if any(began <= moment < ended for began, ended in kind.windows)
        ]
        place = statistics.median(offset for offset, number in seen if number == 0)
        for offset, number in seen:
            found[number].append((offset - place) * 1000)
    return found


def _row(word: str, kind: Kind, late: list[float]) -> tuple[str, ...]:
    seconds = sum(ended - began for began, ended in kind.windows)
    shares = [f"{percentile(late, share):.1f}" for share in (0.5, 0.99, 0.999, 1.0)]
    scrape = f"{statistics.median(kind.scrapes) * 1000:.0f} ({max(kind.scrapes) * 1000:.0f})" if kind.scrapes else "–"
    size = f"{kind.size / 1000:,.0f}" if kind.size else "–"
    return (word, f"{len(late):,}", *shares, f"{kind.cpu / seconds * 100:.1f}", f"{kind.rss:.1f}", scrape, size)


def _bars(series: int, without: list[float], scraped: list[float]) -> Iterator[Bar]:
    yield at_most("series of a service", series, MOST_SERIES, "series")
    added = max(0.0, max(scraped) - max(without))
    yield at_most("what scrapes add to the lateness of the latest probe", added, MOST_ADDED_MS, "ms")
