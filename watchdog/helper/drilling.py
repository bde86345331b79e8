"""The drills that are under way, as the disk has them: so that each is undone, whatever became of who began it.

    drilling/4711-123456             {"boot_id": "…", "wall": "…", "service": "nginx", "begun": true, "until": 8133.4,
                                      "processes": [[4711, 123456], [4712, 123460]]}

A record is there before the first thread is stalled (`begun` is false then, and `processes` are all of the service)
until the drill is over: all was stalled that would be, or its time has come, and for a while nobody was seen on a
detour (a thread that gets no CPU arrives there late). Whoever is there when the time has come is woken from here: by
the helper that began it, by the next one, or by the helper's ExecStopPost=. Only threads on a detour are touched, and a
hold does not stop that. A record that tells anything else than it should is removed.
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from watchdog.helper import ledger, records
from watchdog.model import Epoch
from watchdog.target import Gone, Refusal

KIND = "drilling"  # of the records beside the ledger
LOOK = 0.1  # s between two looks at the threads, of which nothing tells
EMPTY_FOR = 2.0  # s without anybody on a detour, after which a drill is over
RETRY, MOST_RETRY = 0.5, 10.0  # s between two tries to wake a thread, doubled from each to the next
TOLD_AFTER = 5.0  # s past the end of a drill, that somebody has to know of a thread that can't be woken
LONGEST = 60.0  # s that a drill may last
MAX_PROCESSES = 100  # of a service: as many as a record has room for
_NAME = re.compile(r"[1-9][0-9]{0,9}-[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Drill:
    """One that is under way: until when (CLOCK_BOOTTIME, s), and in which processes."""

    service: str
    begun: bool
    until: float
    processes: tuple[Epoch, ...]


def name_of(main: Epoch) -> str:
    """The record's name: there is one drill at a time of a service's main process."""
    return f"{main.pid}-{main.start_time}"


def record(directory: str, main: Epoch, drill: Drill) -> None:
    """Have it on the disk. Raises `OSError`."""
    pairs = [(epoch.pid, epoch.start_time) for epoch in drill.processes]
    told = {"service": drill.service, "begun": drill.begun, "until": drill.until, "processes": pairs}
    records.put(directory, name_of(main), **told)


def forget(directory: str, name: str) -> None:
    """It is over. A record that stays costs a look at the helper's next start."""
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
    now = ledger.now()
    service, begun, until, pairs = (told.get(key) for key in ("service", "begun", "until", "processes"))
    if told.get("boot_id") != now.boot_id or not isinstance(service, str) or type(begun) is not bool:
        return None
    if type(until) is not float or not math.isfinite(until) or not isinstance(pairs, list):
        return None
    if not all(_is_pair(pair) for pair in pairs):
        return None
    processes = tuple(Epoch(pid, start_time) for pid, start_time in pairs)
    return Drill(service, begun, min(until, now.boottime + LONGEST), processes)


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(number) is int and number > 0 for number in value)


@dataclass(slots=True)
class _Watched:
    """A drill as it is seen to. Times are of CLOCK_BOOTTIME."""

    until: float
    empty_since: float
    retry: float = RETRY
    not_before: float = 0.0
    failure: str = ""
    told: bool = field(default=False)


def see_to(directory: str, *, at_once: bool = False, give_up_after: float = math.inf) -> dict[str, str]:
    """See every drill to its end; by service, what could not be undone within `give_up_after` seconds.

    With `at_once` none of them is given any more time: whoever began it is gone. What could not be undone keeps its
    record, and is told on stderr.
    """
    began = ledger.now().boottime
    watched: dict[tuple[str, float], _Watched] = {}  # by name and end: a later drill may have the same name
    over: set[tuple[str, float]] = set()
    while drills := {each: drill for each, drill in _by_end(recorded(directory)).items() if each not in over}:
        now = ledger.now().boottime
        for each, drill in drills.items():
            seen = watched.setdefault(each, _Watched(began if at_once else drill.until, now))
            if _is_over(drill, seen, now):
                over.add(each)
                forget(directory, each[0])
        if now - began > give_up_after:
            return {drills[each].service: watched[each].failure for each in drills.keys() - over}
        time.sleep(LOOK)
    return {}


def _by_end(drills: Mapping[str, Drill]) -> dict[tuple[str, float], Drill]:
    return {(name, drill.until): drill for name, drill in drills.items()}


def _is_over(drill: Drill, seen: _Watched, now: float) -> bool:
    if there := on_detours(drill):
        seen.empty_since = now
        if now >= max(seen.until, seen.not_before):
            _wake(drill, there, seen, now)
        return False
    return (drill.begun or now >= seen.until) and now - seen.empty_since >= EMPTY_FOR


def on_detours(drill: Drill) -> dict[Epoch, tuple[int, ...]]:
    """The threads that sleep on a detour, by process: none in one that has ended, or whose vdso can't be read."""
    from watchdog.helper.stall import parked  # in a worker only, as below

    found = {}
    for epoch in drill.processes:
        with contextlib.suppress(Refusal):
            if tids := parked(epoch):
                found[epoch] = tids
    return found


def _wake(drill: Drill, there: Mapping[Epoch, tuple[int, ...]], seen: _Watched, now: float) -> None:
    from watchdog.helper.stall import release

    failures = []
    for epoch, tids in there.items():
        with contextlib.suppress(Gone):
            failures += release(epoch, tids)
    seen.failure = str(failures[0]) if failures else ""
    seen.not_before, seen.retry = now + seen.retry, min(2 * seen.retry, MOST_RETRY)
    if failures and not seen.told and now > seen.until + TOLD_AFTER:
        seen.told = True
        tell({drill.service: seen.failure})


def tell(failures: Mapping[str, str]) -> None:
    """On stderr, who is dark still: somebody has to know."""
    for service, why in failures.items():
        told = f"the drill of {service!r} is not undone yet: {why or 'no answer'}; `epoll-watchdog nudge` ends it"
        print(f"epoll-watchdog helper: {told}", file=sys.stderr, flush=True)
