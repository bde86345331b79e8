"""A state database read by a command: read-only, also while the daemon runs, and wherever it was copied to.

Facts: SQLite reads a database in WAL mode read-only where `-wal` and `-shm` are there or can be made; where they are
not and can't, the file is at rest, and `immutable=1` says so (sqlite.org/wal.html, "Read-Only Databases"). A database
of an older version is migrated in a copy in memory: the file itself belongs to the daemon.
"""

from __future__ import annotations

import contextlib
import lzma
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import msgspec

from watchdog.model import Certainty, Verdict
from watchdog.recording import NotRecorded, Recording, Summary
from watchdog.store.incidents import read_entries
from watchdog.store.schema import SCHEMA_VERSION, Newer, migrate, version_of

MAGIC = b"SQLite format 3\0"
BUSY = 5.0  # s to wait for the daemon's own lock, which it holds for milliseconds


class Unreadable(Exception):
    """The file is no state database, or can't be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """An incident in the database."""

    service: str
    summary: Summary


class Archive:
    """The incidents of a state database. A context: it closes the file."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises `Unreadable`."""
        with _readable():
            self._db = _open(path)

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._db.close()

    def incidents(self, prefix: str = "") -> list[Found]:
        """Those whose id begins so, oldest first. Raises `Unreadable`."""
        with _readable():
            rows = self._db.execute(
                "SELECT service, id, opened, closed, verdict, certainty FROM incident"
                " WHERE substr(id, 1, length(?1)) = ?1 ORDER BY opened, rowid",
                (prefix,),
            ).fetchall()
            return [_found(*row) for row in rows]

    def weight(self, found: Found) -> int:
        """Bytes that its cases take in the file, compressed some sixteenfold. Raises `Unreadable`."""
        with _readable():
            row = self._db.execute(
                "SELECT coalesce(sum(length(body)), 0) FROM entry JOIN evidence ON evidence.entry = entry.id"
                " WHERE incident = ?",
                (found.summary.id,),
            ).fetchone()
            return int(row[0])

    def recording(self, found: Found) -> Recording:
        """What was recorded of it; no entries, where those were given up for want of room. Raises `Unreadable`."""
        with _readable():
            entries = read_entries(self._db, found.summary.id)
        case = next((recorded.case for recorded in entries if recorded.case is not None), None)
        policy, roads = (case.policy, case.roads) if case is not None else (None, {})
        return Recording(found.service, found.summary, policy, roads, entries)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, Newer, NotRecorded, msgspec.DecodeError, lzma.LZMAError, ValueError, KeyError) as error:
        raise Unreadable(str(error)) from error


def _open(path: Path) -> sqlite3.Connection:
    name = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        db = _connect(name)
    except sqlite3.OperationalError as error:
        busy = path.with_name(f"{path.name}-wal").exists()
        if busy or error.sqlite_errorname not in ("SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY"):
            raise
        db = _connect(f"{name}&immutable=1")
    return db


def _connect(name: str) -> sqlite3.Connection:
    db = sqlite3.connect(name, uri=True, isolation_level=None, timeout=BUSY)
    try:
        version = version_of(db)
        if not version:
            raise ValueError("no state database: it has no tables of ours")
        if version < SCHEMA_VERSION:
            db = _migrated(db)
    except BaseException:
        db.close()
        raise
    return db


def _migrated(old: sqlite3.Connection) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", isolation_level=None)
    with contextlib.closing(old):
        old.backup(copy)
    migrate(copy)
    return copy


def _found(service: str, id_: str, opened: float, closed: float | None, verdict: str, certainty: str) -> Found:
    ended = datetime.fromtimestamp(closed, UTC) if closed is not None else None
    summary = Summary(id_, datetime.fromtimestamp(opened, UTC), ended, Verdict(verdict), Certainty(certainty))
    return Found(service, summary)
