"""The database's tables, and how an older database gets those of today.

Rules: `MIGRATIONS[n]` makes version n + 1 out of version n, in one transaction with the version itself (PRAGMA
user_version), so a daemon that is killed in between finds the old or the new one. None is ever changed once released;
a new database goes through all of them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

MIGRATIONS = (
    """
CREATE TABLE state (
  service TEXT PRIMARY KEY, state TEXT NOT NULL, boot_id TEXT NOT NULL, boottime REAL NOT NULL, wall REAL NOT NULL
) STRICT;
CREATE TABLE incident (
  id TEXT PRIMARY KEY, service TEXT NOT NULL, opened REAL NOT NULL, closed REAL,
  verdict TEXT NOT NULL, certainty TEXT NOT NULL
) STRICT;
CREATE INDEX incident_by_opening ON incident (opened);
CREATE TABLE record (
  id INTEGER PRIMARY KEY, service TEXT NOT NULL, incident TEXT NOT NULL, at REAL NOT NULL,
  kind TEXT NOT NULL, severity TEXT, text TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
CREATE INDEX record_by_incident ON record (incident);
CREATE TABLE entry (
  id INTEGER PRIMARY KEY, service TEXT NOT NULL, incident TEXT NOT NULL, boottime REAL NOT NULL, wall REAL NOT NULL,
  state TEXT NOT NULL, event_type TEXT NOT NULL, event TEXT NOT NULL
) STRICT;
CREATE INDEX entry_by_incident ON entry (incident);
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY, channel TEXT NOT NULL, incident TEXT NOT NULL, service TEXT NOT NULL, kind TEXT NOT NULL,
  severity TEXT NOT NULL, created REAL NOT NULL, payload TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
  not_before REAL NOT NULL DEFAULT 0, status TEXT NOT NULL DEFAULT 'pending', error TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX outbox_pending ON outbox (channel, id) WHERE status = 'pending';
""",
    # What was decided (the rung of the action; the kinds of the records, as JSON), and the case it rests on.
    """
ALTER TABLE entry ADD COLUMN action TEXT;
ALTER TABLE entry ADD COLUMN told TEXT;
CREATE TABLE evidence (entry INTEGER PRIMARY KEY REFERENCES entry (id) ON DELETE CASCADE, body BLOB NOT NULL) STRICT;
CREATE INDEX outbox_by_incident ON outbox (incident);
CREATE INDEX incident_open ON incident (service) WHERE closed IS NULL;
""",
    # What a letter is known by wherever it is (also in memory, and by its receiver), how many were merged into it, and
    # when it was done with. Letters of before keep the id that their receivers may have seen.
    """
ALTER TABLE outbox ADD COLUMN key TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN merged INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN ended REAL;
UPDATE outbox SET key = id;
DROP INDEX outbox_pending;
CREATE INDEX outbox_pending ON outbox (channel, incident, service, id) WHERE status = 'pending';
CREATE UNIQUE INDEX outbox_by_key ON outbox (key);
CREATE INDEX outbox_delivered ON outbox (channel, ended) WHERE status = 'delivered';
""",
    # What a channel was last told of each service (`standing.py`).
    """
CREATE TABLE standing (
  channel TEXT NOT NULL, service TEXT NOT NULL, incident TEXT NOT NULL, kind TEXT NOT NULL, began REAL NOT NULL,
  first REAL NOT NULL, critical REAL, letter TEXT NOT NULL, PRIMARY KEY (channel, service)
) STRICT;
""",
)
SCHEMA_VERSION = len(MIGRATIONS)
LARGEST_WAL = 4 * 2**20  # bytes that the write-ahead log is cut to: what it grows to before SQLite checkpoints it


class Newer(OSError):
    """A newer version of the daemon wrote the database."""


def open_or_make(path: Path, timeout: float) -> sqlite3.Connection:
    """The database, made if there is none. One that is unreadable is put aside, for who wants to look into it."""
    try:
        return _connect(path, timeout)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname not in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            raise
        path.rename(_aside(path))  # its budgets are also in the helper's ledger
        return _connect(path, timeout)


def _connect(path: Path, timeout: float) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=timeout)
    try:
        with contextlib.suppress(OSError):  # a disk that became read-only is still read
            path.chmod(0o600)  # evidence names clients; -wal and -shm are made with the same mode
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute(f"PRAGMA journal_size_limit = {LARGEST_WAL}")
        # Debian's SQLite overwrites what is deleted, which costs a write for each page of evidence that is forgotten.
        db.execute("PRAGMA secure_delete = FAST")
        migrate(db)
    except BaseException:
        db.close()  # an open descriptor each time would be the second fault
        raise
    return db


def version_of(db: sqlite3.Connection) -> int:
    """The version of a database's tables; 0 where there are none. Raises `Newer`."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise Newer(f"written by a newer version (schema {version}, this one knows {SCHEMA_VERSION})")
    return version


def migrate(db: sqlite3.Connection) -> None:
    """Give a database the tables of today. Raises `Newer`."""
    version = version_of(db)
    if version < SCHEMA_VERSION:
        steps = "".join(MIGRATIONS[version:])
        db.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _aside(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.unreadable-{number}")).exists():
        number += 1
    return kept
