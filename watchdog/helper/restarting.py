"""The restarts that are under way, as the disk has them: so that one whose helper was killed is brought to its end.

A restart's job is systemd's and goes on without us, but nobody else kills a stop that hangs. So who is asked for the
same restart again takes up the job that is recorded here, with the deadline that it had, instead of taking it for
somebody else's. It is the same one only by the job's path, which no other job of the boot ever has (org.freedesktop.
systemd1(5), "Job Objects"). Between systemd's answer and the record lie a few ms in which a kill leaves it unknown.

    restarting/redis-server.service  {"boot_id": "…", "wall": "…", "job": "/org/freedesktop/systemd1/job/4711",
                                      "invocation_id": "…", "deadline_s": 180.0, "deadline": 9123.4}
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
import time
from typing import NamedTuple

from watchdog.helper import ledger, records

KIND = "restarting"  # of the records beside the ledger
MAX_NAME = 255  # bytes, UNIT_NAME_MAX
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(service|socket|target|device|mount|automount|swap|timer|path|slice|scope)")
_JOB = re.compile(r"/org/freedesktop/systemd1/job/[0-9]+")


class Pending(NamedTuple):
    """A restart that we have asked systemd for.

    `invocation_id` is the life that it ends. It has `deadline_s` seconds, until `deadline` (CLOCK_BOOTTIME, s).
    """

    job: str
    invocation_id: str
    deadline_s: float
    deadline: float

    @property
    def left(self) -> float:
        """Seconds until its deadline; 0 past it."""
        return max(0.0, self.deadline - boottime())


def begun(job: str, invocation_id: str, deadline_s: float) -> Pending:
    """One that begins now."""
    return Pending(job, invocation_id, deadline_s, boottime() + deadline_s)


def boottime() -> float:
    """The clock of deadlines: it goes on through a suspend, and is every process'."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def record(directory: str, unit: str, pending: Pending) -> None:
    """Have it on the disk. Where that fails it is told on stderr, and the restart goes on: it has begun."""
    if not directory or not _is_unit(unit):
        return
    try:
        records.put(directory, unit, **pending._asdict())
    except OSError as error:
        print(
            f"epoll-watchdog helper: the restart of {unit} can't be recorded: {error.strerror}",
            file=sys.stderr,
            flush=True,
        )


def recorded(directory: str, unit: str) -> Pending | None:
    """The restart of this unit that we began in this boot, and whose end nobody has seen."""
    if not directory or not _is_unit(unit):
        return None
    told = records.content(directory, unit)
    if told.get("boot_id") != ledger.now().boot_id:
        return None
    job, life, deadline_s, deadline = (told.get(name) for name in Pending._fields)
    if not isinstance(job, str) or _JOB.fullmatch(job) is None or not isinstance(life, str):
        return None
    if not _is_seconds(deadline_s) or not _is_seconds(deadline):
        return None
    return Pending(job, life, float(deadline_s), float(deadline))  # type: ignore[arg-type]


def forget(directory: str, unit: str) -> None:
    """Its job has ended. A record that stays does no harm: no other job has its path."""
    if directory and _is_unit(unit):
        with contextlib.suppress(OSError):
            records.forget(directory, unit)


def _is_unit(name: str) -> bool:
    return len(name) <= MAX_NAME and _UNIT.fullmatch(name) is not None


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
