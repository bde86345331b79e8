"""What a proof changes on the ladder: one nudge for who is parked, and a restart that need not wait for darkness."""

from __future__ import annotations

import pytest

from tests.core.drive import Story
from watchdog.model import Certainty, Host, Outcome, Policy, RecordKind, Rung, Verdict

STALL, HUNG = Verdict.EPOLL_STALL, Verdict.HUNG
SURE = Certainty.CONFIRMED
N, R = Rung.NUDGE, Rung.RESTART


def guarded(policy: Policy | None = None) -> Story:
    """A service that was seen healthy."""
    return Story(policy or Policy()).healthy()


# --- a restart after useless nudges of a confirmed stall --------------------------------------------------------------


def test_useless_nudges_of_a_proven_stall_are_followed_by_a_restart_though_it_is_only_suspected_by_then() -> None:
    story = guarded().look(STALL, certainty=SURE)
    proven = story.now
    story.look(STALL, for_=10)
    assert story.rungs == [N, N, R]
    assert story.actions[2].at - proven < 5


def test_a_second_nudge_on_a_proof_is_enough_though_the_first_one_was_on_a_suspicion() -> None:
    story = guarded().look(STALL, for_=2)
    assert story.look(STALL, certainty=SURE, for_=6).rungs == [N, N, R]


def test_a_nudge_that_was_refused_proves_nothing_useless() -> None:
    story = guarded()
    story.outcomes = {N: Outcome.REFUSED}
    story.look(STALL, certainty=SURE, times=2).look(STALL, for_=10)
    assert story.rungs == [N, N]
    assert story.state.tally.holds == ("not_dark_long",)


def test_another_verdict_waits_for_darkness_whatever_was_proven_before() -> None:
    story = guarded().look(STALL, certainty=SURE).look(HUNG, for_=50)
    assert story.rungs == [N]
    assert story.state.tally.holds == ("not_dark_long",)


def test_a_nudge_that_helped_was_not_useless_and_what_comes_then_waits_for_darkness() -> None:
    story = guarded().look(STALL, certainty=SURE).healthy(1).look(STALL, for_=50)
    assert story.rungs == [N, N]
    assert story.state.tally.holds == ("not_dark_long",)


def test_one_loop_of_several_that_is_proven_again_and_again_is_restarted_though_the_others_answer() -> None:
    story = guarded()
    for _ in range(4):
        story.look(STALL, certainty=SURE, dark=False).look(Verdict.HEALTHY).look(STALL, certainty=SURE, for_=2)
    assert story.rungs[:3] == [N, N, R]


def test_a_restart_after_useless_nudges_still_waits_for_the_other_guards_to_look() -> None:
    story = guarded()
    story.host = Host(others_looked=story.now - 1)
    assert story.look(STALL, certainty=SURE, for_=20).rungs == [N, N]
    assert story.state.tally.holds == ("others_unseen",)
    story.host = Host(others_looked=story.now)
    assert story.look(STALL).rungs == [N, N, R]


@pytest.mark.parametrize(
    ("host", "hold"),
    [
        (Host(restarting="redis"), "restart_running"),
        (Host(sick=3, max_sick=2), "too_many_sick"),
        (Host(hold_file=True), "paused"),
    ],
)
def test_nor_does_it_pass_any_other_hold(host: Host, hold: str) -> None:
    story = guarded().look(STALL, certainty=SURE, for_=3)
    story.host = host
    assert R not in story.look(STALL, certainty=SURE, for_=90).rungs
    assert story.state.tally.holds == (hold,)


# --- parked elsewhere -------------------------------------------------------------------------------------------------


def test_after_one_useless_nudge_who_is_parked_is_not_nudged_again() -> None:
    story = guarded().look(STALL, certainty=SURE, parked=True, for_=10)
    assert story.rungs == [N, R]
    assert story.actions[1].at - story.actions[0].at == 2.0  # settle
    passed = story.last(RecordKind.PASSED)
    assert (passed.detail["rung"], passed.detail["reason"]) == ("nudge", "parked_elsewhere")


