"""The looks of `epoll-watchdog diagnose`: one at a service of the config, one at a process by its PID.

Rules of this file. A service is looked at by the very parts that the daemon uses, with a helper of our own and a ledger
that is thrown away: a reading spends nothing, and the daemon's ledger is not ours to touch. A process is read with the
caller's own rights, in a worker, for what hangs in /proc must not hang the command. Nothing is touched but what a
reading touches, and nothing is asked of a daemon that may run.

A look that finds something dark lasts for two seconds, so that it can say whether the host starved meanwhile: then a
late answer would say nothing of the service. A second look is taken, a second later, only where nobody can connect any
more and no copy of an epoll told: connections that stand before a full queue for a second while its thread sleeps are a
proof (`forms.py`, *standing*).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from watchdog import probes, target
from watchdog.cli.findings import Findings, listeners_as_probes, of_process, of_service
from watchdog.clock import Clock
from watchdog.config import Service
from watchdog.evidence import kernel
from watchdog.evidence.epollfd import with_copies
from watchdog.evidence.pressure import WINDOW, HostMeter
from watchdog.evidence.procfs import sample
from watchdog.evidence.sockdiag import SockDiag
from watchdog.examiner import Examiner
from watchdog.forms import STOOD
from watchdog.hands import PROCESSES, Hands
from watchdog.helper import worker
from watchdog.look import Look, listeners
from watchdog.model import Case, Epoch, Policy, Round
from watchdog.probes import PROBES
from watchdog.reading import Lack, Pressure, Reading, Sample
from watchdog.symptoms import Symptoms
from watchdog.systemd import BusUnavailable, CallError, NoSuchUnit, NotRunning, Units, run_on_poll, unit_main_pid
from watchdog.target import Gone, NeverATarget

SAMPLE_TIMEOUT = 2.0  # s; a sample gives itself less


def look_at_service(config: Path, service: Service) -> Findings:
    """One look at a service of the config. It is not raised what goes wrong with a probe or a reading, but told."""
    for probe in service.probes.values():
        PROBES[probe.type].prepare(probe.settings)
    with tempfile.TemporaryDirectory(prefix="epoll-watchdog-") as directory:
        return run_on_poll(_look_at_service(config, service, Path(directory) / "ledger.json"))


async def _look_at_service(config: Path, service: Service, ledger: Path) -> Findings:
    clock, diag, units = Clock(), SockDiag(), Units()
    hands = await Hands.spawn(config, ledger)
    examiner = Examiner(service.name, listeners(service), hands, diag, clock)
    look = Look(service, units, examiner, clock, hands.find)
    try:
        await hands.ready()  # half a second of CPU, which must not make the probes late
        scarce = _Scarcity(clock)
        seen = await look.round()
        if seen.reading is not None and not examiner.proofs and _must_stand(seen.reading):
            await asyncio.sleep(STOOD)
            seen = await look.round()
        reading = seen.reading
        pressure = await scarce.told() if reading is not None else None
        if reading is None and seen.epoch is not None:  # all sockets answered, and nobody had to ask why not
            reading = await examiner.read(seen.epoch, lambda _queue: 0)
        case = Case(
            now=clock.now(),
            policy=service.policy,
            roads=look.roads,
            asked=look.asked,
            round=seen.round,
            epoch=seen.epoch,
            age=seen.age,
            seen_healthy=True,  # nobody knows; what a process that never was would be called is a note of the findings
            unit=seen.unit,
            process_error=seen.process_error,
            late_answer=look.late_answer,
            reading=reading,
            proofs=examiner.proofs,
            unproven=examiner.unproven,
            pressure=pressure,
            advisories=kernel.running(),
        )
        return of_service(service.name, service.target.unit or "", case)
    finally:
        look.close()
        diag.close()
        await asyncio.gather(hands.close(), probes.close(), units.close(), return_exceptions=True)


def look_at_process(pid: int) -> Findings:
    """One look at a process and its descendants. Raises `Gone`, `NeverATarget`."""
    if pid in (1, os.getpid()):
        raise NeverATarget(f"process {pid} is never touched")
    epoch = Epoch(pid, target.start_time(pid))
    if target.ended(pid):
        raise Gone(f"process {pid} has ended, and its parent has not taken note")
    return run_on_poll(_look_at_process(epoch, _unit_of(pid)))


async def _look_at_process(epoch: Epoch, unit: str) -> Findings:
    clock, diag = Clock(), SockDiag()
    began, scarce = clock.now(), _Scarcity(clock)
    examiner = Examiner("", (), _OwnHands(), diag, clock)
    with contextlib.closing(diag):
        reading = await examiner.read(epoch, lambda _queue: 0)
        if not examiner.proofs and _must_stand(reading):
            await asyncio.sleep(STOOD)
            reading = await examiner.read(epoch, lambda _queue: 0)
    target.check_alive(epoch)
    roads, found = listeners_as_probes(epoch.pid, reading)
    dark = any(seen.kind.dark for seen in found.values())
    pressure = await scarce.told() if dark else None
    now = clock.now()
    case = Case(
        now=now,
        policy=Policy(),
        roads=roads,
        round=Round("", began, now, found),
        epoch=epoch,
        age=target.age(epoch, now),
        seen_healthy=True,
        reading=reading,
        proofs=examiner.proofs,
        unproven=examiner.unproven,
        pressure=pressure,
        advisories=kernel.running(),
    )
    return of_process(unit, case)


def _must_stand(reading: Reading) -> bool:
    """Whether threads sleep before queues to which no connection can be added, by the reading or by anybody."""
    symptoms = Symptoms(reading, None)
    return bool(symptoms.asleep()) and any(queue.full or queue.limit is None for queue in symptoms.filled())


class _Scarcity:
    """How scarce the host is, from now on: a window of the meter, which is waited for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._meter = HostMeter(clock.now)
        self._meter.sample()
        self._since = clock.now()

    async def told(self) -> Pressure:
        """Over the window until now."""
        await asyncio.sleep(max(0.0, self._since + WINDOW - self._clock.now()) + 0.001)
        return self._meter.read()


class _OwnHands:
    """Reads with the caller's rights what the helper reads with root's."""

    async def examine(self, _service: str, epoch: Epoch, *, copy: bool = False) -> Sample | Lack:
        """One sample; never raises. The loop waits for it: there is nothing else to do."""
        ending = worker.run(lambda: _sample(epoch, copy), SAMPLE_TIMEOUT)
        return Lack(PROCESSES, ending.error) if ending.error else msgspec.json.decode(ending.value, type=Sample)


def _sample(epoch: Epoch, copy: bool) -> str:
    found = sample([epoch, *_descendants(epoch.pid)])
    return msgspec.json.encode(with_copies(found) if copy else found).decode()


def _descendants(pid: int) -> Iterator[Epoch]:
    """Without the command itself, which may be one of them."""
    for child in target.descendants(pid):
        if child not in (os.getpid(), os.getppid()):
            with contextlib.suppress(Gone):
                yield Epoch(child, target.start_time(child))


def _unit_of(pid: int) -> str:
    """The unit that it is the main process of; empty where it is of none, or where nobody tells."""
    with contextlib.suppress(OSError):
        paths = target.cgroup_paths(os.fsdecode(target.contents(f"/proc/{pid}/cgroup"))).values()
        parts = [part for path in paths for part in reversed(path.split("/")) if part.endswith(".service")]
        with contextlib.suppress(BusUnavailable, CallError, NoSuchUnit, NotRunning):
            return parts[0] if parts and unit_main_pid(parts[0]) == pid else ""
    return ""
