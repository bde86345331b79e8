"""What to do about a diagnosis. Pure: policy, state, event and time in; a `Step` out.

Rules of this file. Everything that affects the state of a guard lives here. There is no rung index: due is the
ladder's first rung that the incident has not tried, so a verdict that changes on the way changes the ladder and nothing
else. The budget is spent in the step that asks for the remedy, so what is committed before the act holds both. At most
one remedy is asked for at a time, and none while one is pending.

Theory of operation. Each bad round counts towards `fall`, each good one towards `rise`. An open incident climbs: the
due rung is *passed* where it cannot be taken, *held* where it must wait (`restraint.py` has the reasons), else taken.
An alert is a record, so that rung is taken by telling. When every rung was tried the incident is exhausted: it stays
open, and after `cool_off` it may climb once more. A service whose budget ran out flaps: its incident stays open longer.
Verdicts that only wait (`starting`, `blind`, `unsettled`) hold everything; one that waits longer than `start_timeout`
is answered by an alert and never by a remedy.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from watchdog import budget, telling
from watchdog.model import (
    Action,
    Certainty,
    Diagnosis,
    Event,
    Incident,
    Looked,
    Mode,
    Order,
    Outcome,
    Pause,
    Performed,
    Policy,
    Record,
    RecordKind,
    Resumed,
    Rung,
    Severity,
    State,
    Step,
    Tally,
    Told,
    Verdict,
)
from watchdog.restraint import (
    ALERT_HOLDS,
    FIRST_HOLDS,
    HOLDS,
    LAST_PASSES,
    PASSES,
    Moment,
    budget_of,
    budget_spent,
    confirmed_stall,
    first,
    others_unseen,
    settling,
    spent,
    with_uses,
)
from watchdog.settings import format_duration
from watchdog.telling import aside, tell, words
from watchdog.verdicts import Stance, ladder, stance

REMEDIES = (Rung.NUDGE, Rung.RESTART)
# What the helper calls it: it lacks the rights (evidence/rights.py), or the host lacks the means (helper/frozen.py).
NO_RIGHTS = ("NotPermitted", "YamaForbids")
NO_MEANS = ("CannotFreeze",)
ROUTINE = (settling.__name__, others_unseen.__name__)  # holds of seconds, which belong to each climb: told to nobody
FLAP_RISE = 10  # times `rise` that a service whose budget is spent must be healthy before its incident closes


# --- the step ---------------------------------------------------------------------------------------------------------


def step(policy: Policy, state: State, event: Event, now: float) -> Step:
    """The state after an event, what is to be told of it, and the remedy to perform, if any."""
    match event:
        case Looked():
            return _looked(policy, state, event, now)
        case Performed():
            return _performed(policy, state, event, now)
        case Told():
            return _told(state, event, now)
        case Resumed():
            return _resumed(policy, state, event, now)


def _looked(policy: Policy, state: State, event: Looked, now: float) -> Step:
    if state.pending is not None:  # its outcome comes first
        return Step(state)
    records: list[Record] = []
    state = _end_of_pause(state, now, records)
    state = _enter_epoch(state, event, now, records)
    state = _note_answer(_count(state, event, now), event, now, records)
    match stance(event.diagnosis.verdict):
        case Stance.REST:
            state = _resolve(state, now, records, event.diagnosis.reasons[0])
        case Stance.GOOD:
            if state.incident is not None and state.tally.good >= _rise(policy, state.incident):
                state = _resolve(state, now, records, "")
            elif state.incident is not None:  # the last nudge was not useless, and what comes now is new
                state = replace(state, incident=replace(state.incident, proven=False, parked=False))
        case Stance.SICK:
            state = _note_proof(_open(policy, state, event, now, records), event)
            return _climb(policy, state, event, now, records)
        case Stance.WAIT:
            since = state.tally.waiting_since
            if since is not None and now - since >= policy.start_timeout:
                return _climb(policy, _open(policy, state, event, now, records), event, now, records)
            if state.incident is not None:
                state = _wait(policy, state, state.incident, event.diagnosis, now, records)
    return Step(state, tuple(records))


def _end_of_pause(state: State, now: float, records: list[Record]) -> State:
    pause = state.pause
    if pause is None or pause.until is None or now < pause.until:
        return state
    records.append(Record(RecordKind.RESUMED, now, "the pause is over", _told_id(state), Severity.INFO))
    return replace(state, pause=None)


def _enter_epoch(state: State, event: Looked, now: float, records: list[Record]) -> State:
    """A new life of the process, whoever began it: counters at zero; what the incident tried stays tried."""
    if event.epoch is None or event.epoch == state.epoch:
        return state
    if state.epoch is not None:
        text = f"a new process: PID {event.epoch.pid} instead of {state.epoch.pid}"
        records.append(Record(RecordKind.EPOCH, now, text, _id(state)))
    # What waits goes on waiting: a unit that is started over and over must not look new each time.
    tally = Tally(waiting_since=state.tally.waiting_since)
    return replace(state, epoch=event.epoch, seen_healthy=False, tally=tally)


def _count(state: State, event: Looked, now: float) -> State:
    tally = replace(state.tally, verdict=event.diagnosis.verdict, holds=(), held_for="")
    if event.late:
        tally = replace(tally, unbroken_since=now)

    def since(moment: float | None) -> float:
        return now if moment is None else moment

    # Darkness while a parent is sick is the parent's, and in a maintenance window its operator's.
    excused = event.host.excuses
    parents_well_since = None if excused else since(tally.parents_well_since)
    match stance(event.diagnosis.verdict):
        case Stance.GOOD:
            tally = Tally(verdict=tally.verdict, good=tally.good + 1, good_since=since(tally.good_since))
            return replace(state, tally=tally, seen_healthy=True)
        case Stance.SICK:
            tally = Tally(
                verdict=tally.verdict,
                bad=tally.bad + 1,
                bad_since=since(tally.bad_since),
                unbroken_since=since(tally.unbroken_since) if event.dark and not excused else None,
                parents_well_since=parents_well_since,
            )
        case Stance.WAIT:
            # Darkness that was not seen is not unbroken; the bad rounds before it still count.
            tally = replace(
                tally,
                good=0,
                good_since=None,
                unbroken_since=None,
                waiting_since=since(tally.waiting_since),
                parents_well_since=parents_well_since,
            )
        case Stance.REST:
            tally = Tally(verdict=tally.verdict)
    return replace(state, tally=tally)


def _note_answer(state: State, event: Looked, now: float, records: list[Record]) -> State:
    """The first good answer since the last remedy is told once, with the time that it took."""
    incident = state.incident
    if incident is None or incident.acted is None or incident.answered or event.answered is None:
        return state
    took = max(0.0, event.answered - incident.acted)
    rung = incident.performed[-1] if incident.performed else Rung.ALERT
    text = f"the first good answer came {format_duration(took)} after the {rung} was decided"
    record = tell(RecordKind.ANSWERED, now, incident, text, None)
    records.append(replace(record, detail={**record.detail, "rung": str(rung), "answered_s": took}))
    return replace(state, incident=replace(incident, answered=True))


def _note_proof(state: State, event: Looked) -> State:
    """Of what form the newest proof is: a nudge may help once, or again."""
    incident = state.incident
    if incident is None or not confirmed_stall(incident):
        return state
    return replace(state, incident=replace(incident, parked=event.parked))


def _rise(policy: Policy, incident: Incident) -> int:
    return policy.rise * (FLAP_RISE if incident.budget_spent else 1)


def _open(policy: Policy, state: State, event: Looked, now: float, records: list[Record]) -> State:
    """Open an incident once there is enough against the service; note a verdict that changed in an open one."""
    seen, incident = event.diagnosis, state.incident
    if incident is None:
        waited = stance(seen.verdict) is Stance.WAIT
        if not waited and seen.certainty is not Certainty.CONFIRMED and state.tally.bad < policy.fall:
            return state
        since = state.tally.waiting_since if waited else state.tally.bad_since
        incident = Incident(
            id=event.round_id,
            since=now if since is None else since,
            opened=now,
            verdict=seen.verdict,
            certainty=seen.certainty,
            untold=event.host.excuses,
            in_window=bool(event.host.window),
        )
        records.append(telling.opened(incident, event, now))
        return replace(state, incident=incident)
    state = _tell_belatedly(policy, state, event, now, records)
    incident = state.incident or incident
    if event.host.window and not incident.in_window:
        incident = replace(incident, in_window=True)
        state = replace(state, incident=incident)
    if (incident.verdict, incident.certainty) == (seen.verdict, seen.certainty):
        return state
    incident = replace(incident, verdict=seen.verdict, certainty=seen.certainty)
    records.append(tell(RecordKind.VERDICT, now, incident, words(seen), aside(incident), seen))
    return replace(state, incident=incident)


def _tell_belatedly(policy: Policy, state: State, event: Looked, now: float, records: list[Record]) -> State:
    """An opening that was held back is told once nothing has excused it for `settle` and it is still sick."""
    incident, since = state.incident, state.tally.parents_well_since
    if incident is None or not incident.untold or since is None or now - since < policy.settle:
        return state
    records.append(telling.belated(incident, event, now))
    return replace(state, incident=replace(incident, untold=False))


def _wait(
    policy: Policy, state: State, incident: Incident, seen: Diagnosis, now: float, records: list[Record]
) -> State:
    """Nothing is done while the verdict is one that waits. That the watchdog itself can't see is told, once."""
    reason, text = str(seen.verdict), seen.reasons[0]
    if seen.verdict is Verdict.BLIND and reason not in incident.held:
        incident = replace(incident, held=(*incident.held, reason))
        record = tell(RecordKind.HELD, now, incident, f"every remedy waits: {text}", aside(incident))
        rung = due(policy, incident) or Rung.ALERT
        records.append(replace(record, detail={**record.detail, "rung": str(rung), "reason": reason}))
    return _held(replace(state, incident=incident), reason, text)