def test_the_nudge_has_its_time_to_help_before_that_is_decided() -> None:
    story = guarded().look(STALL, certainty=SURE, parked=True, times=3)
    assert RecordKind.PASSED not in story.kinds
    assert story.state.tally.holds == ("settling",)


def test_that_it_was_parked_is_remembered_while_no_proof_is_shown_again() -> None:
    assert guarded().look(STALL, certainty=SURE, parked=True).look(STALL, for_=10).rungs == [N, R]


def test_a_proof_of_another_form_is_worth_a_second_nudge() -> None:
    story = guarded().look(STALL, certainty=SURE, parked=True).look(STALL, certainty=SURE, for_=10)
    assert story.rungs == [N, N, R]


def test_a_nudge_that_was_not_done_was_not_useless() -> None:
    story = guarded()
    story.outcomes = {N: Outcome.FAILED}
    assert story.look(STALL, certainty=SURE, parked=True, times=2).rungs == [N, N]


def test_who_was_brought_back_once_is_nudged_when_it_is_parked_anew() -> None:
    story = guarded().look(STALL, certainty=SURE, parked=True).healthy(1).look(STALL, for_=3)
    assert story.rungs == [N, N]


def test_in_the_next_incident_all_begins_anew() -> None:
    story = guarded().look(STALL, certainty=SURE, parked=True, for_=2).healthy()
    assert story.look(STALL, certainty=SURE, parked=True).rungs == [N, N]


# --- the first good answer --------------------------------------------------------------------------------------------


def test_the_first_good_answer_after_a_remedy_is_told_once_with_the_time_it_took() -> None:
    story = guarded().look(STALL, certainty=SURE)
    at = story.actions[0].at
    story.look(STALL, certainty=SURE, answered=at + 0.0037, times=3)
    assert story.kinds.count(RecordKind.ANSWERED) == 1
    answered = story.last(RecordKind.ANSWERED)
    assert answered.text == "the first good answer came 3.7ms after the nudge was decided"
    assert answered.detail["answered_s"] == pytest.approx(0.0037)
    assert answered.detail["rung"] == "nudge"


def test_it_is_told_in_the_very_round_that_ends_the_incident() -> None:
    story = guarded(Policy(rise=1)).look(STALL, certainty=SURE)
    story.look(Verdict.HEALTHY, answered=story.now)
    assert story.kinds[-2:] == [RecordKind.ANSWERED, RecordKind.RESOLVED]


def test_the_first_after_the_next_remedy_is_told_again() -> None:
    story = guarded().look(STALL, certainty=SURE)
    story.look(STALL, certainty=SURE, answered=story.now, for_=1.5).look(STALL, certainty=SURE)
    assert story.rungs == [N, N]
    story.look(STALL, certainty=SURE, answered=story.actions[1].at + 1.0)
    told = [record.detail["answered_s"] for record in story.records if record.kind is RecordKind.ANSWERED]
    assert told == [0.5, 1.0]


def test_an_answer_before_any_remedy_is_none_after_one() -> None:
    story = guarded(Policy(fall=5)).look(STALL, times=4, answered=1000.0)
    assert RecordKind.ANSWERED not in story.kinds


def test_a_remedy_that_was_not_done_has_no_answer() -> None:
    story = guarded()
    story.outcomes = {N: Outcome.FAILED}
    assert RecordKind.ANSWERED not in story.look(STALL, certainty=SURE, answered=story.now, times=2).kinds


def test_one_that_came_before_the_remedy_was_decided_took_no_time() -> None:
    story = guarded().look(STALL, certainty=SURE)
    story.look(STALL, certainty=SURE, answered=1.0)
    assert story.last(RecordKind.ANSWERED).detail["answered_s"] == 0.0
