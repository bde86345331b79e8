from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import time as clock
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.drive import Story
from tests.core.make import seen
from tests.store.make import OPENED, RESOLVED, STATE, Time, about, happened, leaving, letter, sick
from watchdog.ladder import durable
from watchdog.model import Action, Incident, Pause, Record, RecordKind, Severity, State, Tally, Verdict
from watchdog.store import KEPT_INCIDENTS, PARTLY, Entry, Store, StoreUnwritable, shifted


async def test_what_was_committed_is_there_for_the_next_daemon(store: Store, tmp_path: Path, time: Time) -> None:
    await store.commit("web", STATE, (), None)
    another = Store(tmp_path, time.clock, deadline=30)
    assert await another.load("web") == STATE
    await another.close()


async def test_nobody_else_may_read_what_is_stored(tmp_path: Path, time: Time) -> None:
    (tmp_path / "state.db").touch(0o644)
    store = Store(tmp_path, time.clock, deadline=30)
    await store.commit("web", STATE, (), None)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == {"state.db": 0o600, "state.db-shm": 0o600, "state.db-wal": 0o600}
    await store.close()


async def test_a_service_that_nobody_knows_begins_anew(store: Store) -> None:
    assert await store.load("web") == State()


async def test_an_incident_has_its_records_with_wall_clock_times(store: Store) -> None:
    await store.commit("web", STATE, (OPENED,), None)
    (incident,) = await store.incidents()
    assert (incident.id, incident.service, incident.opened, incident.closed) == ("i", "web", 1e9 - 10, None)
    assert incident.records[0].at == 1e9 - 10
    assert incident.records[0].detail["since"] == 1e9 - 20


async def test_a_resolved_incident_is_closed(store: Store) -> None:
    await store.commit("web", STATE, (OPENED, RESOLVED), None)
    assert (await store.incidents())[0].closed == 1e9


async def test_incidents_are_handed_out_a_page_at_a_time_or_only_those_that_are_open(store: Store) -> None:
    for number in range(5):
        opened = replace(OPENED, incident=f"i{number}", at=900.0 + number)
        await store.commit(f"web{number}", State(), (opened, replace(RESOLVED, incident=f"i{number}")), None)
    await store.commit("redis", STATE, (replace(OPENED, at=800.0),), None)
    assert [each.id for each in await store.incidents(limit=2, skip=1)] == ["i3", "i2"]
    assert [each.id for each in await store.incidents(only_open=True)] == ["i"]
    assert [each.id for each in await store.incidents("web1", only_open=True)] == []


async def test_an_incident_is_found_by_its_id(store: Store) -> None:
    await store.commit("web", STATE, (OPENED, RESOLVED), None)
    assert [await store.incident("i")] == await store.incidents()
    assert await store.incident("%") is None


async def test_incidents_are_the_newest_of_the_service_asked_for(store: Store) -> None:
    await store.commit("web", STATE, (OPENED,), None)
    await store.commit("redis", STATE, (replace(OPENED, incident="j", at=999.0),), None)
    assert [incident.id for incident in await store.incidents()] == ["j", "i"]
    assert [incident.id for incident in await store.incidents("web")] == ["i"]
    assert [incident.id for incident in await store.incidents(limit=1)] == ["j"]


async def test_an_entry_is_kept_with_all_that_step_was_called_with(store: Store, tmp_path: Path) -> None:
    event = seen(Verdict.EPOLL_STALL)
    await store.commit("web", STATE, (OPENED,), Entry(990.0, State(), event))
    row = sqlite3.connect(tmp_path / "state.db").execute("SELECT incident, boottime, event_type FROM entry").fetchone()
    assert row == ("i", 990.0, "Looked")


# --- over a reboot ----------------------------------------------------------------------------------------------------


async def test_times_are_carried_over_a_reboot(store: Store, time: Time) -> None:
    await store.commit("web", STATE, (), None)
    time.boot, time.now, time.wall = "boot-2", 60.0, 1e9 + 60.0
    carried = await store.load("web")
    assert carried.nudges == (901.0 - 1000.0,)  # 99 s before the commit, 60 s ago
    assert carried == shifted(STATE, -1000.0)


