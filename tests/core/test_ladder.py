from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.drive import Story
from tests.core.make import EPOCH, seen
from watchdog.ladder import FLAP_RISE, durable, step
from watchdog.model import (
    Budget,
    Budgets,
    Certainty,
    Epoch,
    Host,
    Mode,
    Order,
    Outcome,
    Policy,
    RecordKind,
    Rung,
    Severity,
    State,
    Told,
    Verdict,
)

STALL, HUNG, HEALTHY, NETWORK = Verdict.EPOLL_STALL, Verdict.HUNG, Verdict.HEALTHY, Verdict.NETWORK
N, R, A = Rung.NUDGE, Rung.RESTART, Rung.ALERT


def guarded(policy: Policy | None = None) -> Story:
    """A service that was seen healthy."""
    return Story(policy or Policy()).healthy()


# --- fall and rise ----------------------------------------------------------------------------------------------------


def test_fewer_bad_rounds_than_fall_open_nothing() -> None:
    story = guarded().look(STALL, times=2).healthy().look(STALL, times=2)
    assert story.state.incident is None
    assert story.records == []


def test_fall_bad_rounds_open_an_incident_dated_to_the_first_of_them() -> None:
    story = guarded()
    first = story.now
    story.look(STALL, times=3)
    assert story.incident.since == first
    assert story.incident.opened == first + 1.0


def test_the_incident_is_named_for_the_round_that_opened_it() -> None:
    assert guarded().look(STALL, times=3).incident.id == "round-1002.0"


def test_a_confirmed_diagnosis_does_not_wait_for_fall() -> None:
    assert guarded().look(STALL, certainty=Certainty.CONFIRMED).rungs == [N]


def test_one_good_round_is_not_recovery() -> None:
    assert guarded().look(STALL, times=3).look(HEALTHY).state.incident is not None


def test_healed_by_the_first_nudge() -> None:
    story = guarded().look(STALL, times=3).healthy()
    assert story.rungs == [N]
    assert story.kinds == [RecordKind.OPENED, RecordKind.ACTING, RecordKind.NUDGED, RecordKind.RESOLVED]
    resolved = story.last(RecordKind.RESOLVED)
    assert resolved.text == "healed by nudge after 1.5s"
    assert resolved.detail["rung"] == "nudge"
    assert resolved.severity is Severity.INFO


def test_what_recovers_before_a_remedy_recovered_by_itself() -> None:
    story = guarded(Policy(mode=Mode.OBSERVE)).look(STALL, times=3).healthy()
    assert story.last(RecordKind.RESOLVED).text == "recovered by itself after 1.5s"


# --- climbing ---------------------------------------------------------------------------------------------------------


def test_useless_nudges_are_followed_by_a_restart_and_then_by_an_alert() -> None:
    story = guarded().look(STALL, for_=90)
    assert story.rungs == [N, N, R]
    story.look(Verdict.STARTING, for_=600)
    assert story.kinds[-1] is RecordKind.ESCALATED
    assert story.last(RecordKind.ESCALATED).severity is Severity.CRITICAL


def test_the_second_nudge_waits_until_the_first_has_settled() -> None:
    story = guarded().look(STALL, for_=10)
    assert story.actions[1].at - story.actions[0].at == 2.0


def test_a_restart_on_a_suspicion_waits_for_dark_for_since_the_first_bad_round() -> None:
    story = guarded()
    first = story.now
    story.look(STALL, for_=90)
    assert story.actions[2].at == first + 60.0


def test_a_restart_after_useless_nudges_of_a_confirmed_stall_does_not_wait_for_dark_for() -> None:
    story = guarded().look(STALL, certainty=Certainty.CONFIRMED, for_=10)
    assert story.rungs == [N, N, R]


def test_a_late_answer_begins_dark_for_anew() -> None:
    story = guarded().look(HUNG, for_=50).look(HUNG, late=True).look(HUNG, for_=50)
    assert R not in story.rungs


def test_rounds_in_which_a_socket_answers_are_no_darkness() -> None:
    story = guarded().look(Verdict.WITNESS_LOST, dark=False, for_=100).look(STALL, for_=50)
    assert R not in story.rungs
    assert R in story.look(STALL, for_=15).rungs


