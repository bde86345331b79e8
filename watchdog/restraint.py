"""Why a rung is passed over, and why it waits. Pure; a function's name is the reason's word, its docstring its row.

A *pass* skips a rung that cannot be taken: it is recorded, and the ladder climbs past it. What may pass by itself while
the rung waits is asked last, when nothing holds the rung any more (`LAST_PASSES`). A *hold* keeps a rung waiting: it is
recorded once, and the rung is still due. Holds keep remedies waiting; of an alert only those in `ALERT_HOLDS` do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from watchdog import budget
from watchdog.model import Budget, Certainty, Host, Incident, Mode, Policy, RestartOutlook, Rung, State, Verdict
from watchdog.settings import format_duration

DRASTIC = (Rung.CAPTURE, Rung.RESTART)  # a capture comes only where a restart would


@dataclass(frozen=True, slots=True)
class Moment:
    """What a hold or a pass may look at: an open incident whose `rung` is due."""

    policy: Policy
    state: State
    incident: Incident
    rung: Rung
    host: Host
    now: float
    outlook: RestartOutlook | None = None


Reason = Callable[[Moment], str | None]


def mode_forbids(m: Moment) -> str | None:
    """The service's `mode` does not go as far as this rung."""
    return f'mode is "{m.policy.mode}"' if m.policy.mode is Mode.NUDGE and m.rung in DRASTIC else None


def budget_spent(m: Moment) -> str | None:
    """The rung's budget is spent."""
    limit = budget_of(m.policy, m.rung)
    if budget.left(limit, spent(m.state, m.rung), m.now):
        return None
    return f"its budget is spent: {limit.burst} in {format_duration(limit.interval)}"


def never_healthy(m: Moment) -> str | None:
    """Nobody saw this process healthy: a restart has nothing to go back to, and the probes may be what is wrong."""
    if m.rung not in DRASTIC or m.state.seen_healthy or m.incident.certainty is Certainty.CONFIRMED:
        return None
    return "this process was never seen healthy: its probes may be wrong"


def parked_elsewhere(m: Moment) -> str | None:
    """A nudge did not help a thread that waits on the wrong epoll: a second one would do the same."""
    if m.rung is not Rung.NUDGE or not m.incident.parked or Rung.NUDGE not in m.incident.performed or settling(m):
        return None
    return "its thread waits on an epoll that watches nothing, and a nudge did not bring it back"


def rights(m: Moment) -> str | None:
    """The helper has told, in this climb, that it lacks the rights to nudge: it would lack them again."""
    return "the helper lacks the rights for it" if m.rung is Rung.NUDGE and m.incident.powerless else None


def blast_radius(m: Moment) -> str | None:
    """A restart would take along active units that `also_restarts` does not name."""
    if m.rung not in DRASTIC or m.outlook is None or not m.outlook.takes_along:
        return None
    return f"a restart would restart {', '.join(m.outlook.takes_along)} too; allow it in also_restarts"


PASSES: tuple[Reason, ...] = (mode_forbids, budget_spent, never_healthy, parked_elsewhere, rights, blast_radius)


def start_limit(m: Moment) -> str | None:
    """systemd's start limit is reached: a restart would stop the unit, and not start it."""
    if m.rung not in DRASTIC or m.outlook is None or not 0 < m.outlook.burst <= m.outlook.starts:
        return None
    used = f"{m.outlook.starts} of {m.outlook.burst} starts within {format_duration(m.outlook.interval)}"
    return f"systemd's start limit: the unit has used {used}; a restart would only stop it"


LAST_PASSES: tuple[Reason, ...] = (start_limit,)


def settling(m: Moment) -> str | None:
    """The last remedy is given `settle` to show what it did."""
    until = m.incident.settle_until
    return "the last remedy is given time" if until is not None and m.now < until else None


def paused(m: Moment) -> str | None:
    """An operator paused the service, or the hold file exists."""
    if m.host.hold_file:
        return "the hold file exists"
    pause = m.state.pause
    return f"paused by {pause.told}" if pause is not None else None


def maintenance(m: Moment) -> str | None:
    """A maintenance window of the config is open; it keeps alerts waiting, too."""
    return m.host.window or None


