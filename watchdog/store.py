"""What outlives the daemon: SQLite, and the only SQL of the project.

Rules of this file. One transaction holds all that one step led to: the new state with its pending action and spent
budget, the records, the letters to the alert channels, and the entry (what `step` was called with, for `replay`). It is
on disk (synchronous=FULL) before anybody acts. SQLite has a thread of its own and every call a deadline, so a full or
hung disk never stops the guarding; it raises `StoreUnwritable`, and the next call tries again. Letters of a commit that
failed are kept in memory and handed out like the others: everyone is told, just not after a crash.

Times are stored as the wall clock, for people and across boots, but in the state, which keeps CLOCK_BOOTTIME together
with the boot it belongs to: `load` carries it over a reboot.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from watchdog.clock import Clock
from watchdog.model import Event, Record, RecordKind, State

DEADLINE = 1.0  # s
KEPT_INCIDENTS = 1000  # closed ones
KEPT_UNSAVED = 1000  # letters
SCHEMA_VERSION = 1
SCHEMA = """
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
"""

T = TypeVar("T")


class StoreUnwritable(Exception):
    """The state could not be read or written in time; the message names the file and the fault."""


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


@dataclass(frozen=True, slots=True)
class Entry:
    """One call of `step`: the time (CLOCK_BOOTTIME), the state before, the event."""

    now: float
    state: State
    event: Event


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


class Store:
    """The state directory's database. Opened at first use, and again after a fault."""

    def __init__(self, directory: Path, clock: Clock, deadline: float = DEADLINE) -> None:
        self.path = directory / "state.db"
        self._clock = clock
        self._deadline = deadline
        self._connection: sqlite3.Connection | None = None
        self._unsaved: list[Letter] = []  # their ids are negative
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A thread of our own and not an executor: one that hangs on a dead disk must not keep the process from ending.
        threading.Thread(target=self._serve, name="store", daemon=True).start()

    async def load(self, service: str) -> State:
        """The state last committed for a service, its times carried over to this boot; a new one if there is none."""
        row = await self._read(
            lambda db: db.execute(
                "SELECT state, boot_id, boottime, wall FROM state WHERE service = ?", (service,)
            ).fetchone()
        )
        if row is None:
            return State()
        try:
            state = msgspec.json.decode(row[0], type=State)
        except msgspec.DecodeError as error:
            raise StoreUnwritable(f"{self.path}: the state of {service} can't be understood: {error}") from error
        if row[1] == self._clock.boot_id():
            return state
        now = self._clock.now()
        # Of the two clocks the stricter counts: a wall clock that jumped ahead must not refill a budget.
        elapsed = max(0.0, min(now, self._clock.wall() - row[3]))
        return shifted(state, now - elapsed - row[2])

    async def commit(
        self, service: str, state: State, records: Sequence[Record], entry: Entry | None, letters: Sequence[Letter] = ()
    ) -> None:
        """Write all that one step led to, in one transaction; it is on disk when this returns."""
        clock = self._clock
        now, wall = clock.now(), clock.wall()
        boot_id = clock.boot_id()

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?)", (service, _json(state), boot_id, now, wall)
            )
            for record in records:
                _write_record(db, service, record, wall - (now - record.at))
            if entry is not None:
                incident = state.incident or entry.state.incident
                db.execute(
                    "INSERT INTO entry (service, incident, boottime, wall, state, event_type, event)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        service,
                        incident.id if incident is not None else "",
                        entry.now,
                        wall,
                        _json(entry.state),
                        type(entry.event).__name__,
                        _json(entry.event),
                    ),
                )
            db.executemany(
                "INSERT INTO outbox (channel, incident, service, kind, severity, created, payload)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(x.channel, x.incident, x.service, x.kind, x.severity, x.created, _json(x.payload)) for x in letters],
            )
            if any(record.kind is RecordKind.RESOLVED for record in records):
                _prune(db)

        try:
            await self._call(write)
        except StoreUnwritable:
            self._remember(letters)
            raise

    def _remember(self, letters: Sequence[Letter]) -> None:
        lowest = min((letter.id for letter in self._unsaved), default=0)
        numbered = [replace(letter, id=lowest - n) for n, letter in enumerate(letters, start=1)]
        self._unsaved = [*self._unsaved, *numbered][-KEPT_UNSAVED:]

    async def incidents(self, service: str | None = None, limit: int = 100) -> list[StoredIncident]:
        """The newest incidents, newest first, each with its timeline."""

        def read(db: sqlite3.Connection) -> list[StoredIncident]:
            rows = db.execute(
                "SELECT id, service, opened, closed, verdict, certainty FROM incident"
                " WHERE ?1 IS NULL OR service = ?1 ORDER BY opened DESC, rowid DESC LIMIT ?2",
                (service, limit),
            ).fetchall()
            return [replace(StoredIncident(*row), records=_records(db, row[0])) for row in rows]

        return await self._read(read)

    async def outbox(self, channel: str, limit: int) -> list[Letter]:
        """The oldest letters of a channel that are neither delivered nor given up, oldest first."""
        unsaved = [letter for letter in self._unsaved if letter.channel == channel]
        try:
            rows = await self._read(
                lambda db: db.execute(
                    "SELECT id, channel, incident, service, kind, severity, created, payload, attempts, not_before"
                    " FROM outbox WHERE status = 'pending' AND channel = ? ORDER BY id LIMIT ?",
                    (channel, limit),
                ).fetchall()
            )
        except StoreUnwritable:
            if not unsaved:
                raise
            rows = []
        return [*(_letter(*row) for row in rows), *unsaved][:limit]

    async def told(self, channel: str, incident: str) -> bool:
        """Whether the channel was ever given a letter of the incident."""
        row = await self._read(
            lambda db: db.execute(
                "SELECT 1 FROM outbox WHERE channel = ? AND incident = ? AND status = 'delivered' LIMIT 1",
                (channel, incident),
            ).fetchone()
        )
        return row is not None

    async def delivered(self, letter_id: int) -> None:
        """A letter reached its channel."""
        if letter_id < 0:
            self._forget(letter_id)
            return
        await self._call(lambda db: db.execute("UPDATE outbox SET status = 'delivered' WHERE id = ?", (letter_id,)))

    async def postponed(self, letter_id: int, not_before: float, error: str) -> None:
        """A letter failed and is tried again at `not_before` (wall clock)."""
        if letter_id < 0:
            self._unsaved = [
                replace(x, attempts=x.attempts + 1, not_before=not_before) if x.id == letter_id else x
                for x in self._unsaved
            ]
            return
        await self._call(
            lambda db: db.execute(
                "UPDATE outbox SET attempts = attempts + 1, not_before = ?, error = ? WHERE id = ?",
                (not_before, error, letter_id),
            )
        )

    async def given_up(self, letter_id: int, error: str) -> None:
        """A letter will never be delivered."""
        if letter_id < 0:
            self._forget(letter_id)
            return
        await self._call(
            lambda db: db.execute(
                "UPDATE outbox SET status = 'given_up', attempts = attempts + 1, error = ? WHERE id = ?",
                (error, letter_id),
            )
        )

    async def outbox_length(self) -> int:
        """Letters that wait."""
        row = await self._read(lambda db: db.execute("SELECT count(*) FROM outbox WHERE status = 'pending'").fetchone())
        return int(row[0]) + len(self._unsaved)

    def _forget(self, letter_id: int) -> None:
        self._unsaved = [letter for letter in self._unsaved if letter.id != letter_id]

    async def close(self) -> None:
        """Close the database and end its thread."""
        try:
            await self._on_thread(self._disconnect)
        finally:
            self._calls.put(None)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction, within the deadline."""
        return await self._on_thread(lambda: self._transaction(work, "BEGIN IMMEDIATE"))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same for work that only reads: it goes on while the disk is full or read-only."""
        return await self._on_thread(lambda: self._transaction(work, "BEGIN"))

    async def _on_thread(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def answer(settle: Callable[[], None]) -> None:
            def settle_if_awaited() -> None:
                if not done.done():
                    settle()

            try:
                loop.call_soon_threadsafe(settle_if_awaited)
            except RuntimeError:  # the loop has ended; nobody waits
                return

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # whatever it is: this thread must not end
                fault = StoreUnwritable(f"{self.path}: {error}")
                answer(lambda: done.set_exception(fault))
            else:
                answer(lambda: done.set_result(result))

        self._calls.put(run)
        try:
            return await asyncio.wait_for(done, self._deadline)
        except TimeoutError:
            raise StoreUnwritable(f"{self.path}: no answer from the disk within {self._deadline:g} s") from None

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def _transaction(self, work: Callable[[sqlite3.Connection], T], begin: str) -> T:
        if self._connection is None:
            self._connection = _open(self.path)
        db = self._connection
        try:
            db.execute(begin)
            result = work(db)
            db.execute("COMMIT")
        except Exception as error:
            self._recover(db, error)
            raise
        return result

    def _recover(self, db: sqlite3.Connection, error: Exception) -> None:
        """Keep a connection that can still read; begin anew after a fault that may have left it unusable."""
        readable = getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_BUSY")
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
        except sqlite3.Error:
            readable = False
        if not readable:
            self._connection = None
            db.close()


def _open(path: Path) -> sqlite3.Connection:
    """The database, made if there is none. One that is unreadable is put aside, for who wants to look into it."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname not in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            raise
        path.rename(_aside(path))  # its budgets are also in the helper's ledger
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=DEADLINE)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise OSError(f"written by a newer version (schema {version}, this one knows {SCHEMA_VERSION})")
        if version == 0:
            db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    except BaseException:
        db.close()  # an open descriptor each time would be the second fault
        raise
    return db


def _aside(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.unreadable-{number}")).exists():
        number += 1
    return kept


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


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _write_record(db: sqlite3.Connection, service: str, record: Record, at: float) -> None:
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
        (service, record.incident, at, record.kind, record.severity, record.text, _json(detail)),
    )


def _records(db: sqlite3.Connection, incident: str) -> tuple[StoredRecord, ...]:
    rows = db.execute(
        "SELECT at, kind, severity, text, detail FROM record WHERE incident = ? ORDER BY id", (incident,)
    ).fetchall()
    return tuple(
        StoredRecord(at, kind, severity, text, msgspec.json.decode(detail)) for at, kind, severity, text, detail in rows
    )


def _prune(db: sqlite3.Connection) -> None:
    """Forget the oldest closed incidents with all that hangs on them, and letters that are done."""
    old = db.execute(
        "SELECT id FROM incident WHERE closed IS NOT NULL ORDER BY opened DESC LIMIT -1 OFFSET ?", (KEPT_INCIDENTS,)
    ).fetchall()
    for table in ("record", "entry"):
        db.executemany(f"DELETE FROM {table} WHERE incident = ?", old)
        db.execute(
            f"DELETE FROM {table} WHERE incident = '' AND id <= (SELECT max(id) FROM {table}) - ?",
            (10 * KEPT_INCIDENTS,),
        )
    db.executemany("DELETE FROM outbox WHERE incident = ? AND status <> 'pending'", old)
    db.executemany("DELETE FROM incident WHERE id = ?", old)


def shifted(state: State, by: float) -> State:
    """The state with every time moved by `by` seconds."""

    def move(moment: float | None) -> float | None:
        return None if moment is None else moment + by

    pause, incident, pending = state.pause, state.incident, state.pending
    if pause is not None:
        pause = replace(pause, until=move(pause.until))
    if incident is not None:
        incident = replace(
            incident,
            since=incident.since + by,
            opened=incident.opened + by,
            settle_until=move(incident.settle_until),
            told=move(incident.told),
            exhausted=move(incident.exhausted),
        )
    if pending is not None:
        pending = replace(pending, at=pending.at + by)
    return replace(
        state,
        pause=pause,
        incident=incident,
        pending=pending,
        nudges=tuple(at + by for at in state.nudges),
        restarts=tuple(at + by for at in state.restarts),
    )