@pytest.mark.parametrize(
    ("uptime", "wall_passed", "counted"), [(60.0, 9e6, 60.0), (500.0, 70.0, 70.0), (60.0, -5.0, 0.0)]
)
async def test_the_stricter_clock_counts(
    store: Store, time: Time, uptime: float, wall_passed: float, counted: float
) -> None:
    await store.commit("web", STATE, (), None)
    time.boot, time.now, time.wall = "boot-2", uptime, 1e9 + wall_passed
    carried = await store.load("web")
    assert uptime - carried.nudges[0] == pytest.approx(99.0 + counted)


@pytest.mark.parametrize(
    ("down", "uptime", "left"),
    [
        (2900.0, 60.0, 700.0),  # off for most of it, which no clock of the new boot has counted
        (9000.0, 60.0, -5400.0),  # over meanwhile
        (-5.0, 60.0, 3600.0),  # the wall clock was set back: it tells nothing
    ],
)
async def test_a_pause_ends_when_it_was_promised_to_over_a_reboot(
    store: Store, time: Time, down: float, uptime: float, left: float
) -> None:
    pause = Pause("root", "", time.now + 3600.0, round(time.wall) + 3600)
    await store.commit("web", replace(STATE, pause=pause), (), None)
    time.boot, time.now, time.wall = "boot-2", uptime, time.wall + down
    carried = (await store.load("web")).pause
    assert carried is not None
    assert carried.until is not None
    assert carried.until - time.now == pytest.approx(left)


def test_every_float_of_a_state_is_a_time_and_carried_over() -> None:
    """One that is added to these must be a time, too, or `shifted` must know of it."""
    times = {
        name
        for kind in (State, Incident, Pause, Action)
        for name, hint in get_type_hints(kind).items()
        if "float" in str(hint)
    }
    assert times == {
        "nudges",
        "restarts",
        "captures",
        "until",
        "at",
        "since",
        "opened",
        "settle_until",
        "told",
        "exhausted",
        "acted",
    }


@given(st.floats(-1e6, 1e6))
def test_shifting_moves_every_time_alike(by: float) -> None:
    moved = shifted(STATE, by)
    assert shifted(moved, -by).nudges[0] == pytest.approx(901.0, abs=1e-3)
    assert moved.incident is not None
    assert moved.incident.opened - moved.restarts[0] == pytest.approx(901.0 - 950.0, abs=1e-3)


# --- the outbox -------------------------------------------------------------------------------------------------------


async def test_letters_leave_in_order_and_by_channel(store: Store) -> None:
    await store.commit("web", STATE, (), None, [letter(1), letter(2, "other"), letter(3)])
    assert await store.outbox_length() == 3
    assert [waiting.payload["number"] for waiting in await leaving(store)] == [1, 3]
    assert await store.outbox_length() == 1


async def test_of_each_incident_only_the_first_letter_is_handed_out(store: Store) -> None:
    letters = [letter(1), letter(2), letter(3, incident="j"), letter(4, incident=""), letter(5, incident="")]
    await store.commit("web", STATE, (), None, [*letters, letter(6, incident="", service="redis")])
    assert [waiting.payload["number"] for waiting in await store.outbox("ops", 10)] == [1, 3, 4, 6]


async def test_letters_that_are_not_due_hide_none_that_is(store: Store) -> None:
    await store.commit("web", STATE, (), None, [letter(number, incident=f"i{number}") for number in range(5)])
    for waiting in await store.outbox("ops", 3):
        await store.postponed(waiting.key, 1e9 + 50 - waiting.id, "no answer")
    assert [waiting.payload["number"] for waiting in await store.outbox("ops", 3)] == [3, 4, 2]


async def test_a_delivered_letter_waits_no_more_and_its_incident_was_told(store: Store) -> None:
    await store.commit("web", STATE, (), None, [letter()])
    (waiting,) = await store.outbox("ops", 10)
    assert not await store.told("ops", "i")
    await store.delivered(waiting.key)
    assert await store.outbox("ops", 10) == []
    assert await store.told("ops", "i")
    assert await store.delivered_since("ops", 1e9 - 1) == [1e9]


async def test_a_postponed_letter_keeps_its_place_and_counts_its_attempts(store: Store) -> None:
    await store.commit("web", STATE, (), None, [letter()])
    (waiting,) = await store.outbox("ops", 10)
    await store.postponed(waiting.key, 1e9 + 5, "no answer")
    assert await store.outbox("ops", 10) == [replace(waiting, attempts=1, not_before=1e9 + 5)]


