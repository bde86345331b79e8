"""Letters in the database, from the commit that asked for them until they are delivered or given up.

Rules of this file. Letters of one incident leave a channel's outbox in the order they came in; so of each incident only
the first that waits, its head, is handed out. One that some of its readers have already (`PARTLY`) is handed out with
the next one, so that who is put off holds up nobody else. A letter is known by its key, which its receiver sees and
which never changes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from watchdog.clock import FAR
from watchdog.model import RecordKind, Severity
from watchdog.recording import encode

MONTH = 30 * 86400.0  # s
PARTLY = "partly delivered: "  # how the error begins of a letter that some have, and others are to get yet
DONE = 20  # remedies that a letter tells of, the last ones
LABELS = "json_extract(payload, '$.labels')"
DONE_WITH = f"payload = iif({LABELS} IS NULL, '{{}}', json_object('labels', json({LABELS})))"
REMEDIES = (
    RecordKind.NUDGED,
    RecordKind.CAPTURED,
    RecordKind.RESTARTED,
    RecordKind.PASSED,
    RecordKind.INTERRUPTED,
)


@dataclass(frozen=True, slots=True)
class Letter:
    """One event for one channel. `created` and `not_before` are wall-clock times."""

    id: int
    channel: str
    incident: str  # "": it belongs to none, as a pause while the service is well
    service: str
    kind: str
    severity: str
    created: float
    payload: dict[str, Any]
    attempts: int = 0
    not_before: float = 0.0
    key: str = field(default="", kw_only=True)  # given by the store
    merged: int = field(default=0, kw_only=True)  # earlier letters of the incident that this one stands for, too
    only_if_told: bool = field(default=False, kw_only=True)  # nothing to a channel that heard nothing of the incident

    @property
    def message_id(self) -> str:
        """The same in each attempt, also after a restart of the daemon, and of no other letter."""
        return f"{self.incident or self.service}.{self.key}"


# --- writing ----------------------------------------------------------------------------------------------------------


def write_letters(
    db: sqlite3.Connection, letters: Sequence[Letter], told: Collection[tuple[str, str]], now: float
) -> None:
    """Put letters into the outbox, with what only the database knows of their incidents' past.

    `told` are the channels and incidents told of from memory; `now` is of the wall clock. A letter that is there
    already, for its first commit came late, is not written twice.
    """
    past: dict[tuple[str, str], dict[str, Any]] = {}
    for letter in letters:
        if letter.only_if_told and not ((letter.channel, letter.incident) in told or _addressed(db, letter)):
            continue
        about = (letter.service, letter.incident)
        if about not in past:
            past[about] = _past(db, *about, now) | _labels(db, letter)
        db.execute(
            "INSERT OR IGNORE INTO outbox (channel, incident, service, kind, severity, created, payload, key, merged)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                letter.channel,
                letter.incident,
                letter.service,
                letter.kind,
                letter.severity,
                letter.created,
                encode({**letter.payload, **past[about]}).decode(),
                letter.key,
                letter.merged,
            ),
        )


def _addressed(db: sqlite3.Connection, letter: Letter) -> bool:
    """Whether the channel was told of the letter's incident, or will be."""
    found = db.execute(
        "SELECT 1 FROM outbox WHERE incident = ? AND channel = ? AND status IN ('pending', 'delivered') LIMIT 1",
        (letter.incident, letter.channel),
    )
    return found.fetchone() is not None


def _labels(db: sqlite3.Connection, letter: Letter) -> dict[str, Any]:
    """Those of the incident's first letter to anybody: receivers know it by them, so none changes while it lasts."""
    row = db.execute(
        f"SELECT {LABELS} FROM outbox WHERE incident = ? AND incident <> '' AND service = ? AND {LABELS} IS NOT NULL"
        " ORDER BY id LIMIT 1",
        (letter.incident, letter.service),
    ).fetchone()
    if row is not None:
        return {"labels": msgspec.json.decode(row[0])}
    return {"labels": letter.payload["labels"]} if letter.incident and "labels" in letter.payload else {}


def _past(db: sqlite3.Connection, service: str, incident: str, now: float) -> dict[str, Any]:
    """How often this happened in 30 days (this time included), what was done about it, and how bad it was so far."""
    (times,) = db.execute(
        "SELECT count(*) FROM incident WHERE opened > ? AND service = ?", (now - MONTH, service)
    ).fetchone()
    marks = ", ".join("?" * len(REMEDIES))
    rows = db.execute(
        f"SELECT at, text, detail FROM record WHERE incident = ? AND kind IN ({marks}) ORDER BY id DESC LIMIT ?",
        (incident, *REMEDIES, DONE),
    ).fetchall()
    severities = db.execute("SELECT DISTINCT severity FROM record WHERE incident = ? AND severity <> ''", (incident,))
    worst = max((Severity(severity) for (severity,) in severities), key=lambda each: each.rank, default=None)
    past = {"times_30d": times, "done": [_done(*row) for row in reversed(rows)], "worst": worst}
    return past if incident else {"times_30d": times, "done": [], "worst": None}


