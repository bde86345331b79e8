"""Incidents in the database: the timeline for people (records), and what was decided on what (entries) for `replay`.

A case is kept as JSON, compressed by LZMA (xz(1), preset 0): the samples of a reading repeat each other, over more
bytes than zlib's window of 32 KiB has. Measured on a service with 100 threads and 1,000 descriptors, 347 KB of JSON:
LZMA 21 KB in 4.4 ms, zlib 89 KB in 9.5 ms; JSON itself takes 0.6 ms. Both let other threads run meanwhile.
"""

from __future__ import annotations

import logging
import lzma
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from watchdog.model import Case, Incident, Record, RecordKind, Rung, State
from watchdog.recording import EVENTS, Entry, Recorded, decision, decode_case, encode, spelled

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as the incident's timeline shows it; `at` is a wall-clock time."""

    at: float
    kind: str
    severity: str | None
    text: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredIncident:
    """An incident with its timeline; times are of the wall clock."""

    id: str
    service: str
    opened: float
    closed: float | None
    verdict: str
    certainty: str
    records: Sequence[StoredRecord] = field(default_factory=tuple)


# --- records ----------------------------------------------------------------------------------------------------------


def write_record(db: sqlite3.Connection, service: str, record: Record, at: float) -> None:
    """Keep a fact of the timeline, and what it says of its incident. `at` is of the wall clock."""
    detail = dict(record.detail)
    if "since" in detail:
        detail["since"] = at - (record.at - detail["since"])
    if record.kind is RecordKind.OPENED:
        db.execute(
            "INSERT OR REPLACE INTO incident (id, service, opened, verdict, certainty) VALUES (?, ?, ?, ?, ?)",
            (record.incident, service, at, detail["verdict"], detail["certainty"]),
        )
    elif record.kind is RecordKind.VERDICT:
        db.execute(
            "UPDATE incident SET verdict = ?, certainty = ? WHERE id = ?",
            (detail["verdict"], detail["certainty"], record.incident),
        )
    elif record.kind is RecordKind.RESOLVED:
        db.execute("UPDATE incident SET closed = ? WHERE id = ?", (at, record.incident))
    db.execute(
        "INSERT INTO record (service, incident, at, kind, severity, text, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (service, record.incident, at, record.kind, record.severity, spelled(record.text), encode(detail).decode()),
    )


def agree(db: sqlite3.Connection, service: str, incident: Incident | None, opened: float, now: float) -> None:
    """Make good an opening or an end whose commit failed: open is the incident of the service's state, and no other."""
    if incident is not None:
        db.execute(
            "INSERT OR IGNORE INTO incident (id, service, opened, verdict, certainty) VALUES (?, ?, ?, ?, ?)",
            (incident.id, service, opened, incident.verdict, incident.certainty),
        )
    db.execute(
        "UPDATE incident SET closed = ? WHERE service = ? AND closed IS NULL AND id IS NOT ?",
        (now, service, incident and incident.id),
    )


def newest(
    db: sqlite3.Connection, service: str | None, limit: int, skip: int = 0, only_open: bool = False
) -> list[StoredIncident]:
    """The newest incidents after the first `skip`, newest first, each with its timeline."""
    rows = db.execute(
        "SELECT id, service, opened, closed, verdict, certainty FROM incident"
        " WHERE (?1 IS NULL OR service = ?1) AND (NOT ?2 OR closed IS NULL)"
        " ORDER BY opened DESC, rowid DESC LIMIT ?3 OFFSET ?4",
        (service, only_open, limit, skip),
    ).fetchall()
    return [replace(StoredIncident(*row), records=_records(db, row[0])) for row in rows]


def one(db: sqlite3.Connection, incident: str) -> StoredIncident | None:
    """The incident of that id with its timeline; None where it is not kept."""
    row = db.execute(
        "SELECT id, service, opened, closed, verdict, certainty FROM incident WHERE id = ?", (incident,)
    ).fetchone()
    return None if row is None else replace(StoredIncident(*row), records=_records(db, incident))


def _records(db: sqlite3.Connection, incident: str) -> tuple[StoredRecord, ...]:
    rows = db.execute(
        "SELECT at, kind, severity, text, detail FROM record WHERE incident = ? ORDER BY id", (incident,)
    ).fetchall()
    return tuple(
        StoredRecord(at, kind, severity, text, msgspec.json.decode(detail)) for at, kind, severity, text, detail in rows
    )


# --- entries ----------------------------------------------------------------------------------------------------------


def incident_of(entry: Entry, state: State) -> str:
    """The incident that an entry belongs to, by the states after and before it; "" where there is none."""
    incident = state.incident or entry.state.incident
    return incident.id if incident is not None else ""


def write_entry(
    db: sqlite3.Connection, service: str, entry: Entry, state: State, records: Sequence[Record], wall: float
) -> int:
    """Keep what `step` was called with, and what came of it; returns the row's id."""
    asked = state.pending if state.pending != entry.state.pending else None
    written = db.execute(
        "INSERT INTO entry (service, incident, boottime, wall, state, event_type, event, action, told)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            service,
            incident_of(entry, state),
            entry.now,
            wall,
            encode(entry.state).decode(),
            type(entry.event).__name__,
            encode(entry.event).decode(),
            asked.rung if asked is not None else None,
            encode([record.kind for record in records]).decode(),
        ),
    )
    assert written.lastrowid is not None
    return written.lastrowid


def write_case(db: sqlite3.Connection, entry: int, case: Case, largest: int) -> None:
    """Keep the case of an entry, unless it is larger than any should be."""
    body = lzma.compress(encode(case), preset=0)
    if len(body) > largest:
        log.warning("the evidence of one look is not kept: %d bytes, at most %d are", len(body), largest)
        return
    db.execute("INSERT INTO evidence (entry, body) VALUES (?, ?)", (entry, body))


def read_entries(db: sqlite3.Connection, incident: str) -> list[Recorded]:
    """The entries of an incident that are kept, oldest first. Raises `NotRecorded`, msgspec's and lzma's errors."""
    rows = db.execute(
        "SELECT wall, boottime, state, event_type, event, action, told, body"
        " FROM entry LEFT JOIN evidence ON evidence.entry = entry.id WHERE incident = ? ORDER BY entry.id",
        (incident,),
    ).fetchall()
    return [_recorded(*row) for row in rows]


def _recorded(
    wall: float,
    boottime: float,
    state: str,
    event_type: str,
    event: str,
    action: str | None,
    told: str | None,
    body: bytes | None,
) -> Recorded:
    happened = msgspec.json.decode(event, type=EVENTS[event_type.lower()])
    decided = None
    if told is not None:
        rung = Rung(action) if action is not None else None
        decided = decision(happened, rung, msgspec.json.decode(told, type=list[RecordKind]))
    entry = Entry(boottime, msgspec.json.decode(state, type=State), happened)
    case = decode_case(lzma.decompress(body)) if body is not None else None
    return Recorded(datetime.fromtimestamp(wall, UTC), entry, decided, case)
