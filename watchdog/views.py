"""A guard and a stored incident as the API shows them, and which of their facts go out at all.

Rule: raw evidence stays in the store, for people with rights there; HTTP and webhooks carry the diagnosis in words. The
one exception is `evidence`, which the web room hands only to whom it knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from watchdog import budget
from watchdog.clock import Clock
from watchdog.guard import Guard
from watchdog.ladder import due
from watchdog.maintenance import clause
from watchdog.model import Kind, Observation, Plane, Rung
from watchdog.recording import dump
from watchdog.restraint import DRASTIC, budget_of, spent
from watchdog.store import StoredIncident
from watchdog.store.archive import Archive, Unreadable
from watchdog.verdicts import VERDICTS, Stance
from watchdog.web.view import IncidentView, ProbeView, ServiceView, TimelineView
from watchdog.window import Open

# Of a record's detail: the threads of a nudge, one by one, and those left out; what a command of the config said.
EVIDENCE = frozenset({"threads", "skipped", "output"})
HEAVIEST = 512 * 1024  # bytes of an incident's cases, compressed, that the daemon unpacks in its own memory


def disclosed(detail: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record's detail may leave the host."""
    return {key: value for key, value in detail.items() if key not in EVIDENCE}


def service_view(guard: Guard, clock: Clock, window: Open | None = None) -> ServiceView:
    """The service as it was last seen; with its maintenance window that is open."""
    service, state, seen, diagnosis = guard.service, guard.state, guard.seen, guard.diagnosis
    found = seen.round.observations if seen is not None else {}
    sockets = [found[name].kind for name in found if guard.roads[name].plane is Plane.SOCKET]
    now, pause = clock.now(), state.pause
    return ServiceView(
        name=service.name,
        mode=service.policy.mode,
        verdict=diagnosis.verdict if diagnosis is not None else "unsettled",
        certainty=diagnosis.certainty if diagnosis is not None else "suspected",
        reasons=diagnosis.reasons if diagnosis is not None else ("not looked at yet",),
        against=diagnosis.against if diagnosis is not None else (),
        healthy=diagnosis is not None and VERDICTS[diagnosis.verdict].stance is Stance.GOOD,
        sockets_alive=bool(sockets) and all(kind is Kind.ALIVE for kind in sockets),
        restart_due=state.incident is not None and due(service.policy, state.incident) in DRASTIC,
        paused=pause is not None,
        pause_by=pause.by if pause is not None else "",
        pause_reason=pause.reason if pause is not None else "",
        pause_until=clock.wall_of(pause.until) if pause is not None and pause.until is not None else None,
        window=clause(window),
        acknowledged_by=state.incident.acked_by if state.incident is not None else "",
        holds=state.tally.holds,
        held_for=state.tally.held_for,
        passes=state.incident.passed if state.incident is not None else (),
        pid=seen.epoch.pid if seen is not None and seen.epoch is not None else None,
        last_round_at=clock.wall_of(seen.round.ended) if seen is not None else None,
        probes={name: _probe(guard, name, found.get(name)) for name in service.probes},
        incident=state.incident.id if state.incident is not None else None,
        budgets={
            rung: budget.left(budget_of(service.policy, rung), spent(state, rung), now)
            for rung in (Rung.NUDGE, Rung.RESTART)
        },
    )


def _probe(guard: Guard, name: str, found: Observation | None) -> ProbeView:
    type_, plane = guard.service.probes[name].type, guard.roads[name].plane
    if found is None:
        return ProbeView(type=type_, plane=plane)
    return ProbeView(type=type_, plane=plane, kind=found.kind, latency_s=found.latency, reason=found.reason)


def incident_view(stored: StoredIncident) -> IncidentView:
    """The incident with its timeline."""
    return IncidentView(
        id=stored.id,
        service=stored.service,
        opened=stored.opened,
        closed=stored.closed,
        verdict=stored.verdict,
        certainty=stored.certainty,
        timeline=[
            TimelineView(at=x.at, kind=x.kind, text=x.text, severity=x.severity, detail=disclosed(x.detail))
            for x in stored.records
        ],
    )


def evidence(database: Path, incident: str) -> bytes | None:
    """What was recorded of an incident, as `epoll-watchdog replay` reads it; None where it is not kept. It waits for
    the disk. Raises `Unreadable`, also where it is too much to be unpacked here.
    """
    with Archive(database) as archive:
        for found in archive.incidents(incident):
            if found.summary.id == incident:
                if archive.weight(found) > HEAVIEST:
                    raise Unreadable(
                        f"too much is kept of it for this; run: epoll-watchdog replay --extract . {database}"
                    )
                return dump(archive.recording(found)).encode()
    return None
