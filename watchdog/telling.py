"""What is told of an incident: the records that a step hands out, in their words. Pure.

A record with a severity is an alert; without one it is only kept. Its detail holds plain values, and always what the
incident is by then.
"""

from __future__ import annotations

from dataclasses import replace

from watchdog.model import (
    Diagnosis,
    Incident,
    Looked,
    Outcome,
    Performed,
    Record,
    RecordKind,
    Rung,
    Severity,
)
from watchdog.settings import format_duration
from watchdog.verdicts import VERDICTS

PERFORMED = {Rung.NUDGE: RecordKind.NUDGED, Rung.RESTART: RecordKind.RESTARTED, Rung.CAPTURE: RecordKind.CAPTURED}


def tell(
    kind: RecordKind,
    now: float,
    incident: Incident,
    text: str,
    severity: Severity | None,
    seen: Diagnosis | None = None,
) -> Record:
    """A record of an incident; with `seen`, what spoke for and against its verdict is in it."""
    detail: dict[str, object] = {
        "verdict": str(incident.verdict),
        "certainty": str(incident.certainty),
        "tried": [str(rung) for rung in incident.tried],
        "since": incident.since,
    }
    if seen is not None:
        detail["reasons"] = list(seen.reasons)
        detail["against"] = list(seen.against)
    return Record(kind, now, text, incident.id, severity, detail)


def aside(incident: Incident) -> Severity | None:
    """Of what happens on the way: nobody need act on it, and of an opening that is held back nobody was told."""
    return None if incident.untold else Severity.INFO


def words(seen: Diagnosis) -> str:
    """A diagnosis in a line."""
    return f"{seen.verdict} ({seen.certainty}): {VERDICTS[seen.verdict].text}"


def opened(incident: Incident, event: Looked, now: float) -> Record:
    """An alert, unless the failure of a service that it depends on explains it, or its operator works on it."""
    seen, parents = event.diagnosis, ", ".join(event.host.sick_parents)
    if not incident.untold:
        return tell(RecordKind.OPENED, now, incident, words(seen), Severity.WARNING, seen)
    why = f"it depends on {parents}, not known to be well" if parents else event.host.window
    text = f"{words(seen)}; held back: {why}"
    return tell(RecordKind.OPENED, now, incident, text, None, seen)


def belated(incident: Incident, event: Looked, now: float) -> Record:
    """An opening that was held back."""
    text = f"{words(event.diagnosis)}; what held its opening back is over"
    return tell(RecordKind.BELATED, now, incident, text, Severity.WARNING, event.diagnosis)


def performed(incident: Incident, event: Performed, now: float) -> Record:
    """What came of a remedy."""
    text = f"{event.rung} {event.outcome}: {event.reason}"
    record = tell(PERFORMED[event.rung], now, incident, text, _severity(event))
    detail = {**record.detail, **event.detail, "rung": str(event.rung), "outcome": str(event.outcome)}
    return replace(record, detail=detail)


def _severity(event: Performed) -> Severity:
    if event.rung is Rung.NUDGE or (event.rung is Rung.CAPTURE and event.outcome is Outcome.DONE):
        return Severity.INFO
    if event.rung is Rung.CAPTURE:
        return Severity.WARNING
    return Severity.WARNING if event.outcome is Outcome.DONE else Severity.CRITICAL


def resolved(incident: Incident, healthy_at: float, ended: str, now: float) -> Record:
    """The end: by recovery, or (`ended`) because its operator stopped the service."""
    by = incident.performed[-1] if incident.performed and not ended else None
    how = ended or (f"healed by {by}" if by is not None else "recovered by itself")
    text = f"{how} after {format_duration(healthy_at - incident.since)}"
    silent = incident.untold and incident.told is None and not incident.performed
    text += "; told to nobody, for it went with what held its opening back" if silent else ""
    record = tell(RecordKind.RESOLVED, now, incident, text, None if silent else Severity.INFO)
    detail = {**record.detail, "recovery_s": healthy_at - incident.since, "rung": str(by) if by is not None else "none"}
    return replace(record, detail={**detail, "ended": ended})
