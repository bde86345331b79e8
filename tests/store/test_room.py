"""How the outbox stays within its bound: the whole life of letters, made up by hypothesis, against the real tables."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.store.make import OPENED, RESOLVED, Time, about, leaving, letter, sick
from watchdog.model import Severity, State
from watchdog.store import Keep, Letter, Squeezed, Store, outbox, room, schema

INCIDENTS = ("", "a", "b", "c", "d")  # "" is none, as that of a pause
MOST = 3


@dataclass
class Box:
    """A database with one channel's outbox, and what happened to it."""

    db: sqlite3.Connection
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10_000)))
    written: dict[str, list[int]] = field(default_factory=dict)
    told: dict[str, list[Letter]] = field(default_factory=dict)
    dropped: int = 0

    def is_open(self, incident: str) -> bool:
        found = self.db.execute("SELECT 1 FROM incident WHERE id = ? AND closed IS NULL", (incident,))
        return found.fetchone() is not None

    def write(self, incident: str) -> None:
        number = next(self.numbers)
        each = letter(number, incident=incident, key=f"k{number}")
        outbox.write_letters(self.db, [each], (), 1e9)
        self.written.setdefault(incident, []).append(number)

    def open(self, incident: str) -> None:
        if incident:
            values = (incident, "web", 1e9, "hung", "suspected")
            statement = "INSERT OR IGNORE INTO incident (id, service, opened, verdict, certainty)"
            self.db.execute(f"{statement} VALUES (?, ?, ?, ?, ?)", values)

    def close(self, incident: str) -> None:
        self.db.execute("UPDATE incident SET closed = 1e9 WHERE id = ?", (incident,))

    def deliver(self, incident: str) -> None:
        head = outbox.head(self.db, "ops", incident, "web")
        if head is not None:
            self.told.setdefault(incident, []).append(head)
            outbox.end(self.db, head.key, "delivered", "", 1e9)

    def merge(self, incident: str) -> None:
        room.merge(self.db, "ops", incident, "web")

    def pending(self) -> list[tuple[str, int, int]]:
        """Of each letter that waits: its incident, its number, how many it stands for beside itself."""
        number = "json_extract(payload, '$.number')"
        query = f"SELECT incident, {number}, merged FROM outbox WHERE status = 'pending' ORDER BY id"
        return self.db.execute(query).fetchall()

    def squeeze(self) -> None:
        """And what may never come of it."""
        before = self.pending()
        done = room.squeeze(self.db, "ops", MOST) or Squeezed("ops", 0, 0)
        after = self.pending()
        gone = set(before) - set(after)
        newest = {incident: number for incident, number, _ in before}
        left = {incident: number for incident, number, _ in after}
        assert {i: n for i, n in newest.items() if self.is_open(i)} == {
            i: n for i, n in left.items() if self.is_open(i)
        }
        assert len(before) - len(after) == done.merged + done.dropped
        lost = {incident for incident in newest if incident not in left}
        assert len(lost) == done.dropped
        assert len(before) > MOST or not gone
        assert len(after) <= max(MOST, sum(self.is_open(incident) for incident in left))
        if done.dropped:  # only when nothing was left to merge
            assert max(Counter(incident for incident, _, _ in after).values()) == 1
            closed = [number for incident, number in left.items() if not self.is_open(incident)]
            assert all(newest[incident] < number for incident in lost for number in closed)
        self.dropped += sum(1 + merged for incident, _, merged in gone if incident in lost)


ACTS = st.tuples(
    st.sampled_from(["write", "write", "write", "write", "open", "close", "deliver", "merge"]),
    st.sampled_from(INCIDENTS),
)


@given(st.lists(ACTS, max_size=80))
def test_within_its_bound_the_outbox_loses_no_open_incidents_state_and_keeps_count_and_order(
    story: list[tuple[str, str]],
) -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        schema.migrate(db)
        box = Box(db)
        for act, incident in story:
            getattr(box, act)(incident)
            box.squeeze()
        pending = box.pending()
        told = [each for letters in box.told.values() for each in letters]
        accounted = sum(1 + merged for _, _, merged in pending) + sum(1 + each.merged for each in told)
        assert accounted + box.dropped == sum(map(len, box.written.values()))
        for incident, letters in box.told.items():
            numbers = [each.payload["number"] for each in letters]
            assert numbers == sorted(numbers)
            waiting = [number for about_, number, _ in pending if about_ == incident]
            assert all(number > numbers[-1] for number in waiting)