async def test_a_letter_given_up_waits_no_more(store: Store) -> None:
    await store.commit("web", STATE, (), None, [letter()])
    await store.given_up((await store.outbox("ops", 10))[0].key, "refused")
    assert await store.outbox_length() == 0
    assert not await store.told("ops", "i")


async def test_a_letter_is_known_by_the_same_key_to_the_next_daemon(store: Store, tmp_path: Path, time: Time) -> None:
    await store.commit("web", STATE, (), None, [letter(1), letter(2, "other")])
    (before,) = await store.outbox("ops", 10)
    (other,) = await store.outbox("other", 10)
    another = Store(tmp_path, time.clock, deadline=30)
    (after,) = await another.outbox("ops", 10)
    await another.close()
    assert after.message_id == before.message_id != other.message_id


async def test_a_letter_says_how_often_it_happened_and_what_was_done(store: Store) -> None:
    month_ago = 1000.0 - 31 * 86400
    detail = {"rung": "nudge", "outcome": "done"}
    nudged = Record(RecordKind.NUDGED, 995.0, "nudge done: 2 threads", "i", Severity.INFO, detail)
    spent = {"rung": "restart", "reason": "budget_spent"}
    passed = Record(RecordKind.PASSED, 996.0, "restart passed over: 2 in 1h are spent", "i", Severity.INFO, spent)
    await happened(store, "before", 2, at=990.0)
    await happened(store, "long ago", 2, at=month_ago)
    await happened(store, "other", 2, service="redis")
    await store.commit("web", STATE, (OPENED,), None, [letter()])
    await store.commit("web", STATE, (nudged, passed), None, [letter()])
    opened, told = await leaving(store)
    assert (opened.payload["times_30d"], opened.payload["done"]) == (2, [])
    assert told.payload["done"] == [
        {"at": 1e9 - 5, "rung": "nudge", "outcome": "done", "reason": "2 threads"},
        {"at": 1e9 - 4, "rung": "restart", "outcome": "passed", "reason": "2 in 1h are spent"},
    ]


async def test_an_end_waits_only_for_channels_that_are_told_of_the_incident(store: Store) -> None:
    await store.commit("web", STATE, (OPENED,), None, [letter(1)])
    ends = [letter(2, channel, only_if_told=True) for channel in ("ops", "pager")]
    await store.commit("web", State(), (RESOLVED,), None, ends)
    assert [waiting.payload["number"] for waiting in await leaving(store)] == [1, 2]
    assert await leaving(store, "pager") == []


async def test_a_letter_that_some_have_holds_up_no_other(store: Store) -> None:
    await store.commit("web", STATE, (), None, [letter(1), letter(2), letter(3)])
    assert not await store.told("ops", "i")
    first, *_ = await store.outbox("ops", 10)
    await store.postponed(first.key, 0.0, f"{PARTLY}one was put off")
    assert [waiting.payload["number"] for waiting in await store.outbox("ops", 10)] == [1, 2]
    assert await store.told("ops", "i")
    await store.postponed(first.key, 0.0, "connection failed")
    assert [waiting.payload["number"] for waiting in await store.outbox("ops", 10)] == [1]


async def test_of_an_incident_that_was_forgotten_no_letter_stays_for_ever(store: Store, tmp_path: Path) -> None:
    await store.commit("web", State(), (), None, [letter(1, incident=""), letter(2, incident="forgotten")])
    await leaving(store)
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as db:
        assert db.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


