from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.core.drive import Story
from watchdog.model import Mode, Policy, Verdict
from watchdog.pace import plan


def interval(story: Story) -> float:
    return plan(story.policy, story.state, 0.0, 0.0)


def test_a_healthy_service_is_asked_every_interval() -> None:
    assert interval(Story().healthy()) == 5.0


def test_after_one_bad_round_the_next_comes_soon() -> None:
    assert interval(Story().healthy().look(Verdict.EPOLL_STALL)) == 0.5


def test_while_an_incident_is_open_rounds_come_soon() -> None:
    assert interval(Story().healthy().look(Verdict.EPOLL_STALL, times=3).healthy(1)) == 0.5


def test_when_nothing_is_left_to_try_rounds_come_as_usual() -> None:
    assert interval(Story().healthy().look(Verdict.NETWORK, times=3)) == 5.0


def test_the_suspect_interval_is_never_longer_than_the_usual_one() -> None:
    story = Story(Policy(interval=0.2, mode=Mode.OBSERVE)).healthy().look(Verdict.EPOLL_STALL)
    assert interval(story) == 0.2


@given(st.floats(0, 1e6), st.floats(0, 1e4))
def test_a_round_is_never_planned_for_the_past_and_a_late_one_is_not_caught_up(began: float, took: float) -> None:
    now = began + took
    planned = plan(Policy(), Story().state, began, now)
    assert planned == max(began + 5.0, now)
