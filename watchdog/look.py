"""One look at a service: its process, its unit, and a round of all its probes in parallel.

Rules of this file. It finds out and decides nothing. Each probe has its own time-out. A socket probe that has timed out
is not cancelled: its one open connection is waited on for up to `PATIENCE`, and until then no other is opened. An
answer that comes on it tells a slow service from a dark one, and wakes the guard: after a nudge it comes first.

A probe that is *late*, long before it has timed out, starts the reading of evidence beside the probes. Where that
proves a lost wake-up the round ends at once: nothing that the probes may still find would change the verdict.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from watchdog import target
from watchdog.clock import Clock
from watchdog.config import Service
from watchdog.examiner import Examiner
from watchdog.model import Epoch, Kind, Observation, Plane, Road, Round, UnitState
from watchdog.pace import LATENCIES, late_after
from watchdog.probes import PROBES
from watchdog.probes.deadline import Deadline
from watchdog.reading import Queue, Reading
from watchdog.systemd import BusUnavailable, Units
from watchdog.whereabouts import Find, Whereabouts, nobody_finds

PATIENCE = 30.0  # s that a connection is waited on
GRACE = 0.05  # s for a probe to end itself at its deadline
READ_EVERY = 5.0  # s between two readings of a service that goes on to answer wrongly, or whose witness stays lost
ILL = frozenset({*(kind for kind in Kind if kind.dark), Kind.WRONG})
UNPROBED = ("inactive", "failed")  # a unit in these states is not asked: a socket unit would start it


def listeners(service: Service) -> set[str]:
    """What its probes ask, as the kernel writes the addresses of listeners."""
    asked = (PROBES[probe.type].listener(probe.settings) for probe in service.probes.values())
    return {address for listener in asked for address in listener}


@dataclass(slots=True)
class Attempt:
    """A probe under way."""

    task: asyncio.Task[Observation]
    deadline: Deadline
    began: float  # loop time
    until: float  # loop time at which the round stops waiting for it
    plane: Plane


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found."""

    round: Round
    epoch: Epoch | None
    age: float
    unit: UnitState | None = None
    process_error: str = ""  # why its process can't be known
    reading: Reading | None = None  # the evidence that this round asked for


