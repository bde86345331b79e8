"""How letters that wait are made fewer. Merging keeps an incident's newest letter, which then tells how many more there
were, and is as severe as the worst of them: so the outbox stays within its bound, and so a rate limit lets a channel
catch up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from watchdog.model import RecordKind, Severity
from watchdog.store.outbox import Letter


@dataclass(frozen=True, slots=True)
class Squeezed:
    """What became of letters for which there was no room."""

    channel: str
    merged: int
    dropped: int


def gravest(waiting: Sequence[tuple[str, str]]) -> str:
    """How severe a letter is that stands for letters of these kinds and severities, the newest last: as the worst of
    them; but an end, after which nobody need come, as itself.
    """
    kind, severity = waiting[-1]
    if kind == RecordKind.RESOLVED:
        return severity
    return max((severity for _, severity in reversed(waiting)), key=lambda each: Severity(each).rank)


def gravest_waiting(db: sqlite3.Connection, channel: str) -> dict[tuple[str, str], str]:
    """Of each incident and service, how severe the letter would be that stood for all that waits."""
    rows = db.execute(
        "SELECT incident, service, kind, severity, max(id) FROM outbox WHERE status = 'pending' AND channel = ?"
        " GROUP BY incident, service, severity ORDER BY max(id)",
        (channel,),
    )
    waiting: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for incident, service, kind, severity, _ in rows:  # the kind is that of the row with the highest id, sqlite.org
        waiting.setdefault((incident, service), []).append((kind, severity))
    return {about: gravest(letters) for about, letters in waiting.items()}


def merge(db: sqlite3.Connection, channel: str, incident: str, service: str) -> int:
    """Of the incident's letters that wait keep the newest, which stands for all of them; returns how many went."""
    rows = db.execute(
        "SELECT id, merged, attempts, not_before, kind, severity FROM outbox"
        " WHERE status = 'pending' AND channel = ? AND incident = ? AND service = ? ORDER BY id",
        (channel, incident, service),
    ).fetchall()
    gone = rows[:-1]
    if gone:
        db.execute(
            "UPDATE outbox SET merged = merged + ?, attempts = max(attempts, ?), not_before = ?, severity = ?"
            " WHERE id = ?",
            (
                sum(1 + row[1] for row in gone),
                max(row[2] for row in gone),
                rows[0][3],
                gravest([row[4:] for row in rows]),
                rows[-1][0],
            ),
        )
        db.executemany("DELETE FROM outbox WHERE id = ?", [row[:1] for row in gone])
    return len(gone)


# An incident's state is its newest letter. One is closed where the database knows of no such open incident.
_WAITING = (
    "SELECT incident, service, count(*), min(id) FROM outbox WHERE status = 'pending' AND channel = ?"
    " AND {closed} (SELECT 1 FROM incident WHERE incident.id = outbox.incident AND closed IS NULL)"
    " GROUP BY incident, service HAVING count(*) {several} ORDER BY min(id)"
)
CLOSED_MANY = _WAITING.format(closed="NOT EXISTS", several="> 1")
OPEN_MANY = _WAITING.format(closed="EXISTS", several="> 1")
CLOSED_ONE = _WAITING.format(closed="NOT EXISTS", several="= 1")


def squeeze(db: sqlite3.Connection, channel: str, most: int) -> Squeezed | None:
    """Let no more letters wait than `most`: merge those of closed incidents, then those of open ones, the oldest first;
    then drop the oldest closed ones, of which only one letter is left. An open incident's newest letter always stays.
    """
    (waiting,) = db.execute(
        "SELECT count(*) FROM outbox WHERE status = 'pending' AND channel = ?", (channel,)
    ).fetchone()
    over = waiting - most
    merged = dropped = 0
    for query in (CLOSED_MANY, OPEN_MANY):
        if over - merged > 0:
            for incident, service, _, _ in db.execute(query, (channel,)).fetchall():
                merged += merge(db, channel, incident, service)
                if over - merged <= 0:
                    break
    if over - merged > 0:
        oldest = db.execute(f"{CLOSED_ONE} LIMIT ?", (channel, over - merged)).fetchall()
        db.executemany("DELETE FROM outbox WHERE id = ?", [(row[3],) for row in oldest])
        dropped = len(oldest)
    return Squeezed(channel, merged, dropped) if merged or dropped else None


def squeezed(letters: Sequence[Letter], most: int) -> tuple[list[Letter], int, int]:
    """The same of letters in memory, where nobody knows which incidents are open: merge, then drop the oldest.

    Returns what is kept, how many were merged and how many were dropped.
    """
    if len(letters) <= most:
        return list(letters), 0, 0
    newest: dict[tuple[str, str, str], Letter] = {}
    for each in letters:
        letter, about = each, (each.channel, each.incident, each.service)
        before = newest.pop(about, None)  # it goes to where the newest stands
        if before is not None:
            severity = gravest([(before.kind, before.severity), (letter.kind, letter.severity)])
            letter = replace(letter, merged=letter.merged + 1 + before.merged, severity=severity)
        newest[about] = letter
    kept = list(newest.values())
    return kept[-most:], len(letters) - len(kept), max(0, len(kept) - most)