def _held(state: State, reason: str, text: str) -> State:
    return replace(state, tally=replace(state.tally, holds=(reason,), held_for=text))


def _id(state: State) -> str:
    return state.incident.id if state.incident is not None else ""


def _told_id(state: State) -> str:
    """Of an incident whose opening is held back an alert must not begin the telling: nobody would hear of its end."""
    return "" if state.incident is not None and state.incident.untold else _id(state)


# --- climbing ---------------------------------------------------------------------------------------------------------


def due(policy: Policy, incident: Incident) -> Rung | None:
    """The first rung of the present verdict's ladder that the incident has not tried; None: exhausted."""
    tried = Counter(incident.tried)
    for rung in ladder(policy, incident.verdict):
        if not tried[rung]:
            return rung
        tried[rung] -= 1
    return None


def restart_ahead(policy: Policy, state: State, verdict: Verdict) -> bool:
    """Whether a restart, or the capture before it, may yet come in the open incident, if this is its verdict."""
    incident = state.incident
    return incident is not None and ladder(policy, verdict).count(Rung.RESTART) > incident.tried.count(Rung.RESTART)


def _climb(policy: Policy, state: State, event: Looked, now: float, records: list[Record]) -> Step:
    """Take the due rung, or say why not; a passed rung makes the next one due in the same step."""
    while state.incident is not None:
        incident = _half_open(policy, state.incident, now, records)
        rung = due(policy, incident)
        if rung is None:
            incident = incident if event.host.window else _remind(policy, incident, now, records)
            return Step(replace(state, incident=incident), tuple(records))
        moment = Moment(policy, replace(state, incident=incident), incident, rung, event.host, now, event.outlook)
        if rung is Rung.ALERT:
            if (held := first(ALERT_HOLDS, moment)) is not None:
                return _hold(moment, *held, records)
            state = replace(state, incident=_alert(policy, incident, now, records))
            continue
        if (held := first(FIRST_HOLDS, moment)) is not None:
            return _hold(moment, *held, records)
        if (passed := first(PASSES, moment)) is not None:
            state = replace(state, incident=_pass(moment, *passed, records))
            continue
        if (held := first(HOLDS, moment)) is not None:
            return _hold(moment, *held, records)
        if (passed := first(LAST_PASSES, moment)) is not None:
            state = replace(state, incident=_pass(moment, *passed, records))
            continue
        if policy.mode is Mode.OBSERVE:
            state = replace(state, incident=_pass(moment, "observed", 'mode is "observe"', records))
            continue
        return _act(moment, records)
    return Step(state, tuple(records))