class Look:
    """Looks at one service, and keeps the connections that are waited on between two looks."""

    def __init__(
        self, service: Service, units: Units, examiner: Examiner, clock: Clock, find: Find = nobody_finds
    ) -> None:
        self._service = service
        self._units = units
        self.examiner = examiner
        self._clock = clock
        self._whereabouts = Whereabouts(service, find)
        self._waiting: dict[str, Attempt] = {}
        self._epoch: Epoch | None = None
        self._latencies: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=LATENCIES))
        self._unanswered: set[str] = set()  # sockets that gave no answer when they were last looked at
        self._read_at = float("-inf")
        self._ill: Reading | None = None  # what was read of it since it last was well, where its sockets are not dark
        self.late_answer: float | None = None  # when one last came
        self.answered: float | None = None  # when the first good answer came since somebody last set this to None
        self.tripped = False  # the tripwire saw a queue that stays filled: the next round reads evidence at once
        self.woken = asyncio.Event()  # set when a connection that was waited on has ended
        self.asked = frozenset(listeners(service))
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
            self._ill = None
        self.examiner.enter(epoch)
        names = [] if unit is not None and unit.active_state in UNPROBED else list(self._service.probes)
        observations, reading = await self._observe(names, epoch)
        ended = self._clock.now()
        age = float("inf") if epoch is None else target.age(epoch, ended)
        return Seen(Round(str(uuid.uuid4()), began, ended, observations), epoch, age, unit, error, reading)

    def close(self) -> None:
        """Close the connections that are waited on, and let go of the process."""
        self._drop_waiting()
        self._whereabouts.close()

    async def _process(self) -> tuple[UnitState | None, Epoch | None, str]:
        """The unit, the life of its main process, and why that can't be known; then it counts as the last one known."""
        name = self._service.target.unit
        unit: UnitState | None = None
        try:
            if name is not None:
                unit = await self._units.state(name)
                return unit, _main(unit), ""
            return None, await self._whereabouts.epoch(), ""
        except BusUnavailable as error:
            return None, self._epoch, str(error)
        except target.Refusal as refusal:
            return unit, self._epoch, refusal.with_hint()
        except OSError as error:
            return unit, self._epoch, str(error)

    async def _observe(self, names: list[str], epoch: Epoch | None) -> tuple[dict[str, Observation], Reading | None]:
        """One wait for all probes, not one for each: most of a round's CPU is asyncio's."""
        answered = [attempt for attempt in self._waiting.values() if attempt.task.done()]
        unanswered = {attempt.task for attempt in self._waiting.values() if not attempt.task.done()}
        if answered and unanswered:
            # Where one of several was just answered, the others' answers are on their way: half a cure is no finding.
            await asyncio.wait(unanswered, timeout=GRACE)
        held = await self.examiner.recheck(epoch) if epoch is not None else None
        attempts = {name: self._attempt(name, epoch) for name in names}
        reading: asyncio.Task[Reading] | None = None
        try:
            tripped, self.tripped = self.tripped, False
            sockets = [attempt for name, attempt in attempts.items() if self.roads[name].plane is Plane.SOCKET]
            await _settle(list(attempts.values()), until=float("-inf") if tripped else self._late_at(attempts))
            if epoch is not None and (tripped or not all(attempt.task.done() for attempt in sockets)):
                reading = asyncio.ensure_future(self._read(epoch, attempts))
            await _settle(list(attempts.values()), reading, lambda: bool(self.examiner.proofs))
            found = {name: self._finding(name, attempt) for name, attempt in attempts.items()}
            read = held if reading is None else await reading
            if reading is None and all(seen.kind is Kind.ALIVE for seen in found.values()):
                self.examiner.rest()
            if epoch is not None and self._is_dark(found) and self._must_knock(reading, read):
                reading = asyncio.ensure_future(self._read(epoch, attempts, knock=True))
                read = await reading
            if reading is not None or all(seen.kind not in ILL for seen in found.values()):
                self._ill = None
            elif epoch is not None:
                if self._ill is None or self._clock.now() - self._read_at >= READ_EVERY:
                    reading = asyncio.ensure_future(self._read(epoch, attempts))
                    self._ill = await reading
                read = self._ill  # else the verdict would change with each reading that is not due yet
            return found, read
        except asyncio.CancelledError:
            for task in (*(attempt.task for attempt in attempts.values()), *([reading] if reading else [])):
                task.cancel()
            raise

    def _late_at(self, attempts: dict[str, Attempt]) -> float:
        """The loop time from which evidence is read, if a socket has not answered by then."""
        sockets = [name for name in attempts if self.roads[name].plane is Plane.SOCKET]
        return min((attempts[name].began + late_after(self._latencies[name]) for name in sockets), default=float("inf"))

    def _is_dark(self, found: dict[str, Observation]) -> bool:
        return any(seen.kind.dark and self.roads[name].plane is Plane.SOCKET for name, seen in found.items())

    def _must_knock(self, reading: asyncio.Task[Reading] | None, read: Reading | None) -> bool:
        """A probe has timed out: it is read now, or once more where the reading of what was late proved nothing."""
        if reading is None:
            return True
        told = read is not None and bool(read.samples)  # a helper that does not answer is not waited for twice
        return told and not self.examiner.proofs and self.examiner.may_knock()

    async def _read(self, epoch: Epoch, attempts: dict[str, Attempt], *, knock: bool = False) -> Reading:
        def ours(queue: Queue) -> int:
            return sum(_waits_at(queue, attempt) for attempt in attempts.values())

        self._read_at = self._clock.now()
        return await self.examiner.read(epoch, ours, knock=knock)

    def _attempt(self, name: str, epoch: Epoch | None) -> Attempt:
        """The one that is still waited on, or a new one."""
        now = asyncio.get_running_loop().time()
        waiting = self._waiting.get(name)
        if waiting is not None and not waiting.task.done():
            return waiting
        self._waiting.pop(name, None)
        probe = self._service.probes[name]
        timeout = probe.timeout if probe.timeout is not None else self._service.policy.timeout
        socket = self.roads[name].plane is Plane.SOCKET
        deadline = Deadline(now + (max(PATIENCE, timeout) if socket else timeout))
        task = asyncio.ensure_future(PROBES[probe.type].probe(probe.settings, epoch, deadline))
        return Attempt(task, deadline, now, now + timeout if socket else now + timeout + GRACE, self.roads[name].plane)

    def _finding(self, name: str, attempt: Attempt) -> Observation:
        now = asyncio.get_running_loop().time()
        if attempt.task.done():
            found = attempt.task.result()
            if attempt.plane is Plane.SOCKET:
                self._note(name, found)
            return found
        overdue = attempt.until <= now
        found = attempt.deadline.so_far(now - attempt.began)
        if overdue and not attempt.deadline.reached:
            # The kernel asks again at ever longer intervals: a fresh connection finds a service that is well sooner.
            attempt.task.cancel()
        elif name not in self._waiting:
            self._unanswered |= {name} if attempt.plane is Plane.SOCKET else set()
            self._waiting[name] = attempt
            attempt.task.add_done_callback(lambda _task: self._ended(attempt))
        return found if overdue else Observation(Kind.LATE, found.latency, "not answered yet, not timed out yet")

    def _ended(self, attempt: Attempt) -> None:
        if attempt.task.cancelled():
            return
        # A reset of the connection is no sign of life: only what was heard counts.
        kind = attempt.task.result().kind
        overdue = attempt.until <= asyncio.get_running_loop().time()
        if attempt.plane is Plane.WITNESS:
            self.woken.set()
            return
        if overdue and (kind is Kind.ALIVE or (kind is Kind.WRONG and attempt.deadline.heard)):
            self.late_answer = self._clock.now()
        if kind is Kind.ALIVE:
            self._note_answer()
        self.woken.set()

    def _note(self, name: str, found: Observation) -> None:
        """How slow a socket usually is, and whether one that gave no answer gives one again."""
        if found.kind is not Kind.ALIVE:
            self._unanswered.add(name)
            return
        if name not in self._waiting:  # else it tells how long it was dark, not how slow it usually is
            self._latencies[name].append(found.latency)
        if name in self._unanswered or not self._unanswered:
            self._note_answer()
        self._unanswered.discard(name)

    def _note_answer(self) -> None:
        if self.answered is None:
            self.answered = self._clock.now()

    def _drop_waiting(self) -> None:
        for attempt in self._waiting.values():
            attempt.task.cancel()
        self._waiting.clear()


