"""How much is kept, and who goes first. Each function does its part within the transaction of the commit that made it
necessary, and little of it, so that no commit waits long for it: on a full database of 1,000 incidents 0.1 ms, and at
most 29 ms (measured; an incident of the largest sort, 64 cases of 21 KB, went).

Freed pages are enough, and the file is never made smaller: SQLite fills them before the file grows, so the file is at
most the largest that it ever had to be, `Keep.size` and one commit.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

KEPT_INCIDENTS = 1000  # closed ones
AT_ONCE = 8  # incidents that one commit makes room by


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """The bounds.

    Of an incident: its opening and the first climb of its ladder (some 12 entries), and the last ones before its end,
    or before now; what flaps for days in between repeats itself. In all: a case of the demo service takes 1 to 2 KB,
    of one with 100 threads and 1,000 descriptors 21 KB, so 64 MiB hold 1,000 incidents of ten usual cases, or some 50
    of the largest sort at their full length; any state directory has that much.

    Of letters that wait: a letter has some 1 KB, so a channel that is dead for days holds 10 MB, and a flood of 1,000
    incidents of ten events each gets through an hour's outage of a channel with nothing merged.
    """

    incidents: int = KEPT_INCIDENTS  # closed ones, with their timelines
    size: int = 64 * 2**20  # bytes, of everything in the database
    case: int = 2**20  # bytes, compressed; more is a fault of ours
    first_entries: int = 16  # of an incident, with their cases
    last_entries: int = 48
    letters: int = 10_000  # that wait, of a channel
    first_records: int = 100
    last_records: int = 400


KEEP = Keep()


def thin(db: sqlite3.Connection, incident: str, keep: Keep) -> None:
    """Of an incident keep the first and the last. Of what belongs to none ("") only the last."""
    for table, first, last in (
        ("entry", keep.first_entries, keep.last_entries),
        ("record", keep.first_records, keep.last_records),
    ):
        db.execute(
            f"DELETE FROM {table} WHERE incident = ?1"
            f" AND id <= (SELECT id FROM {table} WHERE incident = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?3)"
            f" AND id > iif(?2, (SELECT id FROM {table} WHERE incident = ?1 ORDER BY id LIMIT 1 OFFSET ?2 - 1), 0)",
            (incident, first if incident else 0, last),
        )


def forget_oldest(db: sqlite3.Connection, keep: Keep) -> None:
    """Forget the oldest closed incidents with all that hangs on them: where there are too many, or too much in all."""
    many = "SELECT id FROM incident WHERE closed IS NOT NULL ORDER BY opened DESC LIMIT -1 OFFSET ?"
    for (incident,) in db.execute(many, (keep.incidents,)).fetchall():
        _forget(db, incident)
    for _ in range(AT_ONCE):
        if _used(db) <= keep.size or not (_forget_entries(db) or _forget_incident(db) or _forget_evidence(db)):
            return


def _used(db: sqlite3.Connection) -> int:
    """Bytes of all pages that hold something."""
    pages, free, size = (
        db.execute(f"PRAGMA {of}").fetchone()[0] for of in ("page_count", "freelist_count", "page_size")
    )
    used: int = (pages - free) * size
    return used


def _forget_entries(db: sqlite3.Connection) -> bool:
    """Those of the oldest closed incident that has any; its timeline stays."""
    row = db.execute(
        "SELECT id FROM incident WHERE closed IS NOT NULL"
        " AND EXISTS (SELECT 1 FROM entry WHERE entry.incident = incident.id) ORDER BY opened LIMIT 1"
    ).fetchone()
    return row is not None and _delete(db, "DELETE FROM entry WHERE incident = ?", row)


def _forget_incident(db: sqlite3.Connection) -> bool:
    """The oldest closed one."""
    row = db.execute("SELECT id FROM incident WHERE closed IS NOT NULL ORDER BY opened LIMIT 1").fetchone()
    if row is not None:
        _forget(db, row[0])
    return row is not None


def _forget_evidence(db: sqlite3.Connection) -> bool:
    """Of an open incident what was before its last case."""
    row = db.execute(
        "SELECT incident.id, max(entry.id) FROM incident JOIN entry ON entry.incident = incident.id"
        " JOIN evidence ON evidence.entry = entry.id WHERE incident.closed IS NULL"
        " GROUP BY incident.id HAVING count(*) > 1 ORDER BY incident.opened LIMIT 1"
    ).fetchone()
    return row is not None and _delete(db, "DELETE FROM entry WHERE incident = ? AND id < ?", row)


def _delete(db: sqlite3.Connection, statement: str, parameters: tuple[object, ...]) -> bool:
    return db.execute(statement, parameters).rowcount > 0


def _forget(db: sqlite3.Connection, incident: str) -> None:
    """All of an incident but letters that wait."""
    for table in ("record", "entry"):
        db.execute(f"DELETE FROM {table} WHERE incident = ?", (incident,))
    db.execute("DELETE FROM outbox WHERE incident = ? AND status <> 'pending'", (incident,))
    db.execute("DELETE FROM incident WHERE id = ?", (incident,))