def _act(m: Moment, records: list[Record]) -> Step:
    action = Action(m.rung, m.incident.id, m.state.epoch, m.now)
    uses = (*budget.kept(budget_of(m.policy, m.rung), spent(m.state, m.rung), m.now), m.now)
    state = with_uses(replace(m.state, pending=action), m.rung, uses)
    records.append(tell(RecordKind.ACTING, m.now, m.incident, f"{m.rung} begins", None))
    return Step(state, tuple(records), action)


def _hold(m: Moment, reason: str, text: str, records: list[Record]) -> Step:
    incident = m.incident
    if reason not in incident.held:
        incident = replace(incident, held=(*incident.held, reason))
        severity = None if reason in ROUTINE else aside(incident)
        record = tell(RecordKind.HELD, m.now, incident, f"{m.rung} waits: {text}", severity)
        records.append(replace(record, detail={**record.detail, "rung": str(m.rung), "reason": reason}))
    if m.host.window:  # nobody is to be told of anything meanwhile
        return Step(_held(replace(m.state, incident=incident), reason, text), tuple(records))
    if incident.told is None and m.now - _on_its_own_since(m) >= m.policy.cool_off:
        told = f"{incident.verdict} since {format_duration(m.now - incident.since)}, and {m.rung} still waits: {text}"
        records.append(tell(RecordKind.ESCALATED, m.now, incident, told, Severity.CRITICAL))
        incident = replace(incident, told=m.now)
    incident = _remind(m.policy, incident, m.now, records)
    return Step(_held(replace(m.state, incident=incident), reason, text), tuple(records))


