"""What would come of a restart of a unit, asked of systemd before anybody restarts it. Changes nothing.

The start limit is a counter inside systemd that it tells to nobody (NRestarts counts something else). What can be
known: the limit (StartLimitBurst=, StartLimitIntervalUSec=), the last start, and from systemd's own journal entries the
starts before it. They are counted as systemd counts. Where the journal cannot be read, only the last start counts, and
a restart may fail on the limit. Where `systemctl reset-failed` has set the counter back, we count too many.

Sources: org.freedesktop.systemd1(5); systemd.unit(5), StartLimitIntervalSec=; systemd's src/core/unit-dependency-atom.c
(what a restart takes along: RequiredBy, RequisiteOf, BoundBy, ConsistsOf; not PropagatesStopTo), src/basic/ratelimit.c,
src/systemd/sd-messages.h.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from watchdog.model import RestartOutlook
from watchdog.systemd import UNIT, Bus, BusUnavailable, CallError, Listed, Units

TAKES_ALONG = ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf")
ENDED = ("inactive", "failed", "deactivating")
UNIT_STARTED = "39f53479d3a045ac8e11786248231fbf"  # SD_MESSAGE_UNIT_STARTED
UNIT_FAILED = "be02cf6855d2428ba40df7e9d022f03d"  # SD_MESSAGE_UNIT_FAILED: a start job that failed
FRESH = 5.0  # s that an outlook is trusted
PATIENCE = 2.0  # s that the journal is waited for

Starts = Callable[[str, float], list[float]]


class StartLimit(NamedTuple):
    """How many starts count towards the unit's start limit, and the limit; a `burst` of 0 is none."""

    used: int
    burst: int
    interval: float

    @property
    def reached(self) -> bool:
        """Whether systemd would stop the unit, and then not start it."""
        return 0 < self.burst <= self.used


class Outlooks:
    """What would come of restarts, asked at most every `FRESH` seconds a unit."""

    def __init__(
        self, units: Units, *, starts: Starts | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._units = units
        self._starts = starts or journal_starts
        self._clock = clock
        self._known: dict[tuple[str, tuple[str, ...]], tuple[float, RestartOutlook]] = {}
        self._reading: asyncio.Task[list[float]] | None = None  # of the journal

    async def of(self, unit: str, also_restarts: Sequence[str]) -> RestartOutlook | None:
        """The outlook for a unit, of which `also_restarts` may be taken along; None where systemd does not tell."""
        now, key = self._clock(), (unit, tuple(also_restarts))
        self._known = {each: known for each, known in self._known.items() if now - known[0] < FRESH}
        if key not in self._known:
            try:
                bus = await self._units.connected()
                listed = await bus.unit(unit)
                if listed is None or not listed.found:
                    return None
                self._known[key] = now, await self._foresee(bus, listed, also_restarts)
            except (BusUnavailable, CallError):
                return None
        return self._known[key][1]

    async def _foresee(self, bus: Bus, unit: Listed, also_restarts: Sequence[str]) -> RestartOutlook:
        along = await taken_along(bus, unit)
        limit = await start_limit(bus, unit, self._read_starts)
        return RestartOutlook(
            job=unit.job,
            takes_along=await not_named(bus, along, also_restarts),
            starts=limit.used,
            burst=limit.burst,
            interval=limit.interval,
        )

    async def _read_starts(self, unit: str, interval: float) -> list[float]:
        """From the journal, in a thread: on a disk that hangs, one of them may hang, and nothing else."""
        if self._reading is not None and not self._reading.done():
            return []
        self._reading = asyncio.create_task(asyncio.to_thread(self._starts, unit, interval))
        done, _ = await asyncio.wait({self._reading}, timeout=PATIENCE)
        return self._reading.result() if done else []


# --- what is taken along ----------------------------------------------------------------------------------------------


async def taken_along(bus: Bus, unit: Listed) -> set[str]:
    """The active units that a restart of this one restarts too, over any number of steps."""
    seen, found, edge = {unit.id}, set[str](), [unit]
    while edge:
        reads = [bus.get(row.path, UNIT, name) for row in edge for name in TAKES_ALONG]
        names = {name for answer in await asyncio.gather(*reads) for name in answer} - seen
        seen |= names
        edge = [row for row in await bus.units(names) if row.active_state not in ENDED]
        found |= {row.id for row in edge}
    return found


async def not_named(bus: Bus, along: set[str], also_restarts: Sequence[str]) -> tuple[str, ...]:
    """Those of `along` that `also_restarts` does not allow, by an alias either."""
    named = set(also_restarts) | {row.id for row in await bus.units(also_restarts)}
    return tuple(sorted(along - named))


# --- the start limit --------------------------------------------------------------------------------------------------

_LIMIT = ("StartLimitBurst", "StartLimitIntervalUSec", "InactiveExitTimestampMonotonic")


async def start_limit(bus: Bus, unit: Listed, starts: Callable[[str, float], Awaitable[list[float]]]) -> StartLimit:
    """How the unit stands to its start limit; `starts` is asked where the last start alone can't tell."""
    burst, interval_us, last_us = await asyncio.gather(*(bus.get(unit.path, UNIT, name) for name in _LIMIT))
    now, interval, last = time.monotonic(), interval_us / 1e6, last_us / 1e6
    if burst == 0 or interval_us == 0:
        return StartLimit(0, 0, 0.0)
    if now - last > interval:
        return StartLimit(0, burst, interval)
    if burst == 1:
        return StartLimit(1, burst, interval)
    before = await starts(unit.id, interval)
    return StartLimit(max(1, counted_starts(before, interval, now)), burst, interval)


def counted_starts(starts: Iterable[float], interval: float, now: float) -> int:
    """What systemd's counter stands at: its window begins with a start, and only one after its end begins another."""
    begin, count = float("-inf"), 0
    for at in sorted(starts):
        begin, count = (at, 1) if at - begin > interval else (begin, count + 1)
    return count if now - begin <= interval else 0


def journal_starts(unit: str, interval: float) -> list[float]:
    """When the unit was started, newest first, in seconds of CLOCK_MONOTONIC, as systemd wrote it to the journal.

    It goes back until a gap longer than `interval`: there the counter began anew. Empty where no journal can be read.
    """
    from systemd.journal import Reader

    found: list[float] = []
    with contextlib.suppress(OSError), Reader() as reader:
        reader.this_boot()
        reader.add_match(_PID="1", UNIT=unit)  # _PID is journald's own word: nobody else can write such an entry
        reader.add_match(MESSAGE_ID=UNIT_STARTED)
        reader.add_match(MESSAGE_ID=UNIT_FAILED)
        reader.seek_tail()
        while len(found) < 1000 and (entry := reader.get_previous()):
            at = entry["__MONOTONIC_TIMESTAMP"].timestamp.total_seconds()
            if found and found[-1] - at > interval:
                break
            if entry.get("JOB_RESULT") != "dependency":  # such a start was never tried
                found.append(at)
    return found
