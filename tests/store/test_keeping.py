"""What is kept is bounded, in number and in size."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.make import seen
from tests.store.make import CASE, OPENED, Time, about, happened, letter, sick
from watchdog.model import RecordKind, State, Verdict
from watchdog.reading import Reading, Sample
from watchdog.store import Entry, Keep, Store

Opener = Callable[[Keep], Store]
KIB = 1024


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory: some hundred commits, and none of these tests is about the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        yield Path(made)


@pytest.fixture
async def keeping(directory: Path, time: Time) -> AsyncIterator[Opener]:
    """Opens stores with other bounds."""
    async with AsyncExitStack() as stack:
        stores: list[Store] = []

        def opener(keep: Keep) -> Store:
            stores.append(Store(directory, time.clock, deadline=30, keep=keep))
            stack.push_async_callback(stores[-1].close)
            return stores[-1]

        yield opener


async def large_entry(store: Store, incident: str, at: float, size: int = 16 * KIB, *, service: str = "web") -> None:
    """An entry of an open incident, with a case that does not get smaller by compression."""
    noise = int.from_bytes(os.urandom(size), "big")
    sockets = tuple((noise >> 32 * number) & 0xFFFFFFFF for number in range(size // 4))
    case = replace(CASE, now=at, reading=Reading(samples=(Sample(began=0, ended=0, sockets=sockets),)))
    await store.commit(service, sick(incident), (), Entry(at, sick(incident), seen(Verdict.HUNG)), case=case)


async def large_incident(store: Store, incident: str, at: float, entries: int = 2) -> None:
    """One that is closed, with some such entries."""
    await store.commit("web", sick(incident), (about(OPENED, incident, at),), None)
    for number in range(entries):
        await large_entry(store, incident, at + number)
    await happened(store, incident, 1, at=at)


def rows(directory: Path, table: str) -> int:
    with sqlite3.connect(directory / "state.db") as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_of_an_incident_the_first_and_the_last_entries_are_kept_with_their_cases(keeping: Opener) -> None:
    store = keeping(Keep(first_entries=2, last_entries=3))
    await happened(store, "i", 9)
    kept = await store.recorded("i")
    assert [recorded.entry.now - 1000 for recorded in kept] == [0, 1, 6, 7, 8]
    assert [recorded.case and recorded.case.now for recorded in kept] == [1000, 1001, 1006, 1007, 1008]


@pytest.mark.parametrize(("first", "last"), [(2, 3), (5, 1), (9, 1), (1, 9)])
async def test_an_incident_that_fits_is_kept_whole(keeping: Opener, first: int, last: int) -> None:
    store = keeping(Keep(first_entries=first, last_entries=last))
    await happened(store, "i", 5)
    assert len(await store.recorded("i")) == 5


async def test_of_a_timeline_the_first_and_the_last_records_are_kept(keeping: Opener) -> None:
    store = keeping(Keep(first_records=1, last_records=2))
    many = [replace(OPENED, kind=RecordKind.HELD, text=str(number)) for number in range(9)]
    await store.commit("web", sick("i"), [OPENED, *many], Entry(1.0, sick("i"), seen(Verdict.HUNG)))
    (incident,) = await store.incidents()
    assert [record.text for record in incident.records] == [OPENED.text, "7", "8"]


async def test_of_what_belongs_to_no_incident_the_last_is_kept(keeping: Opener) -> None:
    store = keeping(Keep(first_entries=2, last_entries=3))
    for number in range(7):
        await store.commit("web", State(), (), Entry(float(number), State(), seen(Verdict.HEALTHY)))
    assert [recorded.entry.now for recorded in await store.recorded("")] == [4, 5, 6]


async def test_no_evidence_outlives_its_entry(keeping: Opener, directory: Path) -> None:
    store = keeping(Keep(first_entries=1, last_entries=1, incidents=1))
    for number in range(3):
        await happened(store, f"i{number}", 5, at=1000.0 + number)
    assert (rows(directory, "entry"), rows(directory, "evidence")) == (2, 2)


async def test_the_oldest_closed_incidents_give_up_their_evidence_first_and_keep_their_timeline(
    keeping: Opener,
) -> None:
    store = keeping(Keep(size=256 * KIB))
    for number in range(10):
        await large_incident(store, f"i{number}", 1000.0 + number)
    kept = [len(await store.recorded(f"i{number}")) for number in range(10)]
    assert kept[:5] == [0] * 5
    assert kept[-2:] == [3, 3]
    assert kept == sorted(kept)
    assert [len(incident.records) for incident in await store.incidents()] == [3] * 10


async def test_the_database_stays_within_its_size_and_one_commit(keeping: Opener, directory: Path) -> None:
    store = keeping(Keep(size=256 * KIB))
    sizes = []
    for number in range(20):
        await large_incident(store, f"i{number}", 1000.0 + number)
        with sqlite3.connect(directory / "state.db") as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sizes.append((directory / "state.db").stat().st_size)
    assert max(sizes) <= (256 + 64) * KIB


async def test_incidents_without_evidence_go_whole_and_the_oldest_closed_first(keeping: Opener) -> None:
    store = keeping(Keep(size=256 * KIB))
    await store.commit("redis", sick("open"), (about(OPENED, "open", 1.0),), None)
    for number in range(12):
        told = replace(about(OPENED, f"i{number}", 1000.0 + number), text="x" * 32 * KIB)
        await store.commit("web", sick(f"i{number}"), (told,), None)
    kept = [incident.id for incident in await store.incidents()]
    assert kept[:2] == ["i11", "i10"]
    assert kept[-1] == "open"
    assert {"i0", "i1"}.isdisjoint(kept)


async def test_an_open_incident_keeps_its_last_evidence_whatever_it_takes(keeping: Opener) -> None:
    store = keeping(Keep(size=64 * KIB))
    await store.commit("web", sick("open"), (about(OPENED, "open", 1000.0),), None)
    for number in range(8):
        await large_entry(store, "open", 1000.0 + number, 48 * KIB)
    (recorded,) = await store.recorded("open")
    assert recorded.case is not None
    assert recorded.case.now == 1007.0


async def test_of_open_incidents_those_give_up_evidence_that_have_more_than_one(keeping: Opener) -> None:
    store = keeping(Keep(size=64 * KIB))
    for number, name in enumerate(("old", "new")):
        await store.commit(name, sick(name), (about(OPENED, name, 1000.0 + number),), None)
        await large_entry(store, name, 1000.0 + number, 24 * KIB, service=name)
    await large_entry(store, "new", 1002.0, 24 * KIB, service="new")
    assert [len(await store.recorded(name)) for name in ("old", "new")] == [1, 1]


async def test_letters_that_wait_are_never_given_up_for_want_of_room(keeping: Opener) -> None:
    store = keeping(Keep(size=64 * KIB))
    waiting = [replace(letter(number), payload={"text": "x" * 16 * KIB}) for number in range(8)]
    await store.commit("web", State(), (), None, waiting)
    await happened(store, "i", 3)
    assert await store.outbox_length() == 8


async def test_what_is_far_too_large_gets_smaller_with_each_commit_and_none_waits_long(
    keeping: Opener, directory: Path
) -> None:
    generous, mean = keeping(Keep()), keeping(Keep(size=64 * KIB))
    for number in range(20):
        await large_incident(generous, f"i{number}", 1000.0 + number, entries=1)
    left = [rows(directory, "evidence")]
    for _ in range(3):
        await mean.commit("web", State(), (), None)
        left.append(rows(directory, "evidence"))
    assert left[:3] == [40, 24, 8]
    assert left[3] < 8
