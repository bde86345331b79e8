"""Why a restart waits or is passed over, as systemd's outlook and the helper's rights have it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.core.drive import Story
from tests.core.make import seen
from watchdog.model import (
    Mode,
    Outcome,
    Performed,
    Policy,
    RecordKind,
    RestartOutlook,
    Rung,
    Verdict,
)
from watchdog.restraint import ALERT_HOLDS, HOLDS, LAST_PASSES, PASSES

STALL, HUNG = Verdict.EPOLL_STALL, Verdict.HUNG
N, R = Rung.NUDGE, Rung.RESTART
REACHED = RestartOutlook(starts=5, burst=5, interval=10.0)


def guarded(outlook: RestartOutlook | None = None, policy: Policy | None = None) -> Story:
    """A service that was seen healthy."""
    story = Story(policy or Policy()).healthy()
    story.outlook = outlook
    return story


def passes(story: Story) -> list[str]:
    return [record.text for record in story.records if record.kind is RecordKind.PASSED]


# --- the start limit --------------------------------------------------------------------------------------------------


def test_a_restart_that_the_start_limit_would_cut_in_half_is_passed_over_and_alerted() -> None:
    story = guarded(REACHED).look(STALL, for_=70)
    assert story.rungs == [N, N]
    limit = "systemd's start limit: the unit has used 5 of 5 starts within 10s; a restart would only stop it"
    assert passes(story) == [f"restart passed over: {limit}"]
    assert story.kinds[-1] is RecordKind.ESCALATED
    assert story.incident.passed == ("restart: start_limit",)


def test_a_start_limit_that_is_reached_only_while_the_restart_waits_costs_nothing() -> None:
    story = guarded(REACHED).look(STALL, for_=50)
    story.outlook = RestartOutlook(starts=0, burst=5, interval=10.0)
    assert story.look(STALL, for_=20).rungs == [N, N, R]


def test_what_was_passed_over_is_due_again_in_the_next_climb() -> None:
    story = guarded(REACHED).look(STALL, for_=70)
    story.outlook = None
    story.look(STALL, every=5, for_=1900)
    assert R in story.rungs
    assert story.incident.passed == ()


@given(st.integers(0, 10), st.integers(0, 10))
def test_only_a_limit_that_is_reached_counts(starts: int, burst: int) -> None:
    story = guarded(RestartOutlook(starts=starts, burst=burst, interval=10.0)).look(STALL, for_=70)
    assert (R in story.rungs) == (burst == 0 or starts < burst)


# --- the blast radius and jobs ----------------------------------------------------------------------------------------


def test_a_restart_that_would_take_others_along_is_passed_over_at_once() -> None:
    story = guarded(RestartOutlook(takes_along=("app.service", "web.service"))).look(STALL, for_=10)
    assert story.rungs == [N, N]
    assert passes(story) == [
        "restart passed over: a restart would restart app.service, web.service too; allow it in also_restarts"
    ]
    assert story.kinds[-1] is RecordKind.ESCALATED


def test_a_restart_waits_while_somebody_else_s_job_is_queued() -> None:
    story = guarded(RestartOutlook(job="restart")).look(STALL, for_=70)
    assert story.rungs == [N, N]
    assert story.state.tally.holds == ("job_queued",)
    assert story.state.tally.held_for == "a restart job of somebody else's is queued for the unit"
    story.outlook = RestartOutlook()
    assert story.look(STALL).rungs == [N, N, R]


def test_a_nudge_asks_for_no_outlook() -> None:
    hopeless = RestartOutlook(job="stop", takes_along=("x.service",), starts=5, burst=5, interval=10.0)
    assert guarded(hopeless).look(STALL, times=3).rungs == [N]


def test_in_mode_observe_it_is_told_that_even_then_nothing_would_be_restarted() -> None:
    story = guarded(REACHED, Policy(mode=Mode.OBSERVE)).look(STALL, for_=70)
    assert story.incident.passed == ("nudge: observed", "restart: start_limit")


# --- rights -----------------------------------------------------------------------------------------------------------


def refused(*refusals: str, outcome: Outcome = Outcome.REFUSED) -> Performed:
    """A nudge as the helper tells it."""
    return Performed(N, outcome, "as the helper says", {"skipped": [{"refusal": name} for name in refusals]})


def nudged(event: Performed) -> Story:
    """A stall whose first nudge has this outcome."""
    story = guarded()
    story.look(STALL, times=2)
    story.event(seen(STALL, epoch=story.epoch))
    story.event(event)
    return story


def test_a_second_nudge_without_the_rights_is_passed_over() -> None:
    story = nudged(refused("NotPermitted")).look(STALL)
    assert story.rungs == [N]
    assert passes(story) == ["nudge passed over: the helper lacks the rights for it"]


def test_yama_forbids_the_second_nudge_too() -> None:
    assert nudged(refused("YamaForbids")).look(STALL).rungs == [N]


def test_a_nudge_refused_for_another_reason_is_tried_again() -> None:
    assert nudged(refused("AlreadyTraced")).look(STALL).rungs == [N, N]


def test_a_nudge_that_reached_some_threads_was_no_lack_of_rights() -> None:
    story = nudged(refused("NotPermitted", outcome=Outcome.DONE)).look(STALL, for_=3)
    assert story.rungs == [N, N]


def by_methods(*refusals: str) -> Performed:
    """The same, where each of the service's methods was refused."""
    return Performed(N, Outcome.REFUSED, "as the helper says", {"methods": [{"refusal": name} for name in refusals]})


def test_a_nudge_that_no_method_can_do_here_is_passed_over() -> None:
    for freeze in ("NotPermitted", "CannotFreeze"):
        assert nudged(by_methods("YamaForbids", freeze)).look(STALL).rungs == [N]


def test_a_nudge_that_another_method_may_do_later_is_tried_again() -> None:
    assert nudged(by_methods("YamaForbids", "FrozenAlready")).look(STALL).rungs == [N, N]


def test_rights_are_asked_for_anew_in_the_next_climb() -> None:
    story = nudged(refused("NotPermitted")).look(STALL, every=5, for_=2000)
    assert story.rungs[:4] == [N, R, N, N]


# --- every reason -----------------------------------------------------------------------------------------------------


def test_every_reason_has_a_word_and_a_row_of_its_own() -> None:
    reasons = [*PASSES, *LAST_PASSES, *HOLDS]
    words = [reason.__name__ for reason in reasons]
    assert len(set(words)) == len(words)
    assert all(reason.__doc__ for reason in reasons)
    assert set(ALERT_HOLDS) <= set(HOLDS)
