"""A row a verdict: what it stands for, its ladder, its text. The manual's table is made from it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from watchdog.model import Policy, Rung, Verdict

_N, _R, _A = Rung.NUDGE, Rung.RESTART, Rung.ALERT


class Stance(enum.StrEnum):
    """What a verdict asks of the ladder."""

    GOOD = "good"  # counts towards recovery
    SICK = "sick"  # counts towards an incident; its ladder is climbed
    WAIT = "wait"  # nothing is counted and nothing done; what lasts is alerted
    REST = "rest"  # its operator wants it so: an incident ends


@dataclass(frozen=True, slots=True)
class Row:
    """One verdict: its stance, its ladder, and what it says in a sentence."""

    stance: Stance
    ladder: tuple[Rung, ...]
    text: str


VERDICTS: Mapping[Verdict, Row] = {
    Verdict.STOPPED: Row(Stance.REST, (), "stopped by its operator"),
    Verdict.STARTING: Row(Stance.WAIT, (), "starting, stopping or reloading, not yet healthy"),
    Verdict.BLIND: Row(Stance.WAIT, (), "the watchdog itself cannot see"),
    Verdict.DEAD: Row(Stance.SICK, (_A,), "no process, or its unit has failed"),
    Verdict.PAUSED_PROCESS: Row(Stance.SICK, (_A,), "stopped by a signal, frozen, or in a debugger"),
    Verdict.IO_STUCK: Row(Stance.SICK, (_A,), "stuck in the kernel, waiting for a device"),
    Verdict.EPOLL_STALL: Row(Stance.SICK, (_N, _N, _R, _A), "a wake-up was lost: its loop sleeps in epoll_wait"),
    Verdict.HEALTHY: Row(Stance.GOOD, (), "answers on every road"),
    Verdict.FD_EXHAUSTED: Row(Stance.SICK, (_R, _A), "out of file descriptors"),
    Verdict.LISTENER_LOST: Row(Stance.SICK, (_R, _A), "no longer listens on its sockets"),
    Verdict.NETWORK: Row(Stance.SICK, (_A,), "the network to it is dark, the service is not"),
    Verdict.OVERLOADED: Row(Stance.SICK, (_A,), "it lives, and answers too late"),
    Verdict.LOOP_BUSY: Row(Stance.SICK, (_A,), "its loop burns CPU and serves nobody"),
    Verdict.LOOP_BLOCKED: Row(Stance.SICK, (_R, _A), "its loop is blocked: a lock, a disk, a name server"),
    Verdict.LOST_EDGE: Row(Stance.SICK, (_R, _A), "its loop wakes, and misses sockets with work"),
    Verdict.POOL_STARVED: Row(Stance.SICK, (_A,), "connections are accepted, answers never come"),
    Verdict.HUNG: Row(Stance.SICK, (_N, _R, _A), "sockets and witnesses are dark, the process is there"),
    Verdict.WRONG_ANSWERS: Row(Stance.SICK, (_A,), "answers, but wrongly"),
    Verdict.PARTLY_DARK: Row(Stance.SICK, (_A,), "some of its sockets are dark"),
    Verdict.WITNESS_LOST: Row(Stance.SICK, (_A,), "its sockets answer, its witness does not"),
    Verdict.UNSETTLED: Row(Stance.WAIT, (), "no rule decides yet"),
}


def with_capture(rungs: tuple[Rung, ...]) -> tuple[Rung, ...]:
    """A ladder with a capture before each restart, where it does not name one itself."""
    if Rung.CAPTURE in rungs:
        return rungs
    return tuple(each for rung in rungs for each in ((Rung.CAPTURE, rung) if rung is Rung.RESTART else (rung,)))


def stance(verdict: Verdict) -> Stance:
    """What the verdict asks of the ladder."""
    return VERDICTS[verdict].stance


def ladder(policy: Policy, verdict: Verdict) -> tuple[Rung, ...]:
    """The rungs for a verdict: the user's own, else the table's. A verdict that only waited too long is alerted."""
    own = policy.ladder.get(verdict)
    if own is not None:
        return own
    row = VERDICTS[verdict]
    return (Rung.ALERT,) if row.stance is Stance.WAIT else row.ladder
