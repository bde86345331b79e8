"""(c) Resident memory and idle CPU of brain and helper, with 1 and 10 services of 3 probes each; and of the tripwire.

The real daemon (`python -m watchdog run`) with its helper and one webhook, at the default interval. Each service is
asked by a tcp probe (redis), an http probe (nginx) and an snmp probe (snmpd): together these load the most code. With
10 services once more, but for the tripwire, which reads all accept queues four times a second: what it costs is the
difference. The measuring begins when the baselines are known, so that the helper has nothing to do.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import needs
from bench.processes import Memory, cpu_seconds, memory
from bench.report import Bar, Section, at_most
from tests.integration.guarding import ENVIRONMENT, Guarding, guarding
from tests.servers import SYS_UPTIME, Nginx, Redis, Snmpd, nginx, redis, snmpd
from watchdog.model import Policy

SETUPS = ((1, True), (10, True), (10, False))  # services, and whether the tripwire reads as often as by default
NO_TRIPWIRE = 'tripwire = "1h"\n'
PROBES = 3
BRAIN_MIB = 64
HELPER_MIB = 16
INTERVAL_S = Policy().interval
ROUNDS_BEFORE = 3  # of each service, when the measuring begins
ROUNDS = 4
QUICK_ROUNDS = 2

HOW = (
    f"RSS is what the process holds, PSS its share where pages are shared. CPU is measured over {ROUNDS} rounds of "
    f"each service,\none every {INTERVAL_S:g} s (the default), in % of one CPU; by probe: all of that time divided by "
    "the number of probes, so that\ndiagnosis, metrics and all else are in it. The tripwire reads every 250 ms (the "
    "default), or once an hour."
)
COLUMNS = ("services", "tripwire", "process", "RSS MiB", "PSS MiB", "idle CPU %", "CPU by probe us")

SERVICE = """\
[service.service-{number}]
pidfile = "{redis.pidfile}"
[service.service-{number}.probe.tcp]
type = "tcp"
address = "{redis.address}"
send = "PING\\n"
expect = "PONG"
[service.service-{number}.probe.http]
type = "http"
url = "{nginx.url}"
[service.service-{number}.probe.snmp]
type = "snmp"
address = "{snmpd.address}"
oid = "{oid}"
community = {{ env = "SNMP_COMMUNITY" }}
"""


@dataclass(frozen=True, slots=True)
class Found:
    """One process of the daemon's, with that many services."""

    services: int
    tripwire: bool
    process: str
    memory: Memory
    cpu_share: float  # of one CPU
    probe_us: float | None


class Restless(Exception):
    """The daemon did something else than to look at healthy services; the text says what."""


def run(*, quick: bool) -> Section:
    """Measure. Raises `Missing`."""
    needs.programs(nginx="nginx-light", redis_server="redis-server", snmpd="snmpd", snmpget="snmp")
    found: list[Found] = []
    with tempfile.TemporaryDirectory(prefix="epoll-watchdog-bench-") as name, ExitStack() as servers:
        directory = Path(name)
        to = (
            servers.enter_context(redis(directory)),
            servers.enter_context(nginx(directory)),
            servers.enter_context(snmpd(directory)),
        )
        for services, tripwire in SETUPS:
            home = directory / f"guarding-{services}-{tripwire}"
            home.mkdir()
            general = "" if tripwire else NO_TRIPWIRE
            with guarding(home, _tables(services, *to), general=general, env=ENVIRONMENT) as guard:
                rounds = QUICK_ROUNDS if quick else ROUNDS
                found += (Found(services, tripwire, *of_process) for of_process in _rest(guard, services, rounds))
    return Section("(c) Memory and idle CPU", HOW, COLUMNS, tuple(map(_row, found)), tuple(_bars(found)))


def _tables(services: int, redis: Redis, nginx: Nginx, snmpd: Snmpd) -> str:
    values = {"redis": redis, "nginx": nginx, "snmpd": snmpd, "oid": SYS_UPTIME}
    return "".join(SERVICE.format(number=number, **values) for number in range(services))


def _rest(guard: Guarding, services: int, rounds: int) -> Iterator[tuple[str, Memory, float, float | None]]:
    """Brain and helper, while everything is well and nobody asks them anything, as in `Found`. Raises `Restless`."""
    time.sleep((ROUNDS_BEFORE + 0.5) * INTERVAL_S)  # to begin and end between two rounds of each service
    processes = {"brain": guard.pid, "helper": guard.helper()}
    before = _probes(guard)
    spent = {name: -cpu_seconds(pid) for name, pid in processes.items()}
    began = time.monotonic()
    time.sleep(rounds * INTERVAL_S)
    spent = {name: spent[name] + cpu_seconds(pid) for name, pid in processes.items()}
    took = time.monotonic() - began
    held = {name: memory(pid) for name, pid in processes.items()}
    probes = _probes(guard) - before
    verdicts = {view["verdict"] for view in guard.daemon.get("/api/v1/services")["services"]}
    if verdicts != {"healthy"} or probes != rounds * services * PROBES:
        raise Restless(f"{probes:.0f} probes in {rounds} rounds of {services} services; verdicts: {verdicts}")
    for name in processes:
        probe_us = spent[name] / probes * 1e6 if name == "brain" else None
        yield name, held[name], spent[name] / took, probe_us


def _probes(guard: Guarding) -> float:
    """How many the daemon has made so far."""
    return sum(guard.metric("probe_seconds_count", type=kind) or 0.0 for kind in ("tcp", "http", "snmp"))


def _row(found: Found) -> tuple[str, ...]:
    probe = f"{found.probe_us:.0f}" if found.probe_us is not None else "–"
    share = f"{found.cpu_share * 100:.2f}"
    tripwire = "250 ms" if found.tripwire else "1 h"
    return (
        str(found.services),
        tripwire,
        found.process,
        f"{found.memory.rss:.1f}",
        f"{found.memory.pss:.1f}",
        share,
        probe,
    )


def _bars(found: list[Found]) -> Iterator[Bar]:
    limits = {"brain": BRAIN_MIB, "helper": HELPER_MIB}
    for of_process in (of_process for of_process in found if of_process.tripwire):
        what = f"RSS of the {of_process.process} with {PROBES} probes for each service, services: {of_process.services}"
        yield at_most(what, of_process.memory.rss, limits[of_process.process], "MiB")
