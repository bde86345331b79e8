"""What is kept of each decision, for `replay`."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time as real_time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.anything import anything
from tests.core.drive import Story
from tests.core.make import seen
from tests.store.make import CASE, OPENED, RESOLVED, STATE, Time, about, happened, sick
from watchdog.model import (
    Action,
    Case,
    Certainty,
    Outcome,
    Performed,
    Record,
    RecordKind,
    Rung,
    State,
    Verdict,
)
from watchdog.reading import Reading, Sample
from watchdog.recording import Decision
from watchdog.store import Entry, Keep, Store
from watchdog.store.incidents import incident_of, read_entries, write_case, write_entry
from watchdog.store.schema import migrate

LOOKED = seen(Verdict.EPOLL_STALL)


async def test_an_entry_is_read_as_it_was_given_with_its_case_and_what_was_decided(store: Store) -> None:
    entry = Entry(990.0, State(), LOOKED)
    await store.commit("web", STATE, (OPENED,), entry, case=CASE)
    (recorded,) = await store.recorded("i")
    assert (recorded.entry, recorded.case) == (entry, CASE)
    assert recorded.at == datetime.fromtimestamp(1e9, UTC)
    assert recorded.decided == Decision(Verdict.EPOLL_STALL, Certainty.SUSPECTED, Rung.RESTART, (RecordKind.OPENED,))


@settings(max_examples=50, suppress_health_check=list(HealthCheck), deadline=None)
@given(anything(Entry), anything(State), anything(Case), st.lists(st.sampled_from(RecordKind), max_size=3))
def test_any_entry_is_read_from_the_database_as_it_was_written(
    entry: Entry, after: State, case: Case, kinds: list[RecordKind]
) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        migrate(db)
        row = write_entry(db, "web", entry, after, [Record(kind, 0.0, "") for kind in kinds], 1e9)
        write_case(db, row, case, 2**20)
        [recorded] = read_entries(db, incident_of(entry, after))
    assert (recorded.entry, recorded.case) == (entry, case)
    assert recorded.decided is not None
    assert recorded.decided.records == tuple(kinds)


async def test_an_outcome_has_no_verdict_and_no_case(store: Store) -> None:
    state = sick("i")
    pending = replace(state, pending=Action(Rung.NUDGE, "i", None, 1.0))
    event = Performed(Rung.NUDGE, Outcome.DONE, "reason", {"threads": [1, 2], "stopped_ns": 10**9})
    await store.commit("web", state, (), Entry(990.0, pending, event))
    (recorded,) = await store.recorded("i")
    assert recorded.entry.event == event
    assert (recorded.decided, recorded.case) == (Decision(None, None, None, ()), None)


async def test_an_action_is_decided_once_and_not_again_while_it_is_pending(store: Store) -> None:
    pending = replace(sick("i"), pending=Action(Rung.NUDGE, "i", None, 1.0))
    await store.commit("web", pending, (), Entry(1.0, sick("i"), LOOKED))
    await store.commit("web", pending, (), Entry(2.0, pending, LOOKED))
    actions = [recorded.decided and recorded.decided.action for recorded in await store.recorded("i")]
    assert actions == [Rung.NUDGE, None]


async def test_the_entry_that_ends_an_incident_belongs_to_it(store: Store) -> None:
    await happened(store, "i", 3)
    assert [recorded.entry.now for recorded in await store.recorded("i")] == [1000.0, 1001.0, 1002.0]


async def test_evidence_is_kept_of_incidents_only(store: Store, tmp_path: Path) -> None:
    await store.commit("web", State(), (), Entry(1.0, State(), LOOKED), case=CASE)
    (recorded,) = await store.recorded("")
    assert recorded.case is None


async def test_a_case_that_is_larger_than_any_should_be_is_not_kept_and_told(
    tmp_path: Path, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path, time.clock, deadline=30, keep=Keep(case=2000))
    large = replace(CASE, reading=Reading(samples=(Sample(began=0, ended=0, sockets=tuple(os.urandom(2000))),)))
    with caplog.at_level(logging.WARNING):
        await store.commit("web", sick("i"), (OPENED,), Entry(1.0, State(), LOOKED), case=large)
    (recorded,) = await store.recorded("i")
    assert recorded.case is None
    assert "the evidence of one look is not kept" in caplog.text
    await store.close()


async def test_a_failed_commit_leaves_no_evidence_behind(store: Store) -> None:
    await happened(store, "i", 1, closed=False)
    broken = replace(about(RESOLVED, "i", 1.0), detail={"why": object()})
    with pytest.raises(Exception, match="unsupported"):
        await store.commit("web", State(), (broken,), Entry(2.0, sick("i"), LOOKED), case=CASE)
    assert len(await store.recorded("i")) == 1


async def test_all_entries_of_a_story_are_read_as_they_were_given(store: Store) -> None:
    story = Story()
    given = []
    for verdict in [Verdict.HEALTHY] * 2 + [Verdict.EPOLL_STALL] * 6:
        before = story.state
        event = seen(verdict, round_id=f"round-{story.now}")
        story.event(event)
        entry = Entry(story.now, before, event)
        await store.commit("web", story.state, (), entry)
        given += [entry] if story.state.incident is not None else []
        story.now += 0.5
    assert [recorded.entry for recorded in await store.recorded(story.incident.id)] == given


async def test_a_large_case_does_not_keep_the_loop_waiting(store: Store) -> None:
    """It is encoded and compressed on the store's thread."""
    large = replace(CASE, reading=Reading(samples=(Sample(began=0, ended=0, sockets=tuple(range(200_000))),)))
    commit = store.commit("web", sick("i"), (OPENED,), Entry(1.0, State(), LOOKED), case=large)
    began = real_time.thread_time()
    await commit
    assert real_time.thread_time() - began < 0.02
