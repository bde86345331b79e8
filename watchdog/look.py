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
from watchdog.config import Probe, Service
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
        found = await asyncio.gather(*(self._observe(name, epoch) for name in names))
        ended = self._clock.now()
        observations = dict(zip(names, found, strict=True))
        age = float("inf") if epoch is None else target.age(epoch, ended)
        return Seen(Round(str(uuid.uuid4()), began, ended, observations), epoch, age, unit, error)

    def close(self) -> None:
        """Close the connections that are waited on."""
        self._drop_waiting()

    async def _process(self) -> tuple[UnitState | None, Epoch | None, str]:
        """The unit, the life of its main process, and why that can't be known; then it counts as the last one known."""
        name, pidfile = self._service.target.unit, self._service.target.pidfile
        unit: UnitState | None = None
        try:
            if name is not None:
                unit = await self._units.state(name)
                return unit, _main(unit), ""
            return None, target.pidfile_epoch(pidfile) if pidfile is not None else None, ""
        except BusUnavailable as error:
            return None, self._epoch, str(error)
        except target.Refusal as refusal:
            return unit, self._epoch, f"{refusal}; {refusal.hint}"

    async def _observe(self, name: str, epoch: Epoch | None) -> Observation:
        probe = self._service.probes[name]
        timeout = probe.timeout if probe.timeout is not None else self._service.policy.timeout
        waiting = self._waiting.get(name)
        if waiting is not None and not waiting.task.done():
            # Where one of several was just answered, the others' answers are on their way: half a cure is no finding.
            await asyncio.wait({waiting.task}, timeout=GRACE)
        if waiting is not None and not waiting.task.done():
            return waiting.deadline.so_far(asyncio.get_running_loop().time() - waiting.began)
        self._waiting.pop(name, None)
        attempt = self._begin(probe, epoch, timeout, self.roads[name].plane)
        try:
            await asyncio.wait(
                {attempt.task}, timeout=timeout if self.roads[name].plane is Plane.SOCKET else timeout + GRACE
            )
        except asyncio.CancelledError:
            attempt.task.cancel()
            raise
        if attempt.task.done():
            return attempt.task.result()
        self._waiting[name] = attempt
        attempt.task.add_done_callback(lambda _task: self._ended(attempt))
        return attempt.deadline.so_far(timeout)

    def _begin(self, probe: Probe, epoch: Epoch | None, timeout: float, plane: Plane) -> Attempt:
        began = asyncio.get_running_loop().time()
        deadline = Deadline(began + (max(PATIENCE, timeout) if plane is Plane.SOCKET else timeout))
        task = asyncio.ensure_future(PROBES[probe.type].probe(probe.settings, epoch, deadline))
        return Attempt(task, deadline, began)

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


def _main(unit: UnitState) -> Epoch | None:
    try:
        if not unit.main_pid or target.ended(unit.main_pid):
            return None
        return Epoch(unit.main_pid, target.start_time(unit.main_pid), unit.invocation_id)
    except target.Gone:
        return None