async def _settle(
    attempts: list[Attempt],
    reading: asyncio.Task[Reading] | None = None,
    enough: Callable[[], bool] = lambda: False,
    *,
    until: float = float("inf"),
) -> None:
    """Wait until each has ended or its own time is up; no longer than `until`, nor when a reading has found enough."""
    loop = asyncio.get_running_loop()
    while pending := [attempt for attempt in attempts if not attempt.task.done() and attempt.until > loop.time()]:
        soonest = min(until, *(attempt.until for attempt in pending))
        if soonest <= loop.time() or (reading is not None and reading.done() and enough()):
            break
        tasks: set[asyncio.Future[Any]] = {attempt.task for attempt in pending}
        if reading is not None and not reading.done():
            tasks.add(reading)
        await asyncio.wait(tasks, timeout=soonest - loop.time(), return_when=_WHEN[reading is None])


_WHEN = {True: asyncio.ALL_COMPLETED, False: asyncio.FIRST_COMPLETED}


def _waits_at(queue: Queue, attempt: Attempt) -> bool:
    """Whether the probe is connected to this listener, as far as addresses tell."""
    sock = attempt.deadline.sock
    try:
        peer = sock.getpeername() if sock is not None and not attempt.task.done() else None
    except OSError:
        return False
    if isinstance(peer, tuple):
        return queue.address.rpartition(":")[2] == str(peer[1])
    return peer is not None and queue.address == (os.fsdecode(peer) if isinstance(peer, bytes) else peer)


def _main(unit: UnitState) -> Epoch | None:
    try:
        if not unit.main_pid or target.ended(unit.main_pid):
            return None
        return Epoch(unit.main_pid, target.start_time(unit.main_pid), unit.invocation_id)
    except target.Gone:
        return None
