"""What the page shows in a browser: three services of which one is dark, or a hundred, and a past for each."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tests.web.test_web import NOW, RAVENDB, Daemon
from watchdog.history import HOURS, MINUTES
from watchdog.model import Kind, Observation
from watchdog.reading import Family, Queue, Queues
from watchdog.web.view import IncidentView, ProbeView, ServiceView, TimelineView

OPEN = "5c1f7a20-0d5e-4b0a-9f65-3a3f8f0f2b11"  # the id of the open incident
BEGAN = 3.5 * 3600  # s ago: the daemon's start
OUTAGES = (9000.0, 5200.0)  # s ago
DARK = 240.0  # s that each lasted
HOW = {"tcp": "socket", "https": "socket", "unix": "socket", "snmp": "witness"}
REASONS = (
    "the accept queue of 0.0.0.0:443 grew (97, 104, 110) while thread 4719 (.NET Sockets) slept on without waking",
    "snmp (inside) answers",
    "https: silent, no answer within 2s",
    "tcp: silent, no answer within 2s",
)
AGAINST = ("overloaded: no late answer came", "network: the Unix socket is dark, too")


def probe(name: str, kind: str = "alive", latency: float = 0.0012, reason: str = "answered as expected") -> ProbeView:
    """One of `HOW`."""
    type_ = "http" if name == "https" else name
    return ProbeView(type=type_, plane=HOW[name], kind=kind, latency_s=latency, reason=reason)


def healthy(name: str, *probes: str) -> ServiceView:
    """A service that is well."""
    found = {each: probe(each, latency=0.0004 * (place + 2)) for place, each in enumerate(probes)}
    return replace(RAVENDB, name=name, probes=found, last_round_at=time.time() - 2)


def dark(incident: str) -> ServiceView:
    """The postmortem's server."""
    silent = {each: probe(each, "silent", 2.0, "no answer within 2s") for each in ("https", "tcp")}
    return replace(
        healthy("ravendb"),
        verdict="epoll_stall",
        certainty="confirmed",
        reasons=REASONS,
        against=AGAINST,
        healthy=False,
        sockets_alive=False,
        held_for="settling for 2s after the nudge",
        incident=incident,
        probes={**silent, "snmp": probe("snmp", latency=0.004, reason="4711")},
        budgets={"nudge": 4, "restart": 2},
        last_round_at=time.time() - 1,
    )


def incident(id_: str, opened: float, service: str = "ravendb", lasted: float | None = 2.3) -> IncidentView:
    """A lost wake-up that a nudge healed; `lasted` None: it is open still."""
    detail = {"verdict": "epoll_stall", "certainty": "confirmed", "reasons": list(REASONS), "against": list(AGAINST)}
    nudge = {"outcome": "done", "rung": "nudge", "longest_stop_seconds": 0.00071}
    records = [
        TimelineView(
            at=opened,
            kind="opened",
            text="epoll_stall (confirmed): a wake-up was lost: its loop sleeps in epoll_wait",
            severity="warning",
            detail={**detail, "since": opened - 1.2},
        ),
        TimelineView(at=opened + 0.01, kind="acting", text="nudge begins"),
        TimelineView(
            at=opened + 0.05,
            kind="nudged",
            text="nudge done: 1 thread nudged, longest stop 0.71 ms",
            severity="info",
            detail=nudge,
        ),
    ]
    if lasted is not None:
        text = "the first good answer came 4.1ms after the nudge was decided"
        records.append(TimelineView(at=opened + 0.06, kind="answered", text=text))
        records.append(
            TimelineView(at=opened + lasted, kind="resolved", text="healed by nudge after 1.26s", severity="info")
        )
    closed = None if lasted is None else opened + lasted
    return IncidentView(
        id=id_,
        service=service,
        opened=opened,
        closed=closed,
        verdict="epoll_stall",
        certainty="confirmed",
        timeline=records,
    )


def remember(daemon: Daemon, service: ServiceView, outages: Sequence[float] = (), width: int = MINUTES.width) -> None:
    """Let the daemon have looked every `width` seconds since it began; `outages`: how long ago each dark time began."""
    chance = random.Random(service.name)
    for ago in range(int(min(BEGAN, HOURS.seconds)), -1, -width):
        at, is_dark = NOW - ago, any(begun - DARK < ago <= begun for begun in outages)
        found: Mapping[str, Observation] = {
            name: _observed(chance, is_dark and view.plane == "socket", 4 if view.plane == "witness" else 1)
            for name, view in service.probes.items()
        }
        daemon.history.looked(service.name, at, found, width)
        waiting = 110 if is_dark else chance.choice((0, 0, 0, 0, 0, 1))
        queues = (Queue(1, Family.TCP, "0.0.0.0:443", waiting, 128),)
        daemon.history.queued(service.name, at, Queues(at, queues))


def _observed(chance: random.Random, silent: bool, slow: float) -> Observation:
    if silent:
        return Observation(Kind.SILENT, 2.0, "")
    return Observation(Kind.ALIVE, 0.0009 * slow * chance.lognormvariate(0.0, 0.4), "")


def three() -> Daemon:
    """One of three is dark."""
    now = time.time()
    ravendb, nginx = dark(OPEN), healthy("nginx", "https", "unix")
    redis = replace(
        healthy("redis", "tcp", "unix"),
        paused=True,
        pause_by="ann (uid 1000)",
        pause_reason="moving disks",
        pause_until=now + 1800,
    )
    stored = [incident(OPEN, now - 3, lasted=None)]
    stored += [incident(f"{number:x}e4b{number}d02-77aa", now - ago) for number, ago in enumerate(OUTAGES, start=7)]
    daemon = Daemon(guarded=(ravendb, nginx, redis), stored=stored)
    remember(daemon, ravendb, (*OUTAGES, 25.0))
    remember(daemon, nginx)
    remember(daemon, redis)
    return daemon


def hundred() -> Daemon:
    """One of a hundred is dark; a thousand incidents are kept."""
    now = time.time()
    services = [healthy(f"shop-{number:02}.example", "https", "tcp", "unix") for number in range(99)]
    ravendb = dark(OPEN)
    stored = [incident(OPEN, now - 3, lasted=None)]
    stored += [
        incident(f"{number:08x}-77aa", now - 600 * number, f"shop-{number % 99:02}") for number in range(1, 1000)
    ]
    daemon = Daemon(guarded=(*services, ravendb), stored=stored)
    for number, service in enumerate(daemon.guarded):
        outages = (25.0,) if service is ravendb else (OUTAGES[number % 2],) if number % 5 == 0 else ()
        remember(daemon, service, outages, width=60 if service is not ravendb else MINUTES.width)
    return daemon