def _on_its_own_since(m: Moment) -> float:
    """Since when people should hear of the incident: the time in a maintenance window does not count."""
    if not m.incident.in_window:
        return m.incident.opened
    since = m.state.tally.parents_well_since
    return m.now if since is None else max(since, m.incident.opened)


def _pass(m: Moment, reason: str, text: str, records: list[Record]) -> Incident:
    flaps = m.incident.budget_spent or reason == budget_spent.__name__
    incident = replace(
        m.incident,
        tried=_tried(m.policy, m.incident, m.rung),
        budget_spent=flaps,
        passed=tuple(dict.fromkeys((*m.incident.passed, f"{m.rung}: {reason}"))),
    )
    said = f"would {m.rung}" if reason == "observed" else f"{m.rung} passed over"
    record = tell(RecordKind.PASSED, m.now, incident, f"{said}: {text}", aside(incident))
    records.append(replace(record, detail={**record.detail, "rung": str(m.rung), "reason": reason}))
    return incident


def _tried(policy: Policy, incident: Incident, rung: Rung) -> tuple[Rung, ...]:
    """With this remedy. An alert told before it, for another verdict, is due again where the ladder ends with one."""
    rungs = ladder(policy, incident.verdict)
    kept = incident.tried
    if rungs and rungs[-1] is Rung.ALERT:
        kept = tuple(tried for tried in kept if tried is not Rung.ALERT)
    return (*kept, rung)


def _alert(policy: Policy, incident: Incident, now: float, records: list[Record]) -> Incident:
    reminds = incident.acked and incident.told is not None  # who acknowledged it knows
    incident = replace(incident, tried=(*incident.tried, Rung.ALERT), told=now)
    exhausted = due(policy, incident) is None
    severity = Severity.CRITICAL if exhausted else Severity.WARNING
    if reminds:
        severity = Severity.INFO
    text = f"{incident.verdict} since {format_duration(now - incident.since)}"
    if exhausted:
        incident = replace(incident, exhausted=now)
        text += "; nothing is left to try" if incident.performed else "; no remedy fits or was allowed"
    records.append(tell(RecordKind.ESCALATED, now, incident, text, severity))
    return incident


def _half_open(policy: Policy, incident: Incident, now: float, records: list[Record]) -> Incident:
    """After `cool_off` the remedies of an exhausted incident are due once more."""
    remedies = any(rung in REMEDIES for rung in ladder(policy, incident.verdict))
    if due(policy, incident) is not None:
        return replace(incident, exhausted=None)
    if not remedies:
        return incident
    if incident.exhausted is None:  # another verdict's rungs were all tried already
        return replace(incident, exhausted=now)
    if now - incident.exhausted < policy.cool_off:
        return incident
    incident = replace(incident, tried=(), exhausted=None, held=(), passed=(), powerless=False)
    records.append(tell(RecordKind.RETRYING, now, incident, "the cool-off is over: one more climb", None))
    return incident


