from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.make import EPOCH, case, seen
from tests.core.test_invariants import Policies, Verdicts
from watchdog.ladder import step
from watchdog.model import (
    Case,
    Certainty,
    Event,
    Kind,
    Outcome,
    Performed,
    Policy,
    RecordKind,
    Rung,
    State,
    Tally,
    Verdict,
)
from watchdog.recording import Decision, Entry, Recorded, Recording, Summary, decision
from watchdog.replay import replay

AT = datetime(2022, 11, 14, 9, 30, tzinfo=UTC)
DARK = case(tcp=Kind.SILENT, snmp=Kind.ALIVE)
HASTY = Policy(fall=1)
SICK = Decision(Verdict.EPOLL_STALL, Certainty.SUSPECTED, Rung.NUDGE, (RecordKind.OPENED, RecordKind.ACTING))


def recording(*entries: Recorded, policy: Policy | None = None) -> Recording:
    summary = Summary("i", AT, None, Verdict.EPOLL_STALL, Certainty.SUSPECTED)
    return Recording("web", summary, policy, {}, entries)


def looked(verdict: Verdict, kept: Case | None = None, decided: Decision | None = None) -> Recorded:
    """A round, from the state of a service that was never looked at."""
    return Recorded(AT, Entry(1000.0, State(), seen(verdict)), decided, kept)


def lived(policy: Policy, verdicts: list[Verdict]) -> Recording:
    """What a daemon records that acts by today's ladder, remedies done."""
    state, now = State(epoch=EPOCH), 1000.0
    entries: list[Recorded] = []
    for verdict in verdicts:
        event: Event | None = seen(verdict, round_id=f"round-{now}")
        while event is not None:
            made = step(policy, state, event, now)
            action = made.action.rung if made.action is not None else None
            told = decision(event, action, (record.kind for record in made.records))
            entries.append(Recorded(AT, Entry(now, state, event), told))
            state, event = made.state, Performed(action, Outcome.DONE, "done") if action is not None else None
        now += 5.0
    return recording(*entries, policy=policy)


@settings(max_examples=50)
@given(Policies, st.lists(Verdicts, min_size=5, max_size=30))
def test_what_was_decided_by_todays_ladder_is_decided_again(policy: Policy, verdicts: list[Verdict]) -> None:
    assert [entry for entry in replay(lived(policy, verdicts)) if entry.differs] == []


def test_a_round_whose_case_was_kept_is_diagnosed_anew() -> None:
    wrong = Decision(Verdict.HUNG, Certainty.SUSPECTED, None, ())
    [entry] = replay(recording(looked(Verdict.HUNG, replace(DARK, policy=HASTY), wrong)))
    assert entry.now == SICK
    assert entry.differs
    assert entry.diagnosis is not None
    assert entry.diagnosis.verdict is Verdict.EPOLL_STALL


def test_whether_a_round_was_dark_is_judged_anew() -> None:
    policy = Policy(dark_for=60.0, ladder={Verdict.EPOLL_STALL: (Rung.RESTART,)})
    state = State(epoch=EPOCH, seen_healthy=True, tally=Tally(bad=5, bad_since=900.0, unbroken_since=900.0))
    event = replace(seen(Verdict.EPOLL_STALL), dark=False)
    entry = Recorded(AT, Entry(1000.0, state, event), None, replace(DARK, policy=policy))
    assert [replayed.now.action for replayed in replay(recording(entry))] == [Rung.RESTART]


def test_a_round_whose_case_was_not_kept_is_taken_as_it_was_diagnosed() -> None:
    [entry] = replay(recording(looked(Verdict.HUNG), policy=HASTY))
    assert entry.now.verdict is Verdict.HUNG
    assert entry.now.action is Rung.NUDGE
    assert entry.diagnosis is None


def test_what_was_decided_is_compared_in_all_its_parts() -> None:
    kept = replace(DARK, policy=HASTY)
    others = [
        replace(SICK, certainty=Certainty.CONFIRMED),
        replace(SICK, action=None),
        replace(SICK, records=(RecordKind.OPENED,)),
    ]
    told = [looked(Verdict.EPOLL_STALL, kept, decided) for decided in (SICK, *others)]
    assert [entry.differs for entry in replay(recording(*told))] == [False, True, True, True]


def test_where_nobody_recorded_what_was_decided_nothing_differs() -> None:
    [entry] = replay(recording(looked(Verdict.HUNG, DARK, None)))
    assert not entry.differs


def test_an_entry_that_differs_does_not_change_those_after_it() -> None:
    kept = replace(DARK, policy=HASTY)
    first, second = looked(Verdict.HUNG, kept, replace(SICK, action=None)), looked(Verdict.HUNG, kept, SICK)
    assert [entry.differs for entry in replay(recording(first, second))] == [True, False]


def test_the_policy_is_that_of_the_case_or_the_last_before_else_the_recordings_else_the_defaults() -> None:
    patient, hasty = looked(Verdict.HUNG, DARK), looked(Verdict.HUNG, replace(DARK, policy=HASTY))
    bare = looked(Verdict.HUNG)

    def actions(recorded: Recording) -> list[Rung | None]:
        return [entry.now.action for entry in replay(recorded)]

    assert actions(recording(patient, bare, hasty, bare)) == [None, None, Rung.NUDGE, Rung.NUDGE]
    assert actions(recording(bare, policy=HASTY)) == [Rung.NUDGE]
    assert actions(recording(bare)) == [None]
