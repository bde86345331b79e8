"""Letters in the database, from the commit that asked for them until they are delivered or given up."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from watchdog.recording import encode


@dataclass(frozen=True, slots=True)
class Letter:
    """One event for one channel. `created` and `not_before` are wall-clock times."""

    id: int
    channel: str
    incident: str
    service: str
    kind: str
    severity: str
    created: float
    payload: dict[str, Any]
    attempts: int = 0
    not_before: float = 0.0


def write_letters(db: sqlite3.Connection, letters: Sequence[Letter]) -> None:
    """Put letters into the outbox."""
    db.executemany(
        "INSERT INTO outbox (channel, incident, service, kind, severity, created, payload)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (x.channel, x.incident, x.service, x.kind, x.severity, x.created, encode(x.payload).decode())
            for x in letters
        ],
    )


def waiting(db: sqlite3.Connection, channel: str, limit: int) -> list[Letter]:
    """The oldest letters of a channel that are neither delivered nor given up, oldest first."""
    rows = db.execute(
        "SELECT id, channel, incident, service, kind, severity, created, payload, attempts, not_before"
        " FROM outbox WHERE status = 'pending' AND channel = ? ORDER BY id LIMIT ?",
        (channel, limit),
    )
    return [_letter(*row) for row in rows]


def _letter(
    id_: int,
    channel: str,
    incident: str,
    service: str,
    kind: str,
    severity: str,
    created: float,
    payload: str,
    attempts: int,
    not_before: float,
) -> Letter:
    event = msgspec.json.decode(payload, type=dict[str, Any])
    return Letter(id_, channel, incident, service, kind, severity, created, event, attempts, not_before)
