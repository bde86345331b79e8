"""The daemon's end of the database."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from watchdog.clock import Clock
from watchdog.model import Case, Record, State, Tally
from watchdog.recording import Entry, Recorded, encode
from watchdog.store import incidents, keeping, outbox, room, standing
from watchdog.store.disk import DEADLINE, Disk, StoreUnwritable
from watchdog.store.incidents import StoredIncident
from watchdog.store.keeping import KEEP, Keep
from watchdog.store.outbox import Letter
from watchdog.store.reboot import earlier_pause, shifted
from watchdog.store.room import Squeezed
from watchdog.store.standing import Stood

KEPT_UNSAVED = 1000  # letters
ALL = "*"  # of letters in memory, those of all channels


@dataclass(frozen=True, slots=True)
class Commit:
    """What one step of a service led to."""

    service: str
    state: State
    records: Sequence[Record]
    entry: Entry | None = None
    letters: Sequence[Letter] = ()
    case: Case | None = None


class Store:
    """The state directory's database. Opened at first use, and again after a fault."""

    def __init__(self, directory: Path, clock: Clock, deadline: float = DEADLINE, keep: Keep = KEEP) -> None:
        self.path = directory / "state.db"
        self._clock = clock
        self._keep = keep
        self._disk = Disk(self.path, deadline)
        self.squeezed: Callable[[Squeezed], None] = lambda _: None  # hears of letters that were merged or dropped
        self._unsaved: list[Letter] = []  # of commits that failed; a later one writes them
        self._settled: dict[str, str] = {}  # keys of those that were done with meanwhile, and how
        self._told: dict[tuple[str, str], None] = {}  # channels and incidents of those that were delivered meanwhile

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
        return earlier_pause(shifted(state, now - elapsed - row[2]), now, self._clock.wall(), committed=row[3])

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

        The case that was diagnosed is kept with the entry, while there is an incident. Letters that no earlier commit
        could write are written with it.
        """
        await self.commit_all([Commit(service, state, records, entry, letters, case)])

    async def commit_all(self, commits: Sequence[Commit]) -> None:
        """Write what steps of several services led to, in one transaction. Its place in the queue is taken before the
        first await.
        """
        now, wall, boot_id = self._clock.now(), self._clock.wall(), self._clock.boot_id()
        given = [letter for commit in commits for letter in commit.letters]
        letters = [replace(letter, key=letter.key or secrets.token_hex(8)) for letter in given]
        unsaved = tuple(self._unsaved)
        told = {*self._told, *((letter.channel, letter.incident) for letter in unsaved)}

        def write(db: sqlite3.Connection) -> list[Squeezed]:
            for commit in commits:
                db.execute(
                    "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?)",
                    (commit.service, encode(commit.state).decode(), boot_id, now, wall),
                )
                self._write_story(db, commit, now, wall)
            outbox.write_letters(db, (*unsaved, *letters), told, wall)
            squeezed = [room.squeeze(db, channel, self._keep.letters) for channel in {x.channel for x in letters}]
            keeping.forget_oldest(db, self._keep)
            return [each for each in squeezed if each is not None]

        try:
            squeezed = await self._disk.write(write)
        except StoreUnwritable:
            self._remember(letters)
            raise
        written = {letter.key for letter in unsaved}
        self._unsaved = [letter for letter in self._unsaved if letter.key not in written]
        for each in squeezed:
            self.squeezed(each)

    def _write_story(self, db: sqlite3.Connection, commit: Commit, now: float, wall: float) -> None:
        """The records and the entry of a commit, and the case that was diagnosed."""
        state, entry = commit.state, commit.entry
        for record in commit.records:
            incidents.write_record(db, commit.service, record, wall - (now - record.at))
        opened = wall - (now - state.incident.opened) if state.incident is not None else wall
        incidents.agree(db, commit.service, state.incident, opened, wall)
        if entry is not None:
            row = incidents.write_entry(db, commit.service, entry, state, commit.records, wall)
            incident = incidents.incident_of(entry, state)
            if commit.case is not None and incident:
                incidents.write_case(db, row, commit.case, self._keep.case)
            keeping.thin(db, incident, self._keep)

    def _remember(self, letters: Sequence[Letter]) -> None:
        self._unsaved, merged, dropped = room.squeezed([*self._unsaved, *letters], KEPT_UNSAVED)
        if merged or dropped:
            self.squeezed(Squeezed(ALL, merged, dropped))

    async def incidents(
        self, service: str | None = None, limit: int = 100, skip: int = 0, only_open: bool = False
    ) -> list[StoredIncident]:
        """The newest incidents after the first `skip`, newest first, each with its timeline."""
        return await self._disk.read(lambda db: incidents.newest(db, service, limit, skip, only_open))

    async def incident(self, incident: str) -> StoredIncident | None:
        """The incident of that id with its timeline; None where it is not kept."""
        return await self._disk.read(lambda db: incidents.one(db, incident))

    async def recorded(self, incident: str) -> list[Recorded]:
        """The entries of an incident that are kept, oldest first, with their cases."""
        return await self._disk.read(lambda db: incidents.read_entries(db, incident))

    # --- the outbox ---------------------------------------------------------------------------------------------------

    async def outbox(self, channel: str, limit: int) -> list[Letter]:
        """Of each incident the first letter that waits for the channel; those that are due first."""
        unsaved = [letter for letter in self._unsaved if letter.channel == channel]
        try:
            written = await self._disk.read(lambda db: outbox.heads(db, channel, limit, self._clock.wall()))
        except StoreUnwritable:
            if not unsaved:
                raise
            written = []
        written = [letter for letter in written if not await self._was_settled(letter)]
        # What is written is older than what could not be; a commit that came late left a letter in both places.
        firsts = {(letter.incident, letter.service): letter for letter in reversed(unsaved)}
        for letter in written:
            firsts.pop((letter.incident, letter.service), None)
        return [*written, *firsts.values()][:limit]

    async def _was_settled(self, letter: Letter) -> bool:
        """Whether it was done with from memory, before its late commit made it wait in the database too."""
        status = self._settled.get(letter.key)
        if status is not None:
            await self._end(letter.key, status, "")
        return status is not None

    async def told(self, channel: str, incident: str) -> bool:
        """Whether the channel was ever given a letter of the incident. It was, where nobody can tell."""
        if (channel, incident) in self._told:
            return True
        try:
            row = await self._disk.read(
                lambda db: db.execute(
                    "SELECT 1 FROM outbox WHERE incident = ? AND channel = ?"
                    " AND (status = 'delivered' OR instr(error, ?) = 1) LIMIT 1",
                    (incident, channel, outbox.PARTLY),
                ).fetchone()
            )
        except StoreUnwritable:
            return True
        return row is not None

    async def delivered(self, key: str) -> None:
        """A letter reached its channel."""
        await self._done_with(key, "delivered", "")

    async def given_up(self, key: str, error: str) -> None:
        """A letter will never be delivered."""
        await self._done_with(key, "given_up", error)

    async def _done_with(self, key: str, status: str, error: str) -> None:
        for letter in self._unsaved:
            if letter.key == key:
                self._settled = dict([*self._settled.items(), (key, status)][-KEPT_UNSAVED:])
                if status == "delivered":
                    self._told = dict.fromkeys([*self._told, (letter.channel, letter.incident)][-KEPT_UNSAVED:])
                self._unsaved = [other for other in self._unsaved if other.key != key]
                return
        await self._end(key, status, error)

    async def _end(self, key: str, status: str, error: str) -> None:
        await self._disk.write(lambda db: outbox.end(db, key, status, error, self._clock.wall()))

    async def postponed(self, key: str, not_before: float, error: str) -> None:
        """A letter failed and is tried again at `not_before` (wall clock)."""
        if any(letter.key == key for letter in self._unsaved):
            self._unsaved = [
                replace(x, attempts=x.attempts + 1, not_before=not_before) if x.key == key else x for x in self._unsaved
            ]
            return
        await self._disk.write(lambda db: outbox.postpone(db, key, not_before, error))

    async def merged(self, letter: Letter) -> Letter:
        """The letter; or, if later ones of its incident wait too, the newest of them, which stands for all."""

        def merge(db: sqlite3.Connection) -> tuple[int, Letter | None]:
            gone = room.merge(db, letter.channel, letter.incident, letter.service)
            return gone, outbox.head(db, letter.channel, letter.incident, letter.service)

        if any(unsaved.key == letter.key for unsaved in self._unsaved):
            return letter
        gone, newest = await self._disk.write(merge)
        if gone:
            self.squeezed(Squeezed(letter.channel, gone, 0))
        return newest or letter

    async def gravest(self, channel: str) -> dict[tuple[str, str], str]:
        """Of each incident and service with letters in the database that wait, the severity of all of them in one;
        nothing while it can't be read, for letters in memory leave without it.
        """
        try:
            return await self._disk.read(lambda db: room.gravest_waiting(db, channel))
        except StoreUnwritable:
            return {}

    async def delivered_since(self, channel: str, since: float) -> list[float]:
        """When letters reached the channel, after that wall-clock time."""
        rows = await self._disk.read(
            lambda db: db.execute(
                "SELECT ended FROM outbox WHERE status = 'delivered' AND channel = ? AND ended > ? ORDER BY ended",
                (channel, since),
            ).fetchall()
        )
        return [ended for (ended,) in rows]

    # --- what stands with channels whose receivers forget ------------------------------------------------------------

    async def standing(self, channel: str) -> list[Stood]:
        """What the channel was last told of each service, as far as it stands."""
        return await self._disk.read(lambda db: standing.read(db, channel))

    async def stands(self, stood: Stood) -> None:
        """The channel took this, in place of what it knew of the service."""
        await self._disk.write(lambda db: standing.write(db, stood))

    async def ended(self, stood: Stood) -> None:
        """It stands no more."""
        await self._disk.write(lambda db: standing.forget(db, stood))

    async def abandon(self, configured: Collection[str], before: float) -> list[tuple[str, int]]:
        """Give up letters of before that time to channels that there are no more; how many of each."""
        return await self._disk.write(lambda db: outbox.abandon(db, configured, before, self._clock.wall()))

    async def outbox_length(self, channels: Collection[str] | None = None) -> int:
        """Letters that wait; with `channels`: for these."""
        rows = await self._disk.read(
            lambda db: db.execute(
                "SELECT channel, count(*) FROM outbox WHERE status = 'pending' GROUP BY channel"
            ).fetchall()
        )
        waiting = [*rows, *((letter.channel, 1) for letter in self._unsaved)]
        return sum(count for channel, count in waiting if channels is None or channel in channels)

    async def close(self) -> None:
        """Close the database and end its thread."""
        await self._disk.close()