def test_remedies_that_were_useless_are_told_though_an_earlier_verdict_was_alerted() -> None:
    story = guarded().look(Verdict.WITNESS_LOST, dark=False, for_=10)
    story.outcomes = {R: Outcome.FAILED}
    story.look(STALL, for_=90)
    assert story.rungs == [N, N, R]
    assert story.kinds.count(RecordKind.ESCALATED) == 2
    assert story.last(RecordKind.ESCALATED).severity is Severity.CRITICAL


def test_a_process_that_is_started_over_and_over_is_alerted() -> None:
    story = guarded()
    for number in range(30):
        story.epoch = replace(EPOCH, pid=1000 + number)
        story.look(Verdict.STARTING, every=5, for_=30)
    assert RecordKind.ESCALATED in story.kinds


def test_what_is_held_for_long_is_told_and_reminded_of() -> None:
    story = guarded()
    story.host = Host(sick=9, max_sick=2)
    story.look(STALL, every=10, for_=1900)
    assert story.last(RecordKind.ESCALATED).severity is Severity.CRITICAL
    assert story.look(STALL, every=60, for_=5 * 3600).kinds.count(RecordKind.REMINDER) == 1
    assert story.rungs == []


def test_a_nudge_that_never_began_heals_nothing() -> None:
    story = guarded()
    story.outcomes = {N: Outcome.FAILED}
    story.look(STALL, times=3).healthy()
    assert story.last(RecordKind.RESOLVED).detail["rung"] == "none"


def test_a_blind_spell_begins_dark_for_anew() -> None:
    story = guarded().look(HUNG, for_=50).look(Verdict.BLIND).look(HUNG, for_=50)
    assert R not in story.rungs


def test_a_verdict_that_changes_on_the_way_changes_the_ladder_and_keeps_what_was_tried() -> None:
    story = guarded().look(STALL, for_=10).look(HUNG, for_=90)
    assert story.rungs == [N, N, R]


def test_a_verdict_without_remedies_is_alerted_at_once_and_exhausted() -> None:
    story = guarded().look(NETWORK, times=3)
    assert story.rungs == []
    assert story.kinds == [RecordKind.OPENED, RecordKind.ESCALATED]
    assert story.incident.exhausted is not None


def test_an_alert_waits_until_the_last_remedy_has_settled() -> None:
    story = guarded(Policy(ladder={STALL: (N, A)})).look(STALL, times=4)
    assert RecordKind.ESCALATED not in story.kinds
    assert RecordKind.ESCALATED in story.look(STALL, for_=3).kinds


def test_a_user_may_set_another_ladder() -> None:
    assert guarded(Policy(ladder={STALL: (A,)})).look(STALL, for_=90).rungs == []


def test_the_order_of_a_ladder_of_restart_first_is_kept() -> None:
    assert guarded(Policy(ladder={STALL: (R, N)})).look(STALL, for_=61).rungs == [R]


def test_a_refused_remedy_counts_as_tried_and_needs_no_settling() -> None:
    story = guarded()
    story.outcomes = {N: Outcome.REFUSED}
    story.look(STALL, times=4)
    assert story.rungs == [N, N]
    assert story.incident.performed == ()


def test_a_restart_that_failed_is_critical() -> None:
    story = guarded()
    story.outcomes = {R: Outcome.FAILED}
    story.look(STALL, for_=62)
    assert story.last(RecordKind.RESTARTED).severity is Severity.CRITICAL


# --- exhausted, cool-off, reminders, flapping -------------------------------------------------------------------------


def exhausted() -> Story:
    story = guarded(Policy(start_timeout=1.0))
    story.outcomes = {R: Outcome.FAILED}
    return story.look(STALL, for_=90)


def test_an_exhausted_incident_stays_open_and_does_nothing_until_cool_off() -> None:
    story = exhausted().look(STALL, every=5, for_=1700)
    assert story.rungs == [N, N, R]
    assert story.incident.exhausted is not None


def test_after_cool_off_there_is_one_more_climb() -> None:
    story = exhausted().look(STALL, every=5, for_=1900)
    assert story.rungs == [N, N, R, N, N, R]
    assert RecordKind.RETRYING in story.kinds


