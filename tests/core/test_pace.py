from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.drive import Story
from watchdog.model import Mode, Policy, Verdict
from watchdog.pace import LATENCIES, late_after, placed, plan


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


# --- late -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latencies", "late"),
    [
        ([], 0.05),
        ([0.001], 0.05),
        ([0.1], 0.3),
        ([0.1, 3.0], 0.3),
        ([0.1] * 99 + [3.0], 0.3),
        ([0.1] * 98 + [0.2, 3.0], 0.6),
    ],
)
def test_a_probe_is_late_after_three_times_what_it_usually_takes_and_50_ms_at_least(
    latencies: list[float], late: float
) -> None:
    assert late_after(latencies) == pytest.approx(late)


@given(st.lists(st.floats(0.0, 10.0), max_size=LATENCIES), st.floats(0.0, 1000.0))
def test_one_slow_answer_among_others_never_makes_it_later(latencies: list[float], slow: float) -> None:
    known = [0.01, *latencies]
    assert late_after([*known, slow]) <= max(0.05, 3 * max(known))


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=LATENCIES), st.randoms())
def test_the_order_of_the_answers_is_no_matter(latencies: list[float], random: Random) -> None:
    shuffled = random.sample(latencies, len(latencies))
    assert late_after(shuffled) == late_after(latencies) >= 0.05


@given(due=st.floats(0, 1e6), late=st.floats(-1e4, 1e4), interval=st.floats(0.1, 3600.0))
def test_a_round_that_is_late_or_early_keeps_its_place_and_leaves_half_an_interval_at_least(
    due: float, late: float, interval: float
) -> None:
    began = due + late
    after = placed(began, due, interval) + interval - began
    assert interval / 2 - 1e-6 <= after <= interval * 1.5 + 1e-6
    steps = (began + after - due) / interval
    assert steps == pytest.approx(round(steps), abs=1e-6)


def test_a_round_that_came_early_or_late_moves_none_of_the_next_ones() -> None:
    assert plan(Policy(interval=5.0), Story().state, 7.0, 7.1, due=9.0) == 14.0
    assert plan(Policy(interval=5.0), Story().state, 6.0, 6.1, due=9.0) == 9.0
    assert plan(Policy(interval=5.0), Story().state, 9.2, 9.3, due=9.0) == 14.0
    assert plan(Policy(interval=5.0), Story().state, 12.0, 12.1, due=9.0) == 19.0
