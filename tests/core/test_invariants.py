"""What must hold of the ladder whatever happens to it, in any order and with any policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.make import seen
from watchdog.ladder import step
from watchdog.model import (
    Budget,
    Budgets,
    Certainty,
    Epoch,
    Host,
    Looked,
    Mode,
    Order,
    Outcome,
    Performed,
    Policy,
    Record,
    RecordKind,
    RestartOutlook,
    Resumed,
    Rung,
    State,
    Told,
    Verdict,
)
from watchdog.restraint import confirmed_stall
from watchdog.verdicts import Stance, ladder, stance

Epochs = st.integers(1, 3).map(lambda pid: Epoch(pid, 1))
Hosts = st.builds(
    Host,
    sick=st.integers(1, 4),
    others_looked=st.none() | st.floats(0, 5000),
    restarting=st.sampled_from(["", "", "redis"]),
    hold_file=st.sampled_from([False, False, False, True]),
    sick_parents=st.sampled_from([(), (), (), ("redis",)]),
    window=st.sampled_from(["", "", "", "maintenance window night"]),
)
Outlooks = st.none() | st.builds(
    RestartOutlook,
    job=st.sampled_from([None, None, None, "restart"]),
    takes_along=st.sampled_from([(), (), (), ("app.service",)]),
    starts=st.integers(0, 5),
    burst=st.sampled_from([0, 5]),
    interval=st.just(10.0),
)
Verdicts = st.sampled_from([Verdict.EPOLL_STALL] * 6 + [Verdict.HUNG] * 3 + [Verdict.HEALTHY] * 3 + list(Verdict))
Policies = st.builds(
    Policy,
    mode=st.sampled_from([Mode.FULL, Mode.FULL, Mode.FULL, Mode.NUDGE, Mode.OBSERVE]),
    fall=st.integers(1, 4),
    rise=st.integers(1, 3),
    settle=st.sampled_from([0.0, 2.0]),
    dark_for=st.sampled_from([5.0, 60.0]),
    start_timeout=st.sampled_from([30.0, 600.0]),
    cool_off=st.sampled_from([20.0, 1800.0]),
    reminder=st.sampled_from([30.0, 14400.0]),
    budget=st.builds(
        Budgets,
        nudge=st.builds(Budget, burst=st.integers(0, 3), interval=st.sampled_from([10.0, 3600.0])),
        restart=st.builds(Budget, burst=st.integers(0, 2), interval=st.sampled_from([10.0, 3600.0])),
    ),
    ladder=st.dictionaries(
        st.sampled_from([Verdict.EPOLL_STALL, Verdict.HUNG]), st.lists(st.sampled_from(Rung), max_size=5).map(tuple)
    ),
)


@dataclass
class Life:
    """A service's life, with an account of its own of all that the invariants speak of."""

    policy: Policy
    now: float = 1000.0
    state: State = field(default_factory=State)
    records: list[Record] = field(default_factory=list)
    acts: list[tuple[float, Rung]] = field(default_factory=list)
    unbroken_since: float | None = None  # since when every round was bad, with no late answer
    paused_until: float | None = None  # inf: until told
    useless: bool = False  # a nudge was done for a proven stall, and no round was good since
    may_answer: bool = False  # a remedy was done, and no first answer was told since
    open_incidents: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def run(self, event: Looked | Performed | Told | Resumed) -> None:
        before = self.state
        self._account(event)
        made = step(self.policy, before, event, self.now)
        self.state = made.state
        self._told(made.records)
        if made.action is not None:
            self._acted(made.action.rung, before, event)

    def _account(self, event: Looked | Performed | Told | Resumed) -> None:
        if self.paused_until is not None and self.now >= self.paused_until:
            self.paused_until = None
        match event:
            case Looked(diagnosis=diagnosis, late=late) if self.state.pending is None:
                sick = stance(diagnosis.verdict) is Stance.SICK
                self.useless = self.useless and stance(diagnosis.verdict) is not Stance.GOOD
                new = event.epoch not in (None, self.state.epoch)
                if not (sick and event.dark) or event.host.excuses:
                    self.unbroken_since = None
                elif late or new or self.unbroken_since is None:
                    self.unbroken_since = self.now
            case Performed(rung=rung, outcome=outcome) if outcome in (Outcome.DONE, Outcome.TIMED_OUT):
                incident = self.state.incident
                proven = incident is not None and confirmed_stall(incident)
                self.useless = self.useless or (proven and rung is Rung.NUDGE)
                self.may_answer = True
            case Performed(rung=Rung.RESTART | Rung.CAPTURE, outcome=Outcome.FAILED):
                self.may_answer = True
            case Told(order=Order.PAUSE):
                self.paused_until = float("inf") if event.until is None else event.until
            case Told(order=Order.RESUME):
                self.paused_until = None
            case Resumed():
                self.unbroken_since = None
                pending = self.state.pending
                if pending is not None and pending.rung is Rung.RESTART and event.epoch not in (None, pending.epoch):
                    self.may_answer = True  # found done

    def _told(self, records: tuple[Record, ...]) -> None:
        for record in records:
            if record.kind is RecordKind.OPENED:
                assert self.open_incidents == [], "one open incident a service"
                self.open_incidents.append(record.incident)
                self.useless = False
            if record.kind is RecordKind.ANSWERED:
                assert self.may_answer, "the first answer after a remedy is told once"
                self.may_answer = False
            if record.kind is RecordKind.RESOLVED:
                assert self.open_incidents == [record.incident], "an end is the end of the open incident"
                self.open_incidents.clear()
                self.ended.append(record.incident)
        self.records += records
        assert self.open_incidents == ([] if self.state.incident is None else [self.state.incident.id])

    def _acted(self, rung: Rung, before: State, event: Looked | Performed | Told | Resumed) -> None:
        assert isinstance(event, Looked), "only a look asks for a remedy"
        assert before.pending is None, "one remedy at a time"
        assert self.policy.mode is not Mode.OBSERVE, "nothing is done in mode observe"
        assert rung is Rung.NUDGE or self.policy.mode is Mode.FULL, "no restart in mode nudge"
        assert self.paused_until is None, "nothing is done while paused"
        assert not event.host.hold_file, "nothing is done under the hold file"
        assert not event.host.window, "nothing is done in a maintenance window"
        assert event.host.sick <= event.host.max_sick, "nothing is done while too many are sick"
        assert stance(event.diagnosis.verdict) is Stance.SICK, (
            "nothing is done in grace, when blind, stopped or healthy"
        )
        self.acts.append((self.now, rung))
        limits = self.policy.budget
        limit = {Rung.NUDGE: limits.nudge, Rung.CAPTURE: limits.capture, Rung.RESTART: limits.restart}[rung]
        recent = [at for at, acted in self.acts if acted is rung and self.now - at < limit.interval]
        assert len(recent) <= limit.burst, "no rung beyond its budget"
        if rung is Rung.RESTART:
            self._restarted(before, event)
        if rung is Rung.NUDGE:
            before_it = self.state.incident.performed if self.state.incident is not None else ()
            assert not (event.parked and confirmed(event) and Rung.NUDGE in before_it), "one nudge for who is parked"

    def _restarted(self, before: State, event: Looked) -> None:
        incident = self.state.incident
        assert incident is not None
        rungs = ladder(self.policy, incident.verdict)
        nudges_first = rungs[: rungs.index(Rung.RESTART)].count(Rung.NUDGE)
        assert incident.tried.count(Rung.NUDGE) >= nudges_first, "no restart before a due nudge"
        assert not event.host.restarting, "one restart at a time"
        assert not event.host.sick_parents, "no restart while a service that it depends on is sick"
        outlook = event.outlook
        assert outlook is None or outlook.job is None, "no restart into somebody else's job"
        assert outlook is None or not outlook.takes_along, "no restart that takes others along"
        assert outlook is None or not 0 < outlook.burst <= outlook.starts, "no restart into the start limit"
        again = confirmed(event) and Rung.NUDGE in incident.performed
        useless = again or (self.useless and event.diagnosis.verdict is Verdict.EPOLL_STALL)
        assert self.unbroken_since is not None or useless
        dark_for = 0.0 if self.unbroken_since is None else self.now - self.unbroken_since
        assert useless or dark_for >= self.policy.dark_for, "no restart before dark_for on a suspicion"