def _done(at: float, text: str, detail: str) -> dict[str, Any]:
    """A remedy as a letter tells of it: its outcome, or "passed", or "observed"; and why, in a clause."""
    known = msgspec.json.decode(detail)
    skipped = "observed" if known.get("reason") == "observed" else "passed"
    return {
        "at": at,
        "rung": known.get("rung"),
        "outcome": known.get("outcome", skipped),
        "reason": text.partition(": ")[2] or text,
    }


# --- reading ----------------------------------------------------------------------------------------------------------

COLUMNS = "id, channel, incident, service, kind, severity, created, payload, attempts, not_before, key, merged"


def heads(db: sqlite3.Connection, channel: str, limit: int, now: float) -> list[Letter]:
    """Of each incident the first letter that waits: those that are due by age, then the others by when they will be."""
    rows = db.execute(
        f"SELECT error, {COLUMNS} FROM outbox WHERE id IN"
        " (SELECT min(id) FROM outbox WHERE status = 'pending' AND channel = ?1 GROUP BY incident, service)"
        " ORDER BY iif(not_before > ?2 AND not_before <= ?2 + ?3, not_before, 0), id LIMIT ?4",
        (channel, now, FAR, limit),
    )
    found: list[Letter] = []
    for error, *row in rows.fetchall():
        letter = _letter(*row)
        found += (letter, *_behind(db, letter)) if error.startswith(PARTLY) else (letter,)
    return sorted(found, key=lambda each: (each.not_before if now < each.not_before <= now + FAR else 0.0, each.id))[
        :limit
    ]


def _behind(db: sqlite3.Connection, letter: Letter) -> list[Letter]:
    """The letters that need not wait for this one: up to the first that nobody has."""
    rows = db.execute(
        f"SELECT error, {COLUMNS} FROM outbox"
        " WHERE status = 'pending' AND channel = ? AND incident = ? AND service = ? AND id > ? ORDER BY id",
        (letter.channel, letter.incident, letter.service, letter.id),
    )
    found = []
    for error, *row in rows:
        found.append(_letter(*row))
        if not error.startswith(PARTLY):
            break
    return found


def head(db: sqlite3.Connection, channel: str, incident: str, service: str) -> Letter | None:
    """The incident's first letter that waits."""
    row = db.execute(
        f"SELECT {COLUMNS} FROM outbox"
        " WHERE status = 'pending' AND channel = ? AND incident = ? AND service = ? ORDER BY id LIMIT 1",
        (channel, incident, service),
    ).fetchone()
    return _letter(*row) if row is not None else None


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
    key: str,
    merged: int,
) -> Letter:
    event = msgspec.json.decode(payload, type=dict[str, Any])
    return Letter(
        id_,
        channel,
        incident,
        service,
        kind,
        severity,
        created,
        event,
        attempts,
        not_before,
        key=key,
        merged=merged,
    )


# --- what becomes of them ---------------------------------------------------------------------------------------------


def end(db: sqlite3.Connection, key: str, status: str, error: str, now: float) -> None:
    """A letter is done with. Its row says so for as long as its incident is kept; what it told is not kept twice, but
    for the labels, which those that follow have from it.
    """
    db.execute(
        f"UPDATE outbox SET status = ?, error = ?, ended = ?, {DONE_WITH} WHERE key = ? AND status = 'pending'",
        (status, error, now, key),
    )
    db.execute(
        "DELETE FROM outbox WHERE key = ? AND NOT EXISTS (SELECT 1 FROM incident WHERE incident.id = outbox.incident)",
        (key,),
    )


def postpone(db: sqlite3.Connection, key: str, not_before: float, error: str) -> None:
    """One more attempt failed."""
    db.execute(
        "UPDATE outbox SET attempts = attempts + 1, not_before = ?, error = ? WHERE key = ?", (not_before, error, key)
    )


def abandon(db: sqlite3.Connection, configured: Collection[str], before: float, now: float) -> list[tuple[str, int]]:
    """Give up what was written before that time for channels that there are no more; how many of each."""
    found = db.execute(
        "SELECT channel, count(*) FROM outbox WHERE status = 'pending' AND created < ? GROUP BY channel", (before,)
    ).fetchall()
    gone = [(channel, count) for channel, count in found if channel not in configured]
    db.executemany(
        f"UPDATE outbox SET status = 'given_up', error = 'its channel is gone', ended = ?, {DONE_WITH}"
        " WHERE status = 'pending' AND created < ? AND channel = ?",
        [(now, before, channel) for channel, _ in gone],
    )
    return gone
