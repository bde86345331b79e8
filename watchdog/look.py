"""One look at a service: its process, its unit, and a round of all its probes in parallel.

Rules of this file. It finds out and decides nothing. Each probe has its own time-out. A socket probe that has timed out
is not cancelled: its one open connection is waited on for up to `PATIENCE`, and until then no other is opened. An
answer that comes on it tells a slow service from a dark one, and wakes the guard: after a nudge it comes first.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

from watchdog import target
from watchdog.clock import Clock
from watchdog.config import Service
from watchdog.model import Epoch, Kind, Observation, Plane, Road, Round, UnitState
from watchdog.probes import PROBES
from watchdog.probes.deadline import Deadline
from watchdog.systemd import BusUnavailable, Units

PATIENCE = 30.0  # s that a connection is waited on
GRACE = 0.05  # s for a probe to end itself at its deadline
UNPROBED = ("inactive", "failed")  # a unit in these states is not asked: a socket unit would start it


@dataclass(slots=True)
class Attempt:
    """A probe under way."""

    task: asyncio.Task[Observation]
    deadline: Deadline
    began: float  # loop time
    until: float  # loop time at which the round stops waiting for it


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found."""

    round: Round
    epoch: Epoch | None
    age: float
    unit: UnitState | None = None
    process_error: str = ""  # why its process can't be known


class Look:
    """Looks at one service, and keeps the connections that are waited on between two looks."""

    def __init__(self, service: Service, units: Units, clock: Clock) -> None:
        self._service = service
        self._units = units
        self._clock = clock
        pidfile = service.target.pidfile
        self._pidfile = target.Pidfile(pidfile) if pidfile is not None else None
        self._waiting: dict[str, Attempt] = {}
        self._epoch: Epoch | None = None
        self.late_answer: float | None = None  # when one last came
        self.woken = asyncio.Event()  # set when a connection that was waited on has ended
        self.roads: dict[str, Road] = {
            name: PROBES[probe.type].road(probe.settings) for name, probe in service.probes.items()
        }

    async def round(self) -> Seen:
        """Take a round. Never raises for anything that the service or the host did."""
        self.woken.clear()
        began = self._clock.now()
        unit, epoch, error = await self._process()
        if epoch != self._epoch:
            self._drop_waiting()  # they were asked of another process
            self._epoch = epoch
        names = [] if unit is not None and unit.active_state in UNPROBED else list(self._service.probes)
        observations = await self._observe(names, epoch)
        ended = self._clock.now()
        age = float("inf") if epoch is None else target.age(epoch, ended)
        return Seen(Round(str(uuid.uuid4()), began, ended, observations), epoch, age, unit, error)

    def close(self) -> None:
        """Close the connections that are waited on, and let go of the process."""
        self._drop_waiting()
        if self._pidfile is not None:
            self._pidfile.close()

    async def _process(self) -> tuple[UnitState | None, Epoch | None, str]:
        """The unit, the life of its main process, and why that can't be known; then it counts as the last one known."""
        name = self._service.target.unit
        unit: UnitState | None = None
        try:
            if name is not None:
                unit = await self._units.state(name)
                return unit, _main(unit), ""
            return None, self._pidfile.epoch() if self._pidfile is not None else None, ""
        except BusUnavailable as error:
            return None, self._epoch, str(error)
        except target.Refusal as refusal:
            return unit, self._epoch, f"{refusal}; {refusal.hint}"
        except OSError as error:
            return unit, self._epoch, str(error)

    async def _observe(self, names: list[str], epoch: Epoch | None) -> dict[str, Observation]:
        """One wait for all probes, not one for each: most of a round's CPU is asyncio's."""
        answered = [attempt for attempt in self._waiting.values() if attempt.task.done()]
        unanswered = {attempt.task for attempt in self._waiting.values() if not attempt.task.done()}
        if answered and unanswered:
            # Where one of several was just answered, the others' answers are on their way: half a cure is no finding.
            await asyncio.wait(unanswered, timeout=GRACE)
        attempts = {name: self._attempt(name, epoch) for name in names}
        try:
            await _settle(list(attempts.values()))
        except asyncio.CancelledError:
            for attempt in attempts.values():
                attempt.task.cancel()
            raise
        return {name: self._finding(name, attempt) for name, attempt in attempts.items()}

    def _attempt(self, name: str, epoch: Epoch | None) -> Attempt:
        """The one that is still waited on, or a new one."""
        now = asyncio.get_running_loop().time()
        waiting = self._waiting.get(name)
        if waiting is not None and not waiting.task.done():
            waiting.until = now
            return waiting
        self._waiting.pop(name, None)
        probe = self._service.probes[name]
        timeout = probe.timeout if probe.timeout is not None else self._service.policy.timeout
        socket = self.roads[name].plane is Plane.SOCKET
        deadline = Deadline(now + (max(PATIENCE, timeout) if socket else timeout))
        task = asyncio.ensure_future(PROBES[probe.type].probe(probe.settings, epoch, deadline))
        return Attempt(task, deadline, now, now + timeout if socket else now + timeout + GRACE)

    def _finding(self, name: str, attempt: Attempt) -> Observation:
        if attempt.task.done():
            return attempt.task.result()
        found = attempt.deadline.so_far(asyncio.get_running_loop().time() - attempt.began)
        if not attempt.deadline.reached:
            # The kernel asks again at ever longer intervals: a fresh connection finds a service that is well sooner.
            attempt.task.cancel()
        elif name not in self._waiting:
            self._waiting[name] = attempt
            attempt.task.add_done_callback(lambda _task: self._ended(attempt))
        return found

    def _ended(self, attempt: Attempt) -> None:
        if attempt.task.cancelled():
            return
        # A reset of the connection is no sign of life: only what was heard counts.
        kind = attempt.task.result().kind
        if kind is Kind.ALIVE or (kind is Kind.WRONG and attempt.deadline.heard):
            self.late_answer = self._clock.now()
        self.woken.set()

    def _drop_waiting(self) -> None:
        for attempt in self._waiting.values():
            attempt.task.cancel()
        self._waiting.clear()


async def _settle(attempts: list[Attempt]) -> None:
    """Wait until each has ended or its own time is up."""
    loop = asyncio.get_running_loop()
    while pending := [attempt for attempt in attempts if not attempt.task.done() and attempt.until > loop.time()]:
        soonest = min(attempt.until for attempt in pending)
        await asyncio.wait({attempt.task for attempt in pending}, timeout=max(0.0, soonest - loop.time()))


def _main(unit: UnitState) -> Epoch | None:
    try:
        if not unit.main_pid or target.ended(unit.main_pid):
            return None
        return Epoch(unit.main_pid, target.start_time(unit.main_pid), unit.invocation_id)
    except target.Gone:
        return None
