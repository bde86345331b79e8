"""The daemon's end of the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from watchdog.clock import Clock
from watchdog.model import Case, Record, State, Tally
from watchdog.recording import Entry, Recorded, encode
from watchdog.store import incidents, keeping, outbox
from watchdog.store.disk import DEADLINE, Disk, StoreUnwritable
from watchdog.store.incidents import StoredIncident
from watchdog.store.keeping import KEEP, Keep
from watchdog.store.outbox import Letter
from watchdog.store.reboot import shifted

KEPT_UNSAVED = 1000  # letters


class Store:
    """The state directory's database. Opened at first use, and again after a fault."""

    def __init__(self, directory: Path, clock: Clock, deadline: float = DEADLINE, keep: Keep = KEEP) -> None:
        self.path = directory / "state.db"
        self._clock = clock
        self._keep = keep
        self._disk = Disk(self.path, deadline)
        self._unsaved: list[Letter] = []  # their ids are negative

    async def load(self, service: str) -> State:
        """The state last committed for a service, its times carried over to this boot; a new one if there is none.

        Its tally is empty: nobody looked while no daemon ran, so nothing was unbroken.
        """
        row = await self._disk.read(
            lambda db: db.execute(
                "SELECT state, boot_id, boottime, wall FROM state WHERE service = ?", (service,)
            ).fetchone()
        )
        if row is None:
            return State()
        try:
            state = replace(msgspec.json.decode(row[0], type=State), tally=Tally())
        except msgspec.DecodeError as error:
            raise StoreUnwritable(f"{self.path}: the state of {service} can't be understood: {error}") from error
        if row[1] == self._clock.boot_id():
            return state
        now = self._clock.now()
        # Of the two clocks the stricter counts: a wall clock that jumped ahead must not refill a budget.
        elapsed = max(0.0, min(now, self._clock.wall() - row[3]))
        return shifted(state, now - elapsed - row[2])

    async def commit(
        self,
        service: str,
        state: State,
        records: Sequence[Record],
        entry: Entry | None,
        letters: Sequence[Letter] = (),
        case: Case | None = None,
    ) -> None:
        """Write all that one step led to, in one transaction; it is on disk when this returns.

        The case that was diagnosed is kept with the entry, while there is an incident.
        """
        now, wall, boot_id = self._clock.now(), self._clock.wall(), self._clock.boot_id()

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?)",
                (service, encode(state).decode(), boot_id, now, wall),
            )
            for record in records:
                incidents.write_record(db, service, record, wall - (now - record.at))
            opened = wall - (now - state.incident.opened) if state.incident is not None else wall
            incidents.agree(db, service, state.incident, opened, wall)
            if entry is not None:
                row = incidents.write_entry(db, service, entry, state, records, wall)
                incident = incidents.incident_of(entry, state)
                if case is not None and incident:
                    incidents.write_case(db, row, case, self._keep.case)
                keeping.thin(db, incident, self._keep)
            outbox.write_letters(db, letters)
            keeping.forget_oldest(db, self._keep)

        try:
            await self._disk.write(write)
        except StoreUnwritable:
            self._remember(letters)
            raise

    def _remember(self, letters: Sequence[Letter]) -> None:
        lowest = min((letter.id for letter in self._unsaved), default=0)
        numbered = [replace(letter, id=lowest - n) for n, letter in enumerate(letters, start=1)]
        self._unsaved = [*self._unsaved, *numbered][-KEPT_UNSAVED:]

    async def incidents(self, service: str | None = None, limit: int = 100) -> list[StoredIncident]:
        """The newest incidents, newest first, each with its timeline."""
        return await self._disk.read(lambda db: incidents.newest(db, service, limit))

    async def recorded(self, incident: str) -> list[Recorded]:
        """The entries of an incident that are kept, oldest first, with their cases."""
        return await self._disk.read(lambda db: incidents.read_entries(db, incident))

    async def outbox(self, channel: str, limit: int) -> list[Letter]:
        """The oldest letters of a channel that are neither delivered nor given up, oldest first."""
        unsaved = [letter for letter in self._unsaved if letter.channel == channel]
        try:
            written = await self._disk.read(lambda db: outbox.waiting(db, channel, limit))
        except StoreUnwritable:
            if not unsaved:
                raise
            written = []
        return [*written, *unsaved][:limit]

    async def told(self, channel: str, incident: str) -> bool:
        """Whether the channel was ever given a letter of the incident."""
        row = await self._disk.read(
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
        await self._disk.write(
            lambda db: db.execute("UPDATE outbox SET status = 'delivered' WHERE id = ?", (letter_id,))
        )

    async def postponed(self, letter_id: int, not_before: float, error: str) -> None:
        """A letter failed and is tried again at `not_before` (wall clock)."""
        if letter_id < 0:
            self._unsaved = [
                replace(x, attempts=x.attempts + 1, not_before=not_before) if x.id == letter_id else x
                for x in self._unsaved
            ]
            return
        await self._disk.write(
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
        await self._disk.write(
            lambda db: db.execute(
                "UPDATE outbox SET status = 'given_up', attempts = attempts + 1, error = ? WHERE id = ?",
                (error, letter_id),
            )
        )

    async def outbox_length(self) -> int:
        """Letters that wait."""
        row = await self._disk.read(
            lambda db: db.execute("SELECT count(*) FROM outbox WHERE status = 'pending'").fetchone()
        )
        return int(row[0]) + len(self._unsaved)

    def _forget(self, letter_id: int) -> None:
        self._unsaved = [letter for letter in self._unsaved if letter.id != letter_id]

    async def close(self) -> None:
        """Close the database and end its thread."""
        await self._disk.close()