def test_an_open_incident_is_reminded_of_until_it_is_acknowledged() -> None:
    story = guarded().look(NETWORK, every=60, for_=8 * 3600 + 600)
    assert story.kinds.count(RecordKind.REMINDER) == 2
    story.event(Told(Order.ACK, "root"))
    story.look(NETWORK, every=60, for_=8 * 3600)
    assert story.kinds.count(RecordKind.REMINDER) == 2


def test_a_spent_budget_is_passed_over_and_told() -> None:
    policy = Policy(budget=Budgets(nudge=Budget(burst=1, interval=3600.0)))
    story = guarded(policy).look(STALL, for_=5)
    assert story.rungs == [N]
    assert "nudge passed over: its budget is spent: 1 in 1h" in [record.text for record in story.records]


def test_a_budget_comes_back_after_its_interval() -> None:
    policy = Policy(budget=Budgets(nudge=Budget(burst=1, interval=100.0)))
    story = guarded(policy).look(STALL, times=3).healthy(times=200).look(STALL, times=3)
    assert story.rungs == [N, N]


def test_a_service_that_flaps_keeps_its_incident_open() -> None:
    policy = Policy(budget=Budgets(nudge=Budget(burst=0, interval=3600.0)))
    story = guarded(policy).look(STALL, times=3).healthy(times=policy.rise * FLAP_RISE - 1)
    assert story.state.incident is not None
    assert story.healthy(times=1).state.incident is None


# --- holds and passes -------------------------------------------------------------------------------------------------


def test_nothing_is_done_while_paused_and_it_goes_on_when_resumed() -> None:
    story = guarded()
    story.pause()
    story.look(STALL, for_=120)
    assert story.rungs == []
    assert story.state.tally.holds == ("paused",)
    story.event(Told(Order.RESUME, "root"))
    assert story.look(STALL).rungs == [N]


def test_a_pause_with_an_end_ends() -> None:
    story = guarded()
    story.pause(until=story.now + 10)
    assert story.look(STALL, for_=9).rungs == []
    assert story.look(STALL, for_=3).rungs == [N]


def test_a_hold_is_told_once() -> None:
    story = guarded()
    story.pause()
    story.look(STALL, for_=60)
    assert story.kinds.count(RecordKind.HELD) == 1


def test_the_hold_file_holds() -> None:
    story = guarded()
    story.host = Host(hold_file=True)
    assert story.look(STALL, for_=120).rungs == []


def test_more_sick_services_than_max_sick_hold_every_remedy() -> None:
    story = guarded()
    story.host = Host(sick=3, max_sick=2)
    assert story.look(STALL, for_=120).rungs == []
    story.host = Host(sick=2, max_sick=2)
    assert story.look(STALL).rungs == [N]


def test_a_restart_waits_for_the_other_guards_to_look() -> None:
    story = guarded()
    story.host = Host(others_looked=story.now)
    assert story.look(STALL, for_=120).rungs == [N, N]
    story.host = Host(others_looked=story.now)
    assert story.look(STALL).rungs == [N, N, R]


def test_one_restart_at_a_time() -> None:
    story = guarded()
    story.host = Host(restarting="redis")
    assert story.look(STALL, for_=120).rungs == [N, N]


def test_mode_observe_records_what_would_have_been_done_and_does_nothing() -> None:
    story = guarded(Policy(mode=Mode.OBSERVE)).look(STALL, for_=90)
    assert story.rungs == []
    would = [record.detail["rung"] for record in story.records if record.detail.get("reason") == "observed"]
    assert would == ["nudge", "nudge", "restart"]


def test_mode_nudge_nudges_and_never_restarts() -> None:
    story = guarded(Policy(mode=Mode.NUDGE)).look(STALL, for_=120)
    assert story.rungs == [N, N]
    assert story.kinds[-1] is RecordKind.ESCALATED


def test_a_process_that_nobody_saw_healthy_is_nudged_and_not_restarted() -> None:
    story = Story().look(STALL, for_=120)
    assert story.rungs == [N, N]
    assert "restart passed over: this process was never seen healthy: its probes may be wrong" in [
        record.text for record in story.records
    ]


