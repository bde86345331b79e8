"""An incident judged anew from its evidence, as `replay` does, and what its threads did. Pure: a recording in.

Rules of this file. The evidence shown is that of the first round that proved a lost wake-up; where none did, of the
first that was read with what the threads did, for a remedy changes what comes after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from watchdog.model import Case, Looked, Performed
from watchdog.reading import Sample, Thread
from watchdog.recording import Decision, Recorded, Recording
from watchdog.replay import Replayed, replay
from watchdog.symptoms import Symptoms, Trace
from watchdog.verdicts import ladder

MOST = 12  # threads


@dataclass(frozen=True, slots=True)
class Slept:
    """A thread while it was looked at."""

    pid: int
    tid: int
    name: str
    state: str  # as proc_pid_stat(5) has it
    within: str  # the system call, and of an epoll wait the epoll's descriptor
    where: str  # in the kernel; empty: not told
    woke: int  # how often it was switched meanwhile
    of_loop: bool  # whether it serves the sockets


@dataclass(frozen=True, slots=True)
class Differs:
    """A decision that would be another one today."""

    at_s: float
    then: str
    now: str
    reason: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What the evidence says today."""

    decisions: int
    rounds: int
    rejudged: int  # of the rounds: their evidence was kept
    differing: Sequence[Differs]
    at_s: float | None  # when the threads were looked at, from the opening; None: it was not kept
    looked_s: float  # for how long
    threads: Sequence[Slept]  # those that serve the sockets first
    more_threads: int  # that are not in it
    proofs: Sequence[str]
    unproven: Sequence[str]
    left: Sequence[str]  # the rungs of its ladder that were not tried


def judged(recording: Recording) -> Judged:
    """The recording through today's rules."""
    entries = replay(recording)
    looks = [entry for entry in entries if isinstance(entry.recorded.entry.event, Looked)]
    shown = _telling(recording)
    case = shown.case if shown is not None else None
    threads = list(_threads(case)) if case is not None else []
    samples = case.reading.samples if case is not None and case.reading is not None else ()
    return Judged(
        decisions=len(entries),
        rounds=len(looks),
        rejudged=sum(entry.diagnosis is not None for entry in entries),
        differing=[_differs(recording, entry) for entry in entries if entry.differs],
        at_s=_at(recording, shown) if shown is not None else None,
        looked_s=_span(samples),
        threads=threads[:MOST],
        more_threads=max(0, len(threads) - MOST),
        proofs=[proof.text for proof in case.proofs] if case is not None else (),
        unproven=case.unproven if case is not None and not case.proofs else (),
        left=list(_left(recording)),
    )


def _at(recording: Recording, recorded: Recorded) -> float:
    return round((recorded.at - recording.incident.opened).total_seconds(), 3)


def _telling(recording: Recording) -> Recorded | None:
    read = [each for each in recording.entries if each.case is not None and each.case.reading is not None]
    told = [each for each in read if each.case and each.case.reading and each.case.reading.samples]
    proven = [each for each in told if each.case and each.case.proofs]
    return next(iter(proven or told), None)


def _differs(recording: Recording, entry: Replayed) -> Differs:
    then, reasons = entry.recorded.decided, entry.diagnosis.reasons if entry.diagnosis is not None else ()
    return Differs(
        _at(recording, entry.recorded),
        _said(then) if then is not None else "not recorded",
        _said(entry.now),
        reasons[0] if reasons else "",
    )


def _said(decision: Decision) -> str:
    parts = [f"{decision.verdict} ({decision.certainty})"] if decision.verdict is not None else []
    parts += [f"{decision.action} asked for"] if decision.action is not None else []
    return "; ".join([*parts, *([", ".join(decision.records)] if decision.records else [])]) or "nothing"


def _left(recording: Recording) -> Iterator[str]:
    """Of the ladder of its verdict, in its own policy: what no entry came to."""
    if recording.policy is None or not recording.entries:
        return
    newest = recording.entries[-1].entry
    tried = list(newest.state.incident.tried) if newest.state.incident is not None else []
    if isinstance(newest.event, Performed):
        tried.append(newest.event.rung)
    for rung in ladder(recording.policy, recording.incident.verdict):
        if rung in tried:
            tried.remove(rung)
        else:
            yield str(rung)


# --- what the threads did ---------------------------------------------------------------------------------------------


def _span(samples: Sequence[Sample]) -> float:
    return samples[-1].ended - samples[0].began if samples else 0.0


def _threads(case: Case) -> Iterator[Slept]:
    """First those that serve the sockets, then those that do anything but sleep."""
    if case.reading is None or not case.reading.samples:
        return
    symptoms = Symptoms(case.reading, case.baseline, case.asked)
    loops = {trace[-1].key for trace in (*symptoms.in_epoll(), *symptoms.loops)}
    before = {thread.key: thread for thread in case.reading.samples[0].threads}
    traces: list[Trace] = [(before.get(last.key, last), last) for last in case.reading.samples[-1].threads]
    traces.sort(key=lambda trace: (trace[-1].key not in loops, trace[-1].state == "S", trace[-1].pid, trace[-1].tid))
    for first, last in traces:
        woke = last.switches - first.switches
        yield Slept(last.pid, last.tid, last.name, last.state, _within(last), last.wchan, woke, last.key in loops)


def _within(thread: Thread) -> str:
    if not thread.waits_in_epoll:
        return thread.call
    epoll = f" on epoll {thread.epfd}" if thread.epfd is not None else ""
    return f"{thread.call}{epoll}{' with a time-out' if thread.finite else ''}"
