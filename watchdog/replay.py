"""What would be decided today about an incident that was recorded. Pure: a recording in, decisions out.

Each entry stands alone: it is run with the state before it as it was recorded, so a decision that differs does not
change those after it. (The state can't be carried from entry to entry: rounds in which nothing was decided are counted
in it and never recorded.) A round whose case was kept is diagnosed anew, and `step` is called with what comes of it;
any other entry goes through `step` as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from watchdog.diagnosis import diagnose
from watchdog.ladder import step
from watchdog.model import Case, Diagnosis, Event, Looked, Policy
from watchdog.recording import Decision, Recorded, Recording, decision
from watchdog.sight import look_at


@dataclass(frozen=True, slots=True)
class Replayed:
    """An entry, what would be decided now, and today's diagnosis where there was a case to diagnose."""

    recorded: Recorded
    now: Decision
    diagnosis: Diagnosis | None

    @property
    def differs(self) -> bool:
        """Whether something else would be decided. What was decided before schema 2 was not recorded."""
        return self.recorded.decided not in (None, self.now)


def replay(recording: Recording) -> tuple[Replayed, ...]:
    """Every entry through today's `diagnose` and `step`.

    The policy is that of the entry's case, or of the last case before it, else the recording's, else the defaults.
    """
    policy = recording.policy if recording.policy is not None else Policy()
    replayed = []
    for recorded in recording.entries:
        policy = recorded.case.policy if recorded.case is not None else policy
        replayed.append(_replay(policy, recorded))
    return tuple(replayed)


def _replay(policy: Policy, recorded: Recorded) -> Replayed:
    entry = recorded.entry
    event, diagnosis = _diagnosed(entry.event, recorded.case)
    made = step(policy, entry.state, event, entry.now)
    action = made.action.rung if made.action is not None else None
    return Replayed(recorded, decision(event, action, (record.kind for record in made.records)), diagnosis)


def _diagnosed(event: Event, case: Case | None) -> tuple[Event, Diagnosis | None]:
    if case is None or not isinstance(event, Looked):
        return event, None
    diagnosis = diagnose(case)
    return replace(event, diagnosis=diagnosis, dark=look_at(case).dark), diagnosis