def confirmed(event: Looked) -> bool:
    """Whether a round proved a stall."""
    return event.diagnosis.certainty is Certainty.CONFIRMED and event.diagnosis.verdict is Verdict.EPOLL_STALL


@st.composite
def happenings(draw: st.DrawFn) -> Callable[[Life], None]:
    """One thing that happens: some rounds alike, an outcome, an operator's word, a kill of the daemon, time passing."""
    choice = draw(st.integers(0, 11))
    pause = draw(st.sampled_from([0.1, 0.5, 2.5, 30.0, 90.0, 2000.0]))
    times = draw(st.integers(1, 8))
    verdict, certainty = draw(Verdicts), draw(st.sampled_from(Certainty))
    epoch, host, late = draw(st.none() | Epochs), draw(Hosts), draw(st.integers(0, 9)) == 0
    outcome, order = draw(st.sampled_from(Outcome)), draw(st.sampled_from(Order))
    until = draw(st.none() | st.floats(0, 100))
    outlook, dark, parked = draw(Outlooks), draw(st.integers(0, 3)) > 0, draw(st.booleans())

    def happen(life: Life) -> None:
        if life.state.pending is not None and choice != 0:
            life.run(Performed(life.state.pending.rung, outcome, "as drawn"))
        if choice == 0:
            life.run(Resumed(epoch))
        elif choice == 1:
            life.run(Told(order, "root", "drawn", None if until is None else life.now + until))
        elif choice == 2:
            life.now += pause
        else:
            for number in range(times):
                round_id = f"{life.now}.{number}.{len(life.records)}"
                looked = seen(verdict, certainty=certainty, epoch=epoch, late=late, host=host, round_id=round_id)
                life.run(replace(looked, outlook=outlook, dark=dark, parked=parked, answered=life.now - 0.1))
                life.now += min(pause, 5.0)

    return happen


@settings(max_examples=250, deadline=None)
@given(Policies, st.lists(happenings(), min_size=1, max_size=40))
def test_the_ladder_keeps_its_promises(policy: Policy, story: list[Callable[[Life], None]]) -> None:
    life = Life(policy)
    for happen in story:
        happen(life)
    assert len(life.ended) == len(set(life.ended)), "one end to each incident"


@settings(max_examples=200, deadline=None)
@given(Policies, st.lists(happenings(), min_size=1, max_size=20))
def test_a_service_that_stays_healthy_ends_its_incident(policy: Policy, story: list[Callable[[Life], None]]) -> None:
    life = Life(policy)
    for happen in story:
        happen(life)
    if life.state.pending is not None:
        life.run(Resumed(None))
    for _ in range(40):
        life.run(seen(Verdict.HEALTHY))
        life.now += 5.0
    assert life.open_incidents == []
