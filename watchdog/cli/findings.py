"""What one look at a service or a process comes to: pure, from a case to what the command tells.

Rules of this file. The case is judged by the daemon's own rules (`diagnosis`), so a look by hand says what the daemon
would say; what only the daemon can know (the baseline, budgets, holds) is told as missing where it matters. A process
without a config has no probes: each of its listeners then stands for one, by what its accept queue shows. A listener
before which nothing waits says nothing, so most healthy processes give no finding rather than a clean bill.
"""

from __future__ import annotations

import enum
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from watchdog.diagnosis import diagnose
from watchdog.model import Case, Diagnosis, Kind, Observation, Plane, Road, Rung, Strength, Verdict
from watchdog.reading import Queue, Reading, Thread
from watchdog.recording import encode
from watchdog.settings import format_duration
from watchdog.symptoms import Symptoms
from watchdog.verdicts import Stance, ladder, stance


class Result(enum.StrEnum):
    """What the command's exit status tells."""

    HEALTHY = "healthy"
    NOTHING_FOUND = "nothing_found"
    SICK = "sick"
    UNSEEN = "unseen"  # there was nothing to judge by

    @property
    def status(self) -> int:
        """Of the command: as `check` and Nagios' plugins have it, but 2, which is wrong usage."""
        return {Result.HEALTHY: 0, Result.NOTHING_FOUND: 0, Result.SICK: 1, Result.UNSEEN: 3}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """A look's case and what follows from it. `service` is None for a process that was named by its PID."""

    service: str | None
    unit: str  # that the process is the main one of; empty: of none, or nobody tells
    case: Case
    diagnosis: Diagnosis
    result: Result
    ladder: tuple[Rung, ...]
    notes: tuple[str, ...]  # what one look can't tell

    @property
    def symptoms(self) -> Symptoms:
        """Of the case's reading."""
        return Symptoms(self.case.reading or Reading(), self.case.baseline)

    def as_json(self) -> str:
        """All of it. The keys are stable; what is new may be added."""
        told = {
            "service": self.service,
            "pid": self.case.epoch.pid if self.case.epoch is not None else None,
            "unit": self.unit,
            "result": self.result,
            "diagnosis": self.diagnosis,
            "ladder": self.ladder,
            "notes": self.notes,
            "case": self.case,
        }
        return msgspec.json.format(encode(told), indent=2).decode()


def of_service(name: str, unit: str, case: Case) -> Findings:
    """What a look at a service of the config came to."""
    diagnosis = diagnose(case)
    return Findings(
        service=name,
        unit=unit,
        case=case,
        diagnosis=diagnosis,
        result=_result(diagnosis),
        ladder=ladder(case.policy, diagnosis.verdict),
        notes=(*_young(case, diagnosis), *_without_baseline(case, diagnosis)),
    )


def of_process(unit: str, case: Case) -> Findings:
    """What a look at a process came to, whose case is by `listeners_as_probes`."""
    diagnosis = diagnose(case)
    result = _result(diagnosis)
    if diagnosis.verdict is Verdict.UNSETTLED and not any(seen.kind.dark for seen in case.round.observations.values()):
        read = case.reading is not None and Symptoms(case.reading, None).informed
        result = Result.NOTHING_FOUND if read else Result.UNSEEN
        reason = _nothing_waits(case) if read else "nothing tells what its threads do"
        diagnosis = replace(diagnosis, reasons=(reason,))
    return Findings(
        service=None,
        unit=unit,
        case=case,
        diagnosis=diagnosis,
        result=result,
        ladder=ladder(case.policy, diagnosis.verdict) if result is Result.SICK else (),
        notes=tuple(_without_baseline(case, diagnosis)),
    )


def _result(diagnosis: Diagnosis) -> Result:
    if stance(diagnosis.verdict) is Stance.GOOD:
        return Result.HEALTHY
    return Result.UNSEEN if diagnosis.verdict is Verdict.BLIND else Result.SICK


# --- a process without probes -----------------------------------------------------------------------------------------