def test_a_new_process_gets_its_grace_and_what_was_tried_stays_tried() -> None:
    story = guarded().look(STALL, for_=61)
    assert story.rungs == [N, N, R]
    assert story.look(Verdict.STARTING, for_=300).rungs == [N, N, R]
    assert story.incident.tried == (N, N, R)
    assert not story.state.seen_healthy


def test_a_start_that_lasts_too_long_is_alerted_and_never_restarted() -> None:
    story = Story().look(Verdict.STARTING, every=5, for_=700)
    assert story.rungs == []
    assert story.kinds == [RecordKind.OPENED, RecordKind.ESCALATED]


def test_being_blind_holds_and_is_alerted_if_it_lasts() -> None:
    story = guarded().look(STALL, times=3).look(Verdict.BLIND, every=5, for_=500)
    assert story.rungs == [N]
    assert story.state.tally.holds == ("blind",)
    assert story.look(Verdict.BLIND, every=5, for_=200).kinds[-1] is RecordKind.ESCALATED


def test_a_service_stopped_by_its_operator_ends_its_incident_without_an_act() -> None:
    story = guarded().look(STALL, for_=50).look(Verdict.STOPPED, for_=600)
    assert story.rungs == [N, N]
    assert story.state.incident is None
    assert story.last(RecordKind.RESOLVED).detail["ended"] == "because"


# --- the daemon's own end ---------------------------------------------------------------------------------------------


def interrupted(rung: Rung) -> Story:
    """Killed between the commit of an act and its outcome."""
    story = guarded()
    story.look(STALL, times=2 if rung is N else 120)
    while story.state.pending is None:
        story.event(seen(STALL, epoch=story.epoch))
        story.now += 0.5
    assert story.state.pending.rung is rung
    return story


def test_a_nudge_that_was_interrupted_is_spent_and_still_due() -> None:
    story = interrupted(N)
    story.resume_daemon()
    assert len(story.state.nudges) == 1
    story.look(STALL)
    assert story.rungs == [N, N]
    assert story.incident.tried == (N,)


def test_a_restart_that_was_interrupted_happened_if_there_is_a_new_process() -> None:
    story = interrupted(R)
    story.resume_daemon(Epoch(777, 9999))
    assert story.incident.tried == (N, N, R)
    assert story.last(RecordKind.RESTARTED).detail["outcome"] == "done"


def test_a_restart_that_was_interrupted_before_it_happened_is_still_due() -> None:
    story = interrupted(R)
    story.resume_daemon()
    assert story.incident.tried == (N, N)
    assert len(story.state.restarts) == 1


def test_rounds_while_a_remedy_is_under_way_change_nothing() -> None:
    story = interrupted(N)
    before = story.state
    story.event(seen(HEALTHY))
    assert story.state == before


# --- what is worth a write --------------------------------------------------------------------------------------------


def test_a_healthy_round_changes_nothing_durable_and_tells_nothing() -> None:
    story = guarded()
    made = step(story.policy, story.state, seen(HEALTHY), story.now)
    assert durable(made.state) == durable(story.state)
    assert made.records == ()


def test_the_first_healthy_round_of_an_epoch_is_durable() -> None:
    made = step(Policy(), State(epoch=EPOCH), seen(HEALTHY), 1.0)
    assert durable(made.state) != durable(State(epoch=EPOCH))


@pytest.mark.parametrize("order", [Order.RESUME, Order.ACK])
def test_an_order_that_has_no_object_tells_nothing(order: Order) -> None:
    assert step(Policy(), State(), Told(order, "root"), 1.0).records == ()


def test_a_new_process_is_told_of() -> None:
    story = guarded()
    story.epoch = replace(EPOCH, pid=4711)
    story.healthy(1)
    assert story.last(RecordKind.EPOCH).text == "a new process: PID 4711 instead of 100"


def test_who_acknowledged_an_incident_is_not_told_of_it_again_at_each_climb() -> None:
    story = Story(Policy(mode=Mode.OBSERVE, cool_off=600.0)).healthy().look(Verdict.HUNG, for_=700.0)
    assert [record.severity for record in story.records].count(Severity.CRITICAL) == 2
    story.event(Told(Order.ACK, "root"))
    story.look(Verdict.HUNG, for_=7200.0)
    assert [record.severity for record in story.records].count(Severity.CRITICAL) == 2
    assert story.kinds.count(RecordKind.RETRYING) > 5
