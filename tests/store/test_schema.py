"""A database of an older version. `version1.sql` is one that the first version's daemon wrote, as `.dump` tells it: an
incident that a restart healed, and one that is still open."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.simulated import POLICY
from tests.store.make import Time, happened
from watchdog.ladder import step
from watchdog.model import Performed, RecordKind, Rung
from watchdog.store import Store, StoreUnwritable
from watchdog.store.schema import MIGRATIONS, SCHEMA_VERSION

VERSION1 = Path(__file__).with_name("version1.sql")
CLOSED, OPEN = "1011.001-0", "1064.001-6"


@pytest.fixture
async def old(tmp_path: Path) -> AsyncIterator[Store]:
    """A store that finds a database of version 1."""
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.executescript(VERSION1.read_text())
    store = Store(tmp_path, Time(now=1065.0, wall=1e9 + 1065.0, boot="boot").clock, deadline=30)
    yield store
    await store.close()


def tables(path: Path) -> set[str]:
    with sqlite3.connect(path) as db:
        return {sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}


async def test_a_database_of_version_1_keeps_all_it_has(old: Store) -> None:
    state = await old.load("web")
    assert state.incident is not None
    assert (state.incident.id, state.incident.tried, len(state.nudges)) == (OPEN, (Rung.NUDGE,), 3)
    opened, closed = await old.incidents()
    assert (opened.id, opened.closed, closed.id, closed.closed) == (OPEN, None, CLOSED, 1000001031.001)
    assert closed.records[-1].kind == "resolved"
    assert await old.outbox_length() == 7


async def test_a_database_of_version_1_is_written_on(old: Store) -> None:
    state = await old.load("web")
    await happened(old, "new", 2, at=1065.0, service="redis")
    assert await old.load("web") == state
    assert [recorded.case is not None for recorded in await old.recorded("new")] == [True, True]


async def test_entries_of_version_1_say_nothing_of_what_was_decided_and_can_be_stepped(old: Store) -> None:
    recorded = await old.recorded(CLOSED)
    assert len(recorded) == 11
    assert {(entry.decided, entry.case) for entry in recorded} == {(None, None)}
    [nudged, *_] = [entry.entry for entry in recorded if isinstance(entry.entry.event, Performed)]
    made = step(POLICY, nudged.state, nudged.event, nudged.now)
    assert [record.kind for record in made.records] == [RecordKind.NUDGED]


async def test_a_migrated_database_has_the_tables_of_a_new_one(old: Store, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    new = Store(tmp_path / "new", Time().clock, deadline=30)
    await old.load("web")
    await new.load("web")
    await new.close()
    assert tables(tmp_path / "state.db") == tables(tmp_path / "new" / "state.db")


async def test_a_migration_that_fails_changes_nothing_and_is_tried_again(
    old: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tables(tmp_path / "state.db")
    broken = (*MIGRATIONS[:-1], f"{MIGRATIONS[-1]} CREATE TABLE entry (broken);")
    monkeypatch.setattr("watchdog.store.schema.MIGRATIONS", broken)
    with pytest.raises(StoreUnwritable, match="table entry already exists"):
        await old.load("web")
    assert tables(tmp_path / "state.db") == before
    monkeypatch.undo()
    assert (await old.load("web")).incident is not None


async def test_a_database_that_was_migrated_says_so(old: Store, tmp_path: Path) -> None:
    await old.load("web")
    with sqlite3.connect(tmp_path / "state.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
