"""A maintenance window: the service is looked at and recorded; nothing is done, and nobody is told."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.core.drive import Story
from watchdog.model import Certainty, Host, Order, Policy, Record, RecordKind, Rung, Severity, Told, Verdict

OPEN, OVER = Host(window="maintenance window backup until 04:30"), Host()
PROVEN = Certainty.CONFIRMED


def in_window(policy: Policy | None = None) -> Story:
    """A service that was well when its window opened."""
    story = Story(policy or Policy()).healthy()
    story.host = OPEN
    return story


def alerts(story: Story) -> list[Record]:
    return [record for record in story.records if record.severity is not None]


def test_nothing_is_done_in_it_and_nobody_is_told() -> None:
    story = in_window().look(Verdict.EPOLL_STALL, certainty=PROVEN, for_=7200.0)
    assert story.incident.untold
    assert story.state.tally.holds == ("maintenance",)
    assert story.state.tally.held_for == OPEN.window
    assert (story.rungs, alerts(story)) == ([], [])
    assert story.last(RecordKind.OPENED).text.endswith(f"held back: {OPEN.window}")


def test_what_recovers_in_it_was_told_to_nobody() -> None:
    story = in_window().look(Verdict.EPOLL_STALL, certainty=PROVEN, times=10).healthy()
    assert story.state.incident is None
    assert alerts(story) == []
    assert "told to nobody" in story.last(RecordKind.RESOLVED).text


def test_what_is_still_sick_after_it_is_told_and_healed() -> None:
    story = in_window().look(Verdict.EPOLL_STALL, certainty=PROVEN, times=10)
    story.host = OVER
    story.look(Verdict.EPOLL_STALL, certainty=PROVEN, for_=4.0)
    assert [record.kind for record in alerts(story)][:2] == [RecordKind.NUDGED, RecordKind.BELATED]
    assert story.rungs[0] == "nudge"


def test_darkness_in_it_brings_no_restart_right_after_it() -> None:
    policy = Policy(dark_for=60.0, settle=0.5)
    story = in_window(policy).look(Verdict.EPOLL_STALL, for_=3600.0)
    story.host = OVER
    story.look(Verdict.EPOLL_STALL, for_=50.0)
    assert "restart" not in story.rungs
    story.look(Verdict.EPOLL_STALL, for_=30.0)
    assert "restart" in story.rungs


def test_no_reminder_comes_in_it_of_what_was_told_before() -> None:
    story = Story(Policy(reminder=600.0)).healthy().look(Verdict.OVERLOADED, for_=30.0)
    before = len(alerts(story))
    assert before > 0
    story.host = OPEN
    story.look(Verdict.OVERLOADED, for_=1800.0)
    assert len(alerts(story)) == before
    story.host = OVER
    story.look(Verdict.OVERLOADED, times=2)
    assert story.records[-1].kind is RecordKind.REMINDER


def test_the_time_in_it_does_not_make_its_end_critical() -> None:
    for verdict in (Verdict.HUNG, Verdict.FD_EXHAUSTED, Verdict.OVERLOADED):
        story = in_window(Policy(cool_off=1800.0)).look(verdict, for_=7200.0)
        story.host = OVER
        story.look(verdict, times=1).healthy(4)
        assert [record for record in alerts(story) if record.severity is Severity.CRITICAL] == []
        story = in_window(Policy(cool_off=1800.0, rise=2)).look(verdict, for_=7200.0)
        story.host = OVER
        story.look(verdict, for_=4.0)
        assert alerts(story)[0].kind in (RecordKind.BELATED, RecordKind.NUDGED)


def test_what_still_waits_for_cool_off_after_it_is_told_as_critical() -> None:
    story = in_window(Policy(cool_off=600.0)).look(Verdict.HUNG, for_=3600.0)
    story.host = Host(sick=9)
    story.look(Verdict.HUNG, for_=590.0)
    assert Severity.CRITICAL not in {record.severity for record in alerts(story)}
    story.look(Verdict.HUNG, for_=20.0)
    assert Severity.CRITICAL in {record.severity for record in alerts(story)}


def test_no_rung_is_used_up_by_a_budget_that_is_empty_only_meanwhile() -> None:
    story = Story(Policy()).healthy()
    story.state = replace(story.state, nudges=(story.now,) * 5, restarts=(story.now,) * 2)
    story.host = OPEN
    story.look(Verdict.EPOLL_STALL, certainty=PROVEN, for_=7200.0)
    assert story.incident.tried == ()
    story.host = OVER
    story.look(Verdict.EPOLL_STALL, certainty=PROVEN, for_=3.0)
    assert story.rungs[:1] == [Rung.NUDGE]


def test_orders_in_it_tell_nobody_of_an_incident_whose_opening_is_held_back() -> None:
    story = in_window().look(Verdict.EPOLL_STALL, certainty=PROVEN, times=4)
    story.event(Told(Order.ACK, "root"))
    story.event(Told(Order.PAUSE, "root", "", story.now + 1.0))
    story.look(Verdict.EPOLL_STALL, certainty=PROVEN, times=6).healthy()
    told = alerts(story)
    assert [record.kind for record in told] == [RecordKind.PAUSED, RecordKind.RESUMED]
    assert {record.incident for record in told} == {""}


@given(st.lists(st.sampled_from([Verdict.EPOLL_STALL, Verdict.DEAD, Verdict.OVERLOADED, Verdict.HEALTHY]), max_size=60))
def test_whatever_happens_in_it_nothing_is_done_and_nobody_is_told(verdicts: list[Verdict]) -> None:
    story = in_window()
    for verdict in verdicts:
        story.look(verdict, certainty=PROVEN, every=60.0)
    assert (story.rungs, alerts(story)) == ([], [])
