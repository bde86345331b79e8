"""The cpu probe: whether the service's main process used CPU time lately. clock_getcpuclockid(3), clock_gettime(2).

Rules of this file. It reads the process' own CPU clock: nanoseconds of all its threads, those that have ended included;
/proc/PID/stat tells the same in steps of 10 ms. Anybody may read it, one system call, 0.5 µs. Only the main process
counts: it is that very process which the witness tells of, and processes that it starts may work while it hangs.

How much was used `within` a time takes two readings. A process younger than that had used nothing at its start, so its
start is a reading. Of an older one, as long as the readings do not reach back far enough: enough CPU is *alive*, for it
was used in less time; too little is *late*, neither alive nor dark yet. The very first look takes a second reading
within its own deadline. Readings are kept from round to round, for each life of a process.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from watchdog import target as processes
from watchdog.clock import Clock
from watchdog.model import Epoch, Kind, Observation, Plane, Road, Strength
from watchdog.probes.attempt import Finding, observe
from watchdog.probes.deadline import Deadline
from watchdog.settings import Seconds, check_above_zero, format_duration

CPUCLOCK_SCHED = 2  # include/linux/posix-timers_types.h: all threads of a process, by the scheduler's own count
KEPT = 20  # readings within the time: the first of them is at most a twentieth older than asked for
PAUSE = 0.05  # s between readings while there is no older one


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`at_least` is CPU time, used `within` a time of the clock."""

    at_least: Seconds = 0.001
    within: Seconds = 10.0

    def __post_init__(self) -> None:
        check_above_zero("within", self.within, "10s")
        check_above_zero("at_least", self.at_least, "1ms")
        if self.at_least >= self.within:
            least, within = format_duration(self.at_least), format_duration(self.within)
            raise ValueError(f'at_least: {least} of CPU in {within} is a whole CPU; give less, such as "1ms"')


def road(_settings: Settings) -> Road:
    """A witness of that very process."""
    return Road(Plane.WITNESS, strength=Strength.PROCESS)


def warnings(_settings: Settings) -> tuple[str, ...]:
    """Nothing."""
    return ()


@dataclass(slots=True)
class Readings:
    """What one process had used at which times (CLOCK_BOOTTIME), oldest first, as far back as is asked for."""

    settings: Settings
    kept: deque[tuple[float, float]] = field(default_factory=deque)

    def judge(self, now: float, used: float) -> Finding:
        """Take one more reading, and say what all of them show."""
        self._keep(now, used)
        began, before = self.kept[0]
        span, within, least = now - began, self.settings.within, self.settings.at_least
        told = f"used {format_duration(used - before)} of CPU in {format_duration(span)}"
        if used - before >= least:
            return Kind.ALIVE, f"{told}, read"
        expected = f"expected {format_duration(least)} in {format_duration(within)}"
        if span < within:
            return Kind.LATE, f"{told} so far, {expected}"
        return Kind.SILENT, f"{told}, {expected}"

    def _keep(self, now: float, used: float) -> None:
        if not self.kept or now - self.kept[-1][0] >= self.settings.within / KEPT:
            self.kept.append((now, used))
        while len(self.kept) > 1 and self.kept[1][0] <= now - self.settings.within:
            self.kept.popleft()


_readings: dict[tuple[Settings, Epoch], Readings] = {}  # of processes that live, and of few that have just ended


def close() -> None:
    """Forget all readings."""
    _readings.clear()


async def probe(settings: Settings, target: Epoch | None, deadline: Deadline) -> Observation:
    """Look once."""
    return await observe(_attempt(settings, target, deadline), deadline)


async def _attempt(settings: Settings, target: Epoch | None, deadline: Deadline) -> Finding:
    if target is None:
        return Kind.ERROR, "the service has no process"
    deadline.ours = "its CPU clock was not read"
    known = _readings.get((settings, target))
    readings = known or _begin(settings, target)
    while True:
        try:
            finding = readings.judge(Clock().now(), used(target))
        except processes.Gone as gone:
            return Kind.ERROR, str(gone)
        late = finding[0] is Kind.LATE
        if known is not None or not late or asyncio.get_running_loop().time() + 2 * PAUSE > deadline.at:
            return finding
        await asyncio.sleep(PAUSE)


def _begin(settings: Settings, target: Epoch) -> Readings:
    _forget_ended(_readings)
    readings = _readings[settings, target] = Readings(settings)
    now = Clock().now()
    age = processes.age(target, now)
    if age <= settings.within:
        readings.kept.append((now - age, 0.0))
    return readings


def _forget_ended(keys: Iterable[tuple[Settings, Epoch]]) -> None:
    for key in list(keys):
        try:
            processes.check_alive(key[1])
        except processes.Gone:
            del _readings[key]


def used(epoch: Epoch) -> float:
    """Seconds of CPU that the process has used in its life. Raises `Gone`."""
    try:
        seconds = time.clock_gettime(~epoch.pid << 3 | CPUCLOCK_SCHED)
    except OSError:  # EINVAL: there is no such process
        raise processes.Gone(f"there is no process {epoch.pid}") from None
    processes.check_alive(epoch)  # what was read was read of this very life
    return seconds