async def test_letters_to_a_channel_that_is_gone_are_given_up_when_they_are_old(store: Store) -> None:
    old, young = letter(1, "gone"), letter(2, "gone", created=1e9 + 9)
    await store.commit("web", STATE, (), None, [old, young, letter(3, "ops")])
    assert (await store.outbox_length(), await store.outbox_length({"ops"})) == (3, 1)
    assert await store.abandon({"ops"}, 1e9 + 5) == [("gone", 1)]
    assert [waiting.payload["number"] for waiting in await leaving(store, "gone")] == [2]
    assert [waiting.payload["number"] for waiting in await leaving(store, "ops")] == [3]


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk that is full."""
    directory = tmp_path / "full"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], check=True)
    (directory / "ballast").write_bytes(bytes(60 * 1024))
    yield directory
    subprocess.run(["umount", directory], check=True)


def make_room(directory: Path) -> None:
    (directory / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=1m", directory], check=True)


def fill(directory: Path) -> None:
    with contextlib.suppress(OSError), (directory / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


async def test_a_full_disk_is_told_and_keeps_the_letters_for_delivery(full: Path, time: Time) -> None:
    store = Store(full, time.clock, deadline=30)
    with pytest.raises(StoreUnwritable, match=r"state\.db: .*full"):
        await store.commit("web", STATE, (OPENED,), None, [letter(1), letter(2)])
    (first,) = await store.outbox("ops", 10)
    await store.delivered(first.key)
    (second,) = await store.outbox("ops", 10)
    await store.postponed(second.key, 1e9 + 5, "no answer")
    (left,) = await store.outbox("ops", 10)
    assert (left.payload["number"], left.attempts) == (2, 1)
    assert await store.told("ops", "i")
    await store.close()


async def test_letters_of_a_full_disk_are_written_when_it_has_room_and_keep_their_place(full: Path, time: Time) -> None:
    store = Store(full, time.clock, deadline=30)
    with pytest.raises(StoreUnwritable):
        await store.commit("web", STATE, (OPENED,), None, [letter(1), letter(2)])
    (before,) = await store.outbox("ops", 10)
    make_room(full)
    await store.commit("web", STATE, (), None, [letter(3)])
    await store.close()
    another = Store(full, time.clock, deadline=30)
    first, second, third = await leaving(another)
    await another.close()
    assert [each.payload["number"] for each in (first, second, third)] == [1, 2, 3]
    assert first.message_id == before.message_id


async def test_a_disk_that_became_full_can_still_be_read(full: Path, time: Time) -> None:
    store = Store(full, time.clock, deadline=30)
    make_room(full)
    await store.commit("web", STATE, (OPENED,), None)
    fill(full)
    with pytest.raises(StoreUnwritable):
        await store.commit("web", State(), (replace(OPENED, text="x" * 65536),), None)
    assert await store.load("web") == STATE
    assert [incident.id for incident in await store.incidents()] == ["i"]
    await store.close()


async def test_a_disk_that_has_room_again_is_written_again(full: Path, time: Time) -> None:
    store = Store(full, time.clock, deadline=30)
    with pytest.raises(StoreUnwritable):
        await store.commit("web", STATE, (), None)
    make_room(full)
    await store.commit("web", STATE, (), None)
    assert await store.load("web") == STATE
    await store.close()


async def test_a_directory_that_does_not_exist_is_told(tmp_path: Path, time: Time) -> None:
    store = Store(tmp_path / "none", time.clock)
    with pytest.raises(StoreUnwritable, match=r"none/state\.db: unable to open"):
        await store.load("web")
    await store.close()


async def test_a_disk_that_hangs_costs_the_deadline_and_no_more(tmp_path: Path, time: Time) -> None:
    made = Store(tmp_path, time.clock, deadline=30)
    await made.commit("web", STATE, (), None)
    await made.close()
    store = Store(tmp_path, time.clock, deadline=0.2)
    holder = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnwritable, match=r"no answer from the disk within 0\.2 s"):
        await store.commit("web", STATE, (), None)
    holder.close()


async def test_a_letter_whose_commit_came_late_is_told_once(tmp_path: Path, time: Time) -> None:
    made = Store(tmp_path, time.clock, deadline=30)
    await made.commit("web", STATE, (), None)
    await made.close()
    store = Store(tmp_path, time.clock, deadline=0.2)
    holder = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnwritable):
        await store.commit("web", STATE, (), None, [letter(1), letter(2)])
    holder.execute("ROLLBACK")  # SQLite waits for 1 s: the commit that nobody waits for any more is done
    holder.close()
    async with asyncio.timeout(10):
        while (letters := await leaving(store)) == []:
            pass
    letters += await leaving(store)
    await store.commit("web", STATE, (), None)
    letters += await leaving(store)
    await store.close()
    assert [each.payload["number"] for each in letters] == [1, 2]


async def test_a_database_that_is_none_is_put_aside_and_kept(tmp_path: Path, time: Time) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database, but somebody's data" * 100)
    store = Store(tmp_path, time.clock, deadline=30)
    await store.commit("web", STATE, (), None)
    assert await store.load("web") == STATE
    assert (tmp_path / "state.db.unreadable-1").read_bytes().startswith(b"not a database")
    await store.close()


async def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path, time: Time) -> None:
    newer = sqlite3.connect(tmp_path / "state.db")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    store = Store(tmp_path, time.clock, deadline=30)
    with pytest.raises(StoreUnwritable, match="written by a newer version"):
        await store.load("web")
    await store.close()


async def test_the_oldest_closed_incidents_are_forgotten_and_no_open_one(store: Store) -> None:
    await store.commit("web", sick("open"), (about(OPENED, "open", 1.0),), None)
    many = [
        about(record, f"i{number}", record.at + number)
        for number in range(KEPT_INCIDENTS + 5)
        for record in (OPENED, RESOLVED)
    ]
    await store.commit("web", sick("open"), many, None)
    kept = {incident.id for incident in await store.incidents(limit=10_000)}
    assert len(kept) == KEPT_INCIDENTS + 1
    assert "open" in kept
    assert "i4" not in kept


async def test_every_state_that_a_story_passes_through_survives_the_disk(store: Store) -> None:
    story = Story().healthy().look(Verdict.EPOLL_STALL, for_=70)
    await store.commit("web", story.state, story.records, Entry(1.0, story.state, seen(Verdict.HUNG)))
    assert await store.load("web") == durable(story.state)


async def test_darkness_that_nobody_looked_at_is_not_unbroken(store: Store) -> None:
    story = Story().healthy().look(Verdict.EPOLL_STALL, times=5)
    assert story.state.tally.unbroken_since is not None
    await store.commit("web", story.state, (), None)
    assert (await store.load("web")).tally == Tally()


async def test_a_text_that_is_no_unicode_is_spelled_out(store: Store) -> None:
    odd = replace(OPENED, text="w\udcff", detail={**OPENED.detail, "path": "\udcff"})
    await store.commit("web", STATE, (odd,), None)
    [(record,)] = [incident.records for incident in await store.incidents()]
    assert (record.text, record.detail["path"]) == ("w\\udcff", "\\udcff")


async def test_a_value_that_is_no_json_is_told_and_the_store_goes_on(store: Store) -> None:
    with pytest.raises(StoreUnwritable, match="unsupported"):
        await store.commit("web", STATE, (replace(OPENED, detail={**OPENED.detail, "path": object()}),), None)
    await store.commit("web", State(), (), None)
    assert await store.incidents() == []


async def test_an_incident_whose_opening_could_not_be_written_is_there_once_the_disk_is(full: Path, time: Time) -> None:
    store = Store(full, time.clock, deadline=30)
    with pytest.raises(StoreUnwritable):
        await store.commit("web", sick("i"), (OPENED,), None)
    make_room(full)
    await store.commit("web", sick("i"), (), None)
    (incident,) = await store.incidents()
    assert (incident.id, incident.opened, incident.verdict) == ("i", 1e9 - 99, "hung")
    await store.close()


async def test_an_incident_whose_end_could_not_be_written_is_closed_by_the_next_commit(store: Store) -> None:
    await store.commit("web", sick("i"), (OPENED,), None)
    await store.commit("redis", sick("j"), (about(OPENED, "j", 990.0),), None)
    await store.commit("web", State(), (), None)
    assert {incident.id: incident.closed for incident in await store.incidents()} == {"i": 1e9, "j": None}


async def test_a_state_that_nobody_understands_is_told(store: Store, tmp_path: Path) -> None:
    await store.commit("web", STATE, (), None)
    other = sqlite3.connect(tmp_path / "state.db")
    other.execute("UPDATE state SET state = '{\"tally\": 5}'")
    other.commit()
    other.close()
    with pytest.raises(StoreUnwritable, match="the state of web can't be understood"):
        await store.load("web")


async def test_a_cancellation_that_comes_with_the_answer_is_not_lost(store: Store) -> None:
    await store.load("web")
    asking = asyncio.create_task(store.load("web"))
    await asyncio.sleep(0)
    clock.sleep(0.2)  # noqa: ASYNC251 - the loop stands still, and the thread answers meanwhile
    await asyncio.sleep(0)  # the answer is there, and who asked has not run yet
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