@given(st.lists(st.sampled_from(INCIDENTS), max_size=60))
def test_letters_in_memory_are_squeezed_to_the_newest_of_each_incident(story: list[str]) -> None:
    letters = [letter(number, incident=incident) for number, incident in enumerate(story)]
    kept, merged, dropped = room.squeezed(letters, 3)
    assert len(kept) + merged + dropped == len(letters)
    assert len(kept) <= 3
    if len(letters) > 3:
        newest = {each.incident: each.payload["number"] for each in letters}
        assert [each.payload["number"] for each in kept] == sorted(newest.values())[-3:]
        assert sum(1 + each.merged for each in kept) == sum(
            incident in {e.incident for e in kept} for incident in story
        )
    else:
        assert kept == letters


def test_a_letter_that_stands_for_others_waits_as_long_as_the_first_of_them() -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        schema.migrate(db)
        outbox.write_letters(db, [letter(n, key=f"k{n}") for n in range(3)], (), 1e9)
        outbox.postpone(db, "k0", 1e9 + 50, "no answer")
        assert room.merge(db, "ops", "i", "web") == 2
        assert room.merge(db, "ops", "i", "web") == 0
        head = outbox.head(db, "ops", "i", "web")
        assert head is not None
        assert (head.key, head.merged, head.attempts, head.not_before) == ("k2", 2, 1, 1e9 + 50)


SEVERITIES, BEFORE_ITS_END = st.sampled_from(list(Severity)), st.sampled_from(["opened", "nudged", "escalated"])
STORY = st.builds(  # of one incident, which ends at most once
    lambda letters, end: [*letters, *([("resolved", end)] if end is not None else [])],
    st.lists(st.tuples(BEFORE_ITS_END, SEVERITIES), min_size=1),
    st.none() | SEVERITIES,
)


@given(STORY)
def test_a_letter_that_stands_for_others_is_as_severe_as_the_worst_but_an_end_is_no_worse_than_it_is(
    story: list[tuple[str, Severity]],
) -> None:
    letters = [letter(n, key=f"k{n}", kind=kind, severity=str(word)) for n, (kind, word) in enumerate(story)]
    kind, last = story[-1]
    expected = last if kind == "resolved" else max((word for _, word in story), key=lambda word: word.rank)
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        schema.migrate(db)
        outbox.write_letters(db, letters, (), 1e9)
        assert room.gravest_waiting(db, "ops") == {("i", "web"): expected}
        room.merge(db, "ops", "i", "web")
        head = outbox.head(db, "ops", "i", "web")
    assert head is not None
    assert (head.kind, head.severity) == (kind, expected)


@given(STORY)
def test_in_memory_it_is_so_too(story: list[tuple[str, Severity]]) -> None:
    kind, last = story[-1]
    expected = last if kind == "resolved" else max((word for _, word in story), key=lambda word: word.rank)
    letters = [letter(n, kind=kind, severity=str(word)) for n, (kind, word) in enumerate(story)]
    [kept], _, _ = room.squeezed(letters, 1)
    assert (kept.kind, kept.severity) == (kind, expected)


async def test_a_commit_beyond_the_bound_merges_what_is_over_and_tells_of_it(tmp_path: Path, time: Time) -> None:
    store = Store(tmp_path, time.clock, deadline=30, keep=Keep(letters=4))
    heard: list[Squeezed] = []
    store.squeezed = heard.append
    await store.commit("web", sick("a"), [about(OPENED, "a", 990.0)], None, [letter(n, incident="a") for n in range(3)])
    await store.commit("web", State(), [about(RESOLVED, "a", 991.0)], None, [letter(3, incident="a")])
    await store.commit("web", sick("b"), [about(OPENED, "b", 992.0)], None, [letter(4, incident="b")])
    left = [(each.payload["number"], each.merged) for each in await leaving(store)]
    await store.close()
    assert heard == [Squeezed("ops", 3, 0)]
    assert left == [(3, 3), (4, 0)]


async def test_a_disk_that_cannot_be_read_keeps_no_letter_in_memory_from_leaving(tmp_path: Path, time: Time) -> None:
    store = Store(tmp_path / "absent", time.clock, deadline=30)
    assert await store.gravest("ops") == {}
    await store.close()
