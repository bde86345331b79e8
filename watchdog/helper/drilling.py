"""The drills that are under way, as the disk has them: so that each is undone, whatever became of who began it.

A drill is over when none of its processes has a thread on a detour any more: the daemon, or anybody else, has woken
them. Where that has not come in its time, they are nudged from here: by the helper that began it, by the next one, or
by the helper's ExecStopPost=. A record that tells anything else than it should is removed: nobody is nudged by it.

    drilling/4711-123456             {"boot_id": "…", "wall": "…", "service": "nginx", "until": 8133.4,
                                      "processes": [[4711, 123456], [4712, 123460]]}
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from watchdog.helper import ledger, records
from watchdog.model import Epoch
from watchdog.target import Gone, Refusal

KIND = "drilling"  # of the records beside the ledger
LOOK = 0.1  # s between two looks at the threads, of which nothing tells
TRIED_FOR = 20.0  # s past the end of a drill
MAX_PROCESSES = 100  # of a service: as many as a record has room for
_NAME = re.compile(r"[1-9][0-9]{0,9}-[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Drill:
    """One that is under way: until when (CLOCK_BOOTTIME, s), and in which processes."""

    service: str
    until: float
    processes: tuple[Epoch, ...]

    def parked(self) -> int:
        """How many threads sleep on a detour still. Raises a `Refusal` where that can't be seen."""
        from watchdog.helper.stall import parked  # in a worker only

        count = 0
        for epoch in self.processes:
            with contextlib.suppress(Gone):
                count += len(parked(epoch))
        return count


def record(directory: str, service: str, processes: tuple[Epoch, ...], seconds: float) -> str:
    """Have it on the disk that a drill is about to begin; its name. Raises `OSError`."""
    name = f"{processes[0].pid}-{processes[0].start_time}"
    pairs = [(epoch.pid, epoch.start_time) for epoch in processes]
    records.put(directory, name, service=service, until=ledger.now().boottime + seconds, processes=pairs)
    return name


def forget(directory: str, name: str) -> None:
    """It is over. A record that stays costs a look."""
    with contextlib.suppress(OSError):
        records.forget(directory, name)


def recorded(directory: str) -> dict[str, Drill]:
    """By name, the drills of this boot whose end nobody has seen."""
    found = {}
    for name in records.names(directory, lambda name: _NAME.fullmatch(name) is not None):
        drill = _understood(records.content(directory, name))
        if drill is None:
            forget(directory, name)
        else:
            found[name] = drill
    return found


def _understood(told: Mapping[str, Any]) -> Drill | None:
    service, until, pairs = told.get("service"), told.get("until"), told.get("processes")
    if told.get("boot_id") != ledger.now().boot_id or not isinstance(service, str) or type(until) is not float:
        return None
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        return None
    return Drill(service, until, tuple(Epoch(pid, start_time) for pid, start_time in pairs))


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(number) is int and number > 0 for number in value)


def see_to(directory: str, *, at_once: bool = False) -> dict[str, str]:
    """Wait for the end of every drill, and undo those that come to no other end; by service, what could not be undone.

    With `at_once` none of them is given any more time. What could not be undone keeps its record.
    """
    failures: dict[str, str] = {}
    given_up: set[str] = set()
    began = ledger.now().boottime
    while drills := {name: drill for name, drill in recorded(directory).items() if name not in given_up}:
        for name, drill in drills.items():
            until = min(drill.until, began) if at_once else drill.until
            why = _left_over(drill, until)
            if why is None:
                forget(directory, name)
            elif ledger.now().boottime > max(until, began) + TRIED_FOR:
                failures[drill.service] = why
                given_up.add(name)
        time.sleep(LOOK)
    return failures


def _left_over(drill: Drill, until: float) -> str | None:
    """Whether the drill goes on: None, it is over; else why. Past its end its threads are nudged."""
    from watchdog.helper.nudge import nudge  # in a worker only

    try:
        if not drill.parked():
            return None
        if ledger.now().boottime < until:
            return "its time is not over"
        done = nudge(drill.processes)
        return done.reason() if drill.parked() else None
    except Refusal as refusal:
        return str(refusal)


def tell(failures: Mapping[str, str]) -> None:
    """On stderr, who is dark still: somebody has to know."""
    for service, why in failures.items():
        told = f"the drill of {service!r} could not be undone: {why}; `epoll-watchdog nudge` ends it"
        print(f"epoll-watchdog helper: {told}", file=sys.stderr, flush=True)
