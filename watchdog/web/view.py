"""What the web room asks of the daemon, and nothing else of it: plain frozen values behind one Protocol.

Times are of the wall clock, in seconds; durations in seconds. Whatever is in these values is shown to anybody who may
connect: no secret, no evidence. The one exception is `View.evidence`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from watchdog.history import Past, Span
from watchdog.web.bell import Bell


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeView:
    """A probe, and what it last found. `kind` is None until it first ended."""

    type: str
    plane: str
    kind: str | None = None
    latency_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """A service now. `healthy`: its last diagnosis says so; False before the first one."""

    name: str
    mode: str
    verdict: str
    certainty: str
    reasons: Sequence[str]
    healthy: bool
    sockets_alive: bool
    restart_due: bool
    paused: bool
    pause_by: str = ""  # who asked for it
    pause_reason: str = ""
    pause_until: float | None = None  # None: until told otherwise
    window: str = ""  # the maintenance window that is open, in a clause
    acknowledged_by: str = ""  # of the open incident
    against: Sequence[str] = ()  # which other verdicts lost, and why
    holds: Sequence[str] = ()  # what keeps the due rung waiting: its word
    held_for: str = ""  # the same in a clause
    passes: Sequence[str] = ()  # the rungs that were passed over in the open incident: "restart: start_limit"
    pid: int | None = None
    last_round_at: float | None = None
    probes: Mapping[str, ProbeView] = field(default_factory=dict)
    incident: str | None = None  # the id of the open one
    budgets: Mapping[str, int] = field(default_factory=dict)  # uses left, by rung


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineView:
    """A record of an incident."""

    at: float
    kind: str
    text: str
    severity: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentView:
    """An incident with all that was recorded of it, oldest first. `closed` is None while it is open."""

    id: str
    service: str
    opened: float
    closed: float | None
    verdict: str
    certainty: str
    timeline: Sequence[TimelineView] = ()


class Unavailable(Exception):
    """What was asked for can't be told now; the text says why."""


class View(Protocol):
    """The daemon, as seen from here."""

    def services(self) -> Sequence[ServiceView]:
        """Every guarded service, in the order of the config."""

    @property
    def bell(self) -> Bell:
        """Rung when something changed of what is shown."""

    def past(self, service: str, spans: Collection[Span]) -> Past:
        """What is remembered of the service's last hours, over these spans."""

    async def incidents(
        self, service: str | None, limit: int, skip: int = 0, only_open: bool = False
    ) -> Sequence[IncidentView]:
        """The newest incidents after the first `skip`, newest first; of one service, if it is named. Raises
        `Unavailable`.
        """

    async def incident(self, incident: str) -> IncidentView | None:
        """The incident of that id; None where it is not kept. Raises `Unavailable`."""

    async def evidence(self, incident: str) -> bytes | None:
        """All that is kept of an incident, as JSON; None where it is not kept. Raises `Unavailable`."""

    def ready(self) -> bool:
        """Whether every service had its first round."""

    def healthy(self) -> bool:
        """Whether the daemon's own loop ticks as it should."""

    def metrics(self, accept: str) -> tuple[Iterator[bytes], str]:
        """The exposition for this Accept header, in pieces that take 2 ms each or less, and its content type."""