def _remind(policy: Policy, incident: Incident, now: float, records: list[Record]) -> Incident:
    if incident.acked or incident.told is None or now - incident.told < policy.reminder:
        return incident
    text = f"still {incident.verdict}, for {format_duration(now - incident.since)}"
    records.append(tell(RecordKind.REMINDER, now, incident, text, Severity.CRITICAL))
    return replace(incident, told=now)


def _resolve(state: State, now: float, records: list[Record], ended: str) -> State:
    """Close the incident: by recovery, or (`ended`) because its operator stopped the service."""
    incident = state.incident
    if incident is None:
        return state
    healthy_at = state.tally.good_since if state.tally.good_since is not None else now
    records.append(telling.resolved(incident, healthy_at, ended, now))
    return replace(state, incident=None)


# --- the other events -------------------------------------------------------------------------------------------------


def _performed(policy: Policy, state: State, event: Performed, now: float) -> Step:
    """A remedy had its outcome: it counts as tried, whatever came of it, and is given `settle`."""
    incident = state.incident
    if incident is None or state.pending is None or state.pending.rung is not event.rung:
        return Step(replace(state, pending=None))
    begun = (
        (Outcome.DONE, Outcome.TIMED_OUT)
        if event.rung is Rung.NUDGE
        else (Outcome.DONE, Outcome.TIMED_OUT, Outcome.FAILED)
    )
    done = event.outcome in begun
    performed = (*incident.performed, event.rung) if done else incident.performed
    settle_until = now + policy.settle if done else incident.settle_until
    incident = replace(
        incident,
        tried=_tried(policy, incident, event.rung),
        performed=performed,
        settle_until=settle_until,
        held=(),
        proven=incident.proven or (done and event.rung is Rung.NUDGE and confirmed_stall(incident)),
        acted=state.pending.at if done else incident.acted,
        answered=incident.answered and not done,
        powerless=incident.powerless or _lacks_rights(event),
    )
    return Step(replace(state, incident=incident, pending=None), (telling.performed(incident, event, now),))


def _lacks_rights(event: Performed) -> bool:
    """Whether no method of the nudge is left that could do it here."""
    if event.outcome is not Outcome.REFUSED:
        return False
    if methods := event.detail.get("methods"):
        return all(each.get("refusal") in (*NO_RIGHTS, *NO_MEANS) for each in methods)
    return any(each.get("refusal") in NO_RIGHTS for each in event.detail.get("skipped", ()))


def _told(state: State, event: Told, now: float) -> Step:
    incident = state.incident
    match event.order:
        case Order.PAUSE:
            pause = Pause(event.by, event.reason, event.until, event.until_wall)
            state = replace(state, pause=pause)
            record = Record(RecordKind.PAUSED, now, f"paused by {pause.told}", _told_id(state), Severity.INFO)
        case Order.RESUME if state.pause is not None:
            state = replace(state, pause=None)
            record = Record(RecordKind.RESUMED, now, f"resumed by {event.by}", _told_id(state), Severity.INFO)
        case Order.ACK if incident is not None:
            state = replace(state, incident=replace(incident, acked=True, acked_by=event.by))
            record = tell(RecordKind.ACKNOWLEDGED, now, incident, f"acknowledged by {event.by}", aside(incident))
        case _:
            return Step(state)
    return Step(state, (record,))


def _resumed(policy: Policy, state: State, event: Resumed, now: float) -> Step:
    """A pending restart happened if the epoch changed; else the pending action is spent, yet still due."""
    pending, incident = state.pending, state.incident
    state = replace(state, tally=Tally())
    if pending is None or incident is None:
        return Step(replace(state, pending=None))
    if pending.rung is Rung.RESTART and event.epoch not in (None, pending.epoch):
        reason = "found done when the daemon started"
        return _performed(policy, state, Performed(Rung.RESTART, Outcome.DONE, reason), now)
    text = f"the daemon ended while a {pending.rung} was under way; its budget is spent, it is still due"
    incident = replace(incident, performed=(*incident.performed, pending.rung))
    record = tell(RecordKind.INTERRUPTED, now, incident, text, None)
    record = replace(record, detail={**record.detail, "rung": str(pending.rung), "outcome": "unknown"})
    return Step(replace(state, incident=incident, pending=None), (record,))


def durable(state: State) -> State:
    """The state without its tally: where this is unchanged and nothing is told, a step needs no write."""
    return replace(state, tally=Tally())
