"""One round of all probes of some services, for `epoll-watchdog check`: without a daemon, and without evidence.

Rules of this file. A service is asked by the very parts that the daemon uses, and the daemon's rules judge. What its
threads do is not read, so what only that would tell stays open; where it is dark its accept queues are, which needs no
rights. A helper of our own, with a ledger that is thrown away, is started only for a service that is named by its
process: nobody else may look for one. Only so many are asked at once that the timings are the services', not ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from watchdog import probes
from watchdog.clock import Clock
from watchdog.config import Service
from watchdog.diagnosis import diagnose
from watchdog.evidence.sockdiag import SockDiag
from watchdog.examiner import Examiner
from watchdog.hands import PROCESSES, Hands
from watchdog.look import Look, listeners
from watchdog.model import Case, Diagnosis, Epoch, Observation
from watchdog.probes import PROBES
from watchdog.reading import Lack
from watchdog.systemd import Units, run_on_poll
from watchdog.whereabouts import Find, nobody_finds

AT_ONCE = 16  # services


@dataclass(frozen=True, slots=True)
class Checked:
    """A service, what its probes found (one that was not asked is not in it), and what follows."""

    service: Service
    found: Mapping[str, Observation]
    diagnosis: Diagnosis
    took: float  # s


def check(config: Path, services: Sequence[Service]) -> list[Checked]:
    """A round of each, side by side. It is not raised what goes wrong with a probe, but told."""
    for service in services:
        for probe in service.probes.values():
            PROBES[probe.type].prepare(probe.settings)
    return run_on_poll(_check(config, services))


async def _check(config: Path, services: Sequence[Service]) -> list[Checked]:
    clock, units, turns = Clock(), Units(), asyncio.Semaphore(AT_ONCE)
    with contextlib.closing(SockDiag()) as diag:
        try:
            async with _finder(config, services) as find:

                async def one(service: Service) -> Checked:
                    async with turns:
                        examiner = Examiner(service.name, listeners(service), _NoHands(), diag, clock)
                        with contextlib.closing(Look(service, units, examiner, clock, find)) as look:
                            return await _look(service, look, clock)

                return await asyncio.gather(*map(one, services))
        finally:
            await asyncio.gather(probes.close(), units.close(), return_exceptions=True)


async def _look(service: Service, look: Look, clock: Clock) -> Checked:
    seen = await look.round()
    case = Case(
        now=clock.now(),
        policy=service.policy,
        roads=look.roads,
        asked=look.asked,
        round=seen.round,
        epoch=seen.epoch,
        age=seen.age,
        seen_healthy=True,  # nobody knows; a new process that gives no answer is as dark as an old one
        unit=seen.unit,
        process_error=seen.process_error,
        late_answer=look.late_answer,
        reading=seen.reading,
    )
    return Checked(service, seen.round.observations, diagnose(case), seen.round.ended - seen.round.started)


@contextlib.asynccontextmanager
async def _finder(config: Path, services: Sequence[Service]) -> AsyncIterator[Find]:
    """Who finds a process by what it runs."""
    if not any(service.target.process for service in services):
        yield nobody_finds
        return
    with tempfile.TemporaryDirectory(prefix="epoll-watchdog-") as directory:
        hands = await Hands.spawn(config, Path(directory) / "ledger.json")
        try:
            await hands.ready()  # half a second of CPU, which must not make the probes late
            yield hands.find
        finally:
            await hands.close()


class _NoHands:
    """Reads nothing."""

    async def examine(self, _service: str, _epoch: Epoch, *, copy: bool = False) -> Lack:
        """That it was not read."""
        return Lack(PROCESSES, "a check reads no evidence; epoll-watchdog diagnose does")
