"""What a channel was last told of each service, for the receivers that forget what they are not told again.

A row outlives the daemon, and ends when its channel says so. One whose incident ended while nobody could tell the
channel, and never will, is not handed out.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import msgspec

from watchdog.model import RecordKind
from watchdog.recording import encode
from watchdog.store.outbox import Letter


@dataclass(frozen=True, slots=True, kw_only=True)
class Stood:
    """An incident as a channel knows it. Times are of the wall clock."""

    letter: Letter  # the newest that the channel took
    began: float  # since when it is so; the same for the whole incident
    first: float  # when the channel took the incident's first letter
    critical: float | None = None  # when it took the first that was critical


def write(db: sqlite3.Connection, stood: Stood) -> None:
    """In place of what the channel knew of the service."""
    letter = stood.letter
    db.execute(
        "INSERT OR REPLACE INTO standing (channel, service, incident, kind, began, first, critical, letter)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            letter.channel,
            letter.service,
            letter.incident,
            letter.kind,
            stood.began,
            stood.first,
            stood.critical,
            encode(letter).decode(),
        ),
    )


def forget(db: sqlite3.Connection, stood: Stood) -> None:
    """The incident stands no more with the channel."""
    letter = stood.letter
    db.execute(
        "DELETE FROM standing WHERE channel = ? AND service = ? AND incident = ?",
        (letter.channel, letter.service, letter.incident),
    )


def read(db: sqlite3.Connection, channel: str) -> list[Stood]:
    """What the channel knows: ended incidents only if it took their end, or the end waits for it."""
    rows = db.execute(
        "SELECT letter, began, first, critical FROM standing WHERE channel = ? AND (kind = ?"
        " OR NOT EXISTS (SELECT 1 FROM incident WHERE incident.id = standing.incident AND closed IS NOT NULL)"
        " OR EXISTS (SELECT 1 FROM outbox WHERE outbox.incident = standing.incident"
        " AND outbox.channel = standing.channel AND status = 'pending'))",
        (channel, RecordKind.RESOLVED),
    ).fetchall()
    return [
        Stood(letter=msgspec.json.decode(letter, type=Letter), began=began, first=first, critical=critical)
        for letter, began, first, critical in rows
    ]
