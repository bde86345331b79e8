"""A state database read by a command."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.store.make import CASE, OPENED, Time, about, happened, sick
from tests.store.test_schema import CLOSED, OPEN, VERSION1
from watchdog.recording import dump, load
from watchdog.store import Store
from watchdog.store.archive import Archive, Unreadable
from watchdog.store.schema import SCHEMA_VERSION


async def test_the_incidents_of_a_running_daemon_are_read(store: Store, tmp_path: Path) -> None:
    await happened(store, "one", 2, at=1000.0)
    await happened(store, "two", 3, at=1100.0, closed=False)
    with Archive(tmp_path / "state.db") as archive:
        first, second = archive.incidents()
        assert (first.service, first.summary.id, second.summary.id) == ("web", "one", "two")
        assert (first.summary.closed is None, second.summary.closed is None) == (False, True)
        recording = archive.recording(second)
    assert recording.entries == await store.recorded("two")
    assert (recording.policy, recording.roads) == (CASE.policy, CASE.roads)
    assert load(dump(recording)) == recording


async def test_who_reads_keeps_no_commit_waiting_and_changes_nothing(store: Store, tmp_path: Path) -> None:
    await happened(store, "one", 1, at=1000.0)
    with Archive(tmp_path / "state.db") as archive:
        await happened(store, "two", 1, at=1100.0)
        assert len(archive.incidents()) == 2
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            archive._db.execute("DELETE FROM incident")


async def test_incidents_are_found_by_the_beginning_of_their_id(store: Store, tmp_path: Path) -> None:
    for number, name in enumerate(("abc", "abd", "x_%")):
        await happened(store, name, 1, at=1000.0 + number)
    with Archive(tmp_path / "state.db") as archive:
        found = {
            prefix: [it.summary.id for it in archive.incidents(prefix)] for prefix in ("ab", "abd", "x_%", "_", "")
        }
    assert found == {"ab": ["abc", "abd"], "abd": ["abd"], "x_%": ["x_%"], "_": [], "": ["abc", "abd", "x_%"]}


async def test_an_incident_without_a_case_has_no_policy(store: Store, tmp_path: Path) -> None:
    await store.commit("web", sick("i"), (about(OPENED, "i", 1000.0),), None)
    with Archive(tmp_path / "state.db") as archive:
        [recording] = [archive.recording(found) for found in archive.incidents()]
    assert (recording.policy, recording.roads, recording.entries) == (None, {}, [])


def test_a_database_of_version_1_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as db:
        db.executescript(VERSION1.read_text())
    before = path.read_bytes()
    with Archive(path) as archive:
        closed, opened = archive.incidents()
        assert (closed.summary.id, opened.summary.id) == (CLOSED, OPEN)
        assert closed.summary.opened == datetime.fromtimestamp(1000001011.001, UTC)
        assert len(archive.recording(closed).entries) == 11
    assert path.read_bytes() == before


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory that nobody can write to, not even root."""
    directory = tmp_path / "read-only"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


async def test_a_copy_is_read_where_nothing_can_be_written(read_only: Path, tmp_path: Path, time: Time) -> None:
    store = Store(tmp_path, time.clock, deadline=30)
    await happened(store, "i", 2)
    await store.close()  # which ends the write-ahead log
    shutil.copy(tmp_path / "state.db", read_only / "odd name?#%.db")
    subprocess.run(["mount", "-o", "remount,ro", read_only], check=True)
    with Archive(read_only / "odd name?#%.db") as archive:
        assert len(archive.recording(archive.incidents()[0]).entries) == 2


def database(path: Path, *statements: str) -> Path:
    with sqlite3.connect(path) as db:
        db.executescript(";".join(statements))
    return path


def test_what_is_no_state_database_is_told(tmp_path: Path) -> None:
    foreign = database(tmp_path / "foreign.db", "CREATE TABLE contacts (name)")
    alike = database(tmp_path / "alike.db", "CREATE TABLE contacts (name)", f"PRAGMA user_version = {SCHEMA_VERSION}")
    newer = database(tmp_path / "newer.db", "PRAGMA user_version = 99")
    text = tmp_path / "text.db"
    text.write_text("no database\n" * 100)
    with pytest.raises(Unreadable, match="no state database"):
        Archive(foreign)
    with pytest.raises(Unreadable, match="no such table: incident"), Archive(alike) as archive:
        archive.incidents()
    with pytest.raises(Unreadable, match="written by a newer version"):
        Archive(newer)
    with pytest.raises(Unreadable, match="file is not a database"):
        Archive(text)
    with pytest.raises(Unreadable, match="unable to open"):
        Archive(tmp_path / "missing.db")


async def test_an_entry_that_nobody_understands_is_told(store: Store, tmp_path: Path) -> None:
    await happened(store, "i", 1)
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.execute("UPDATE evidence SET body = x'00'")
    with Archive(tmp_path / "state.db") as archive:
        [found] = archive.incidents()
        with pytest.raises(Unreadable):
            archive.recording(found)
