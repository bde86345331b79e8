"""When to look next. Pure, in the manner of a machine that names its own timer: the guard arms one and asks again.

Each rule's docstring is its row in the manual; the first that names an interval decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from watchdog.model import Policy, State

LATENCIES = 100  # of the last good answers, that tell how slow a probe usually is
LATE_AT_LEAST = 0.05  # s: a reading of evidence takes 0.12
LATE_TIMES = 3.0

Rule = Callable[[Policy, State], float | None]


def exhausted(policy: Policy, state: State) -> float | None:
    """Nothing is left to try: `interval`."""
    incident = state.incident
    return policy.interval if incident is not None and incident.exhausted is not None and not state.tally.good else None


def sick(policy: Policy, state: State) -> float | None:
    """An incident is open: `interval_suspect`, until it is closed."""
    return _suspect(policy) if state.incident is not None else None


def suspect(policy: Policy, state: State) -> float | None:
    """The last round was bad: `interval_suspect`."""
    return _suspect(policy) if state.tally.bad else None


def _suspect(policy: Policy) -> float:
    return min(policy.interval_suspect, policy.interval)


def late_after(latencies: Collection[float]) -> float:
    """From when a probe is late, in seconds: three times the 99th percentile of its answers, and 50 ms at least.

    Of two answers or more the slowest does not count: one pause must not make us blind for the next hundred answers.
    """
    ordered = sorted(latencies)
    usual = ordered[(len(ordered) - 1) * 99 // 100] if ordered else 0.0
    return max(LATE_AT_LEAST, LATE_TIMES * usual)


RULES: tuple[Rule, ...] = (exhausted, sick, suspect)


def plan(policy: Policy, state: State, began: float, now: float, due: float | None = None) -> float:
    """When the next round begins, given when the last one did, and was due. Never in the past; a late one is not caught
    up.
    """
    for rule in RULES:
        interval = rule(policy, state)
        if interval is not None:
            return max(began + interval, now)
    return max(placed(began, due, policy.interval) + policy.interval, now)


def placed(began: float, due: float | None, interval: float) -> float:
    """Where a round that began late or early has its place: what is well keeps the pace that it had. Else the rounds of
    many services, which one delay had made late together, or one full queue early, would from then on all begin at
    once, and delay each other [M].
    """
    if due is None:
        return began
    return due + interval * math.floor((began - due) / interval + 0.5)