def listeners_as_probes(pid: int, reading: Reading) -> tuple[Mapping[str, Road], Mapping[str, Observation]]:
    """What stands for the probes: each listener that shows by its queue whether it is served; /proc as the witness.

    None of them is told to be of TCP, for a connection that waits there has passed the network.
    """
    symptoms = Symptoms(reading, None)
    witness = f"/proc/{pid}"
    roads = {witness: Road(Plane.WITNESS, strength=Strength.PROCESS)}
    found = {witness: Observation(Kind.ALIVE, 0.0, "the process is there")}
    named = Counter(queue.address for queue in symptoms.listeners())
    for queue in symptoms.listeners():
        shown = _shown(reading, queue)
        if shown is not None:
            name = queue.address if named[queue.address] == 1 else f"{queue.address} (inode {queue.inode})"
            roads[name] = Road(Plane.SOCKET)
            found[name] = shown
    return roads, found


def _shown(reading: Reading, queue: Queue) -> Observation | None:
    """Whether somebody takes the connections that wait there; None where none waits."""
    lengths = waiting(reading, queue)
    span = reading.queues[-1].at - reading.queues[0].at
    if any(after < before for before, after in itertools.pairwise(lengths)):
        return Observation(Kind.ALIVE, span, "connections that waited are taken")
    if min(lengths) == 0:
        return None
    some = "1 connection waits" if queue.length == 1 else f"{queue.length} connections wait"
    return Observation(Kind.SILENT, span, f"{some}, and none was taken in {format_duration(span)}")


def waiting(reading: Reading, queue: Queue) -> list[int]:
    """How many connections waited there, at each moment that tells of it."""
    return [found.length for moment in reading.queues if (found := moment.of(queue.inode)) is not None]


def _nothing_waits(case: Case) -> str:
    listeners = Symptoms(case.reading or Reading(), None).listeners()
    if not listeners:
        return "it has no listening socket; nothing of it is stopped or stuck"
    which = listeners[0].address if len(listeners) == 1 else f"any of its {len(listeners)} listeners"
    return f"no connection waits at {which}, so nothing shows whether one would be taken; nothing is stopped or stuck"


# --- what one look can't tell -----------------------------------------------------------------------------------------


def _young(case: Case, diagnosis: Diagnosis) -> Iterator[str]:
    if case.age < case.policy.start_timeout and stance(diagnosis.verdict) is Stance.SICK:
        yield (
            f"the process is {format_duration(case.age)} old: until it was healthy once, the daemon calls it starting, "
            f"for {format_duration(case.policy.start_timeout)} (start_timeout)"
        )


def _without_baseline(case: Case, diagnosis: Diagnosis) -> Iterator[str]:
    if case.proofs or case.reading is None or stance(diagnosis.verdict) is Stance.GOOD:
        return
    asleep = [trace[-1] for trace in Symptoms(case.reading, None).asleep()]
    if idle := [thread for thread in asleep if _watches_nothing(case.reading, thread)]:
        more = f" (and {len(idle) - 1} more so)" if len(idle) > 1 else ""
        yield (
            f"thread {idle[0].tid} ({idle[0].name}) waits on epoll {idle[0].epfd}, which watches nothing{more}. If it "
            "used to serve another epoll, a wake-up is lost (the form parked of the proof): the daemon can tell by its "
            "baseline of the healthy service, one look can't"
        )
    ran = next((thread for sample in case.reading.samples for thread in sample.threads if thread.state in "RD"), None)
    if asleep and ran is not None and stance(diagnosis.verdict) is Stance.SICK:
        yield (
            "one look has no baseline, so it proves a lost wake-up only where every thread sleeps, and thread "
            f"{ran.tid} ({ran.name}) did not; the daemon knows by its baseline which threads matter"
        )


def _watches_nothing(reading: Reading, thread: Thread) -> bool:
    found = [epoll for epoll in reading.samples[-1].epolls if epoll.key == (thread.pid, thread.epfd)]
    return any(not epoll.watches and not epoll.omitted for epoll in found)
