"""The two times the daemon knows: CLOCK_BOOTTIME for every decision, the wall clock for people.

CLOCK_BOOTTIME counts on while the host sleeps and never jumps (clock_gettime(2)); the boot id tells whether a stored
time is of this boot (random(4), /proc/sys/kernel/random/boot_id).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

FAR = 3600.0  # s; the longest wait for a wall-clock time: what is further ahead, a clock that jumped back has put there


def rfc3339(wall: float) -> str:
    """A time of the wall clock as JSON has it: in UTC, with milliseconds."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@functools.cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the time comes from; tests hand in their own."""

    now: Callable[[], float] = _boottime  # s, CLOCK_BOOTTIME
    wall: Callable[[], float] = time.time  # s since 1970, CLOCK_REALTIME
    boot_id: Callable[[], str] = _boot_id

    def wall_of(self, moment: float) -> float:
        """The wall-clock time of a CLOCK_BOOTTIME moment of this boot."""
        return self.wall() - (self.now() - moment)
