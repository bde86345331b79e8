"""A maintenance window: the service is looked at and recorded; nothing is done, and nobody is told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.core.drive import Story
from watchdog.model import Certainty, Host, Policy, Record, RecordKind, Verdict

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


@given(st.lists(st.sampled_from([Verdict.EPOLL_STALL, Verdict.DEAD, Verdict.OVERLOADED, Verdict.HEALTHY]), max_size=60))
def test_whatever_happens_in_it_nothing_is_done_and_nobody_is_told(verdicts: list[Verdict]) -> None:
    story = in_window()
    for verdict in verdicts:
        story.look(verdict, certainty=PROVEN, every=60.0)
    assert (story.rungs, alerts(story)) == ([], [])
