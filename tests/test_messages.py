"""Each kind of line has an id of its own, and the catalog explains each with what its lines carry."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.catalog import explanations
from tests.core.drive import Story
from tests.core.test_invariants import Life, Policies, happenings
from watchdog.messages import MESSAGES, Event, of_event, of_record
from watchdog.model import Policy, Record, RecordKind, Severity, Verdict

EXPLAINED = dict(explanations())
WIDTH = 80  # of a terminal at three in the morning


def test_every_kind_of_record_and_every_event_has_an_id() -> None:
    assert set(MESSAGES) == {*RecordKind, *Event}


def test_no_two_have_the_same_word() -> None:
    assert len({*map(str, RecordKind), *map(str, Event)}) == len(RecordKind) + len(Event)


def test_no_two_have_the_same_id_and_each_is_a_random_one() -> None:
    assert len(set(MESSAGES.values())) == len(MESSAGES)
    for message in MESSAGES.values():
        assert re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", message), message  # as sd_id128_randomize(3)


def test_the_catalog_explains_each_id_once_and_no_other() -> None:
    assert sorted(message for message, _ in explanations()) == sorted(MESSAGES.values())


@pytest.mark.parametrize("kind", MESSAGES)
def test_an_explanation_is_whole(kind: RecordKind | Event) -> None:
    told = EXPLAINED[MESSAGES[kind]]
    assert set(told.header) == {"Subject", "Defined-By", "Support", "Documentation"}
    assert told.header["Defined-By"] == ("epoll-watchdog",)
    assert told.text.strip()
    assert max(map(len, told.text.splitlines())) <= WIDTH


FIELDS_OF_EVENTS = {Event.KERNEL_ADVISORY: {"WATCHDOG_ADVISORY"}}


@pytest.mark.parametrize("event", Event)
def test_an_explanation_of_an_event_shows_only_what_its_lines_have(event: Event) -> None:
    assert EXPLAINED[MESSAGES[event]].variables <= FIELDS_OF_EVENTS.get(event, set())


@settings(max_examples=200, deadline=None)
@given(Policies, st.lists(happenings(), min_size=1, max_size=30))
def test_an_explanation_of_a_record_shows_only_what_its_lines_have(
    policy: Policy, story: list[Callable[[Life], None]]
) -> None:
    life = Life(policy)
    for happen in story:
        happen(life)
    for record in life.records:
        fields = of_record("web", record)
        assert EXPLAINED[fields["MESSAGE_ID"]].variables <= set(fields), record


def test_a_record_is_found_by_what_it_is_of() -> None:
    story = Story().healthy().look(Verdict.EPOLL_STALL, times=3)
    assert of_record("web", story.last(RecordKind.NUDGED)) == {
        "MESSAGE_ID": MESSAGES[RecordKind.NUDGED],
        "WATCHDOG_SERVICE": "web",
        "WATCHDOG_KIND": "nudged",
        "WATCHDOG_INCIDENT": story.incident.id,
        "WATCHDOG_SEVERITY": "info",
        "WATCHDOG_VERDICT": "epoll_stall",
        "WATCHDOG_CERTAINTY": "suspected",
        "WATCHDOG_RUNG": "nudge",
        "WATCHDOG_OUTCOME": "done",
    }


def test_what_a_record_lacks_is_no_field() -> None:
    fields = of_record("web", Record(RecordKind.PAUSED, 1.0, "paused by root"))
    assert set(fields) == {"MESSAGE_ID", "WATCHDOG_SERVICE", "WATCHDOG_KIND"}


def test_what_is_no_word_is_no_field() -> None:
    record = Record(RecordKind.NUDGED, 1.0, "nudged", "01J", Severity.INFO, {"reason": ["a", "list"], "rung": 3})
    assert not {"WATCHDOG_REASON", "WATCHDOG_RUNG"} & set(of_record("web", record))


def test_an_event_carries_what_it_is_about() -> None:
    assert of_event(Event.FAULT, SERVICE="web") == {
        "MESSAGE_ID": MESSAGES[Event.FAULT],
        "WATCHDOG_KIND": "fault",
        "WATCHDOG_SERVICE": "web",
    }