def too_many_sick(m: Moment) -> str | None:
    """More than `max_sick` services are sick at once: the fault is elsewhere."""
    if m.host.sick <= m.host.max_sick:
        return None
    return f"{m.host.sick} services are sick at once, more than {m.host.max_sick}: the fault is elsewhere"


def not_dark_long(m: Moment) -> str | None:
    """A restart waits for `dark_for` of unbroken darkness, but not after useless nudges of a confirmed stall."""
    if m.rung not in DRASTIC or _proven_useless(m.incident):
        return None
    since = m.state.tally.unbroken_since
    dark = 0.0 if since is None else m.now - since
    if dark >= m.policy.dark_for:
        return None
    return f"dark for {format_duration(dark)} of {format_duration(m.policy.dark_for)}"


def others_unseen(m: Moment) -> str | None:
    """A restart waits until every other guard has looked since the incident opened."""
    looked = m.host.others_looked
    if m.rung not in DRASTIC or looked is None or looked >= m.incident.opened:
        return None
    return "another guard has not looked since"


def restart_running(m: Moment) -> str | None:
    """One restart at a time."""
    if m.rung is not Rung.RESTART or not m.host.restarting:
        return None
    return f"{m.host.restarting} is being restarted"


def job_queued(m: Moment) -> str | None:
    """Somebody else's job is queued for the unit: it comes first."""
    if m.rung not in DRASTIC or m.outlook is None or m.outlook.job is None:
        return None
    return f"a {m.outlook.job} job of somebody else's is queued for the unit"


def parent_sick(m: Moment) -> str | None:
    """A service that it depends on is sick: no restart of this one cures that, nor is there anything new to tell."""
    parents = ", ".join(m.host.sick_parents)
    # An alert waits where the opening was held back, for that is told first.
    waits = m.incident.untold if m.rung is Rung.ALERT else m.rung in DRASTIC and bool(parents)
    if not waits:
        return None
    return f"it depends on {parents}, not known to be well" if parents else "what held its opening back is just over"


HOLDS: tuple[Reason, ...] = (
    settling,
    paused,
    maintenance,
    too_many_sick,
    parent_sick,
    not_dark_long,
    others_unseen,
    restart_running,
    job_queued,
)
# What will end by itself comes before any pass: a rung must not be used up by what was true only meanwhile.
FIRST_HOLDS: tuple[Reason, ...] = (paused, maintenance)
ALERT_HOLDS: tuple[Reason, ...] = (settling, maintenance, parent_sick)


def first(reasons: tuple[Reason, ...], moment: Moment) -> tuple[str, str] | None:
    """The first reason that applies: its word, and what it says."""
    for reason in reasons:
        text = reason(moment)
        if text is not None:
            return reason.__name__, text
    return None


def budget_of(policy: Policy, rung: Rung) -> Budget:
    """The budget of a remedy."""
    return {Rung.NUDGE: policy.budget.nudge, Rung.CAPTURE: policy.budget.capture}.get(rung, policy.budget.restart)


def spent(state: State, rung: Rung) -> tuple[float, ...]:
    """When the budget of a remedy was spent."""
    return {Rung.NUDGE: state.nudges, Rung.CAPTURE: state.captures}.get(rung, state.restarts)


def with_uses(state: State, rung: Rung, uses: tuple[float, ...]) -> State:
    """The state with these uses of a remedy."""
    if rung is Rung.NUDGE:
        return replace(state, nudges=uses)
    return replace(state, captures=uses) if rung is Rung.CAPTURE else replace(state, restarts=uses)


def confirmed_stall(incident: Incident) -> bool:
    """Whether its verdict is, for now, a proven lost wake-up."""
    return incident.verdict is Verdict.EPOLL_STALL and incident.certainty is Certainty.CONFIRMED


def _proven_useless(incident: Incident) -> bool:
    """A nudge was done on a proof and did not help, or a proof comes again after a nudge.

    What proved it before may not be shown again: the nudge itself moved the threads.
    """
    nudged = Rung.NUDGE in incident.performed
    return (nudged and confirmed_stall(incident)) or (incident.proven and incident.verdict is Verdict.EPOLL_STALL)
