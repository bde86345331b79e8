"""A daemon of the test's, for which a real server answers; and the command that asks it, run as people run it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from watchdog.history import Past, Span
from watchdog.web.bell import Bell
from watchdog.web.view import IncidentView, ProbeView, ServiceView, TimelineView, Unavailable

HEALTHY = ServiceView(
    name="redis",
    mode="full",
    verdict="healthy",
    certainty="suspected",
    reasons=(),
    healthy=True,
    sockets_alive=True,
    restart_due=False,
    paused=False,
    probes={"tcp": ProbeView(type="tcp", plane="socket", kind="alive", latency_s=0.0012, reason="answered")},
    budgets={"nudge": 5, "restart": 2},
)
DARK = replace(
    HEALTHY,
    name="nginx",
    mode="nudge",
    verdict="epoll_stall",
    reasons=("every socket is dark while snmp (inside) answers",),
    healthy=False,
    paused=True,
    holds=("paused",),
    incident="0123456789abcdef",
    probes={"tcp": ProbeView(type="tcp", plane="socket", kind="silent", latency_s=2.0)},
)
OPENED = 1_700_000_000.5


def told(after: float, kind: str, text: str, severity: str | None = None, **detail: object) -> TimelineView:
    """A record of an incident that was opened at `OPENED`."""
    return TimelineView(at=OPENED + after, kind=kind, text=text, severity=severity, detail=detail)


HEALED = IncidentView(
    id="0123456789abcdef",
    service="nginx",
    opened=OPENED,
    closed=OPENED + 75.0,
    verdict="epoll_stall",
    certainty="confirmed",
    timeline=[
        told(
            0.0,
            "opened",
            "hung (suspected): sockets and witnesses are dark, the process is there",
            "warning",
            since=OPENED - 1.5,
            verdict="hung",
            certainty="suspected",
            reasons=["every socket and every witness is dark"],
            against=["epoll_stall: no witness is alive"],
        ),
        told(0.5, "held", "nudge waits: the last remedy is given time", reason="settling", rung="nudge"),
        told(
            1.0,
            "verdict",
            "epoll_stall (confirmed): a wake-up was lost: its loop sleeps in epoll_wait",
            "info",
            verdict="epoll_stall",
            certainty="confirmed",
            reasons=["thread 7 (loop) slept on while the accept queue grew"],
            against=["loop_busy: no thread of a loop burns CPU"],
        ),
        told(1.0, "acting", "nudge begins"),
        told(
            1.2,
            "nudged",
            "nudge refused: not permitted",
            "info",
            rung="nudge",
            outcome="refused",
            hint="grant CAP_SYS_PTRACE",
        ),
        told(1.2, "passed", "nudge passed over: its budget is spent: 1 in 1h", rung="nudge", reason="budget_spent"),
        told(1.3, "acting", "restart begins"),
        told(3.0, "restarted", "restart done: it runs again", "warning", rung="restart", outcome="done"),
        told(3.5, "answered", "the first good answer came 2.2s after the restart was decided", rung="restart"),
        told(75.0, "resolved", "healed by restart after 1m14s", "info", rung="restart", ended=""),
    ],
)
STANDING = IncidentView(
    id="0123ffff89abcdef",
    service="redis",
    opened=OPENED + 100.0,
    closed=None,
    verdict="loop_busy",
    certainty="confirmed",
    timeline=[
        told(
            100.0,
            "opened",
            "loop_busy (confirmed): its loop burns CPU and serves nobody",
            "warning",
            reasons=["thread 9 (main) used 99 % of a CPU"],
            against=[],
        ),
        told(100.0, "escalated", "loop_busy since 1s; no remedy fits or was allowed", "critical"),
    ],
)


@dataclass
class Daemon:
    """What the commands ask; a real server answers for it."""

    shown: Sequence[ServiceView] = ()
    stored: Sequence[IncidentView] = ()
    kept: dict[str, bytes] = field(default_factory=dict)  # evidence
    exposed: bytes = b""  # metrics
    address: str = ""
    fault: str = ""  # why incidents can't be told
    bell: Bell = field(default_factory=Bell)

    def services(self) -> Sequence[ServiceView]:
        """As set."""
        return self.shown

    def past(self, service: str, spans: Collection[Span]) -> Past:
        """Nothing: no command shows it."""
        return Past()

    async def incidents(
        self, service: str | None, limit: int, skip: int = 0, only_open: bool = False
    ) -> Sequence[IncidentView]:
        """As the store tells them: newest first."""
        if self.fault:
            raise Unavailable(self.fault)
        found = [incident for incident in self.stored if service in (None, incident.service)]
        return sorted(found, key=lambda incident: -incident.opened)[skip : skip + limit]

    async def incident(self, incident: str) -> IncidentView | None:
        """Of those that are stored."""
        return next((each for each in self.stored if each.id == incident), None)

    async def evidence(self, incident: str) -> bytes | None:
        """As set."""
        return self.kept.get(incident)

    def ready(self) -> bool:
        """It is."""
        return True

    def healthy(self) -> bool:
        """It is."""
        return True

    def metrics(self, accept: str) -> tuple[Iterator[bytes], str]:
        """As set."""
        return iter((self.exposed,)), "text/plain"


async def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, with 80 columns and no terminal."""
    command = [sys.executable, "-P", "-m", "watchdog", *arguments]
    env = {"COLUMNS": "80", "TZ": "UTC", **environment}
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=30, env=env, check=False
    )


def words(text: str) -> str:
    """Without the breaks of the lines."""
    return " ".join(text.split())
