"""What the probes and the kernel said in an incident, for whom is known: what was dark, which thread slept where.

Rules of this file: only what the tables show is decoded of what is kept, and all of it is done in a thread, look by
look and sample by sample: it may be megabytes, and a decoding lets no other thread run until it ends. A look that rests
on no reading of the kernel has none. What comes first is what a verdict rests on; what is long is cut, with a word on
what was left out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from watchdog.settings import format_duration
from watchdog.web.view import Unavailable
from watchdog.web.words import Tone, kind_symbol, kind_tone, offset, tone_of

MOST_LOOKS = 12
MOST_THREADS = 30
FOR_OTHERS = 0.001  # s before each step: the loop's thread, which waits for its turn, has it then
NOTHING = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class Found:
    """What a probe found in a look."""

    name: str
    tone: str
    symbol: str
    kind: str
    latency: str
    reason: str


@dataclass(frozen=True, slots=True)
class Slept:
    """A thread over a reading."""

    thread: str
    state: str
    where: str
    switches: str


@dataclass(frozen=True, slots=True)
class Looked:
    """A look at the service, as it was kept."""

    offset: str
    verdict: str
    probes: Sequence[Found]
    threads: Sequence[Slept]
    more_threads: int
    queues: Sequence[str]


# --- what is kept, as far as it is shown ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Observation:
    kind: str
    latency: float
    reason: str


@dataclass(frozen=True)
class _Round:
    observations: dict[str, _Observation]


class _Thread(msgspec.Struct, frozen=True, gc=False):  # of many thousands, the collector's turn would be a pause
    pid: int
    tid: int
    name: str
    state: str
    call: str
    epfd: int | None
    finite: bool
    wchan: str
    switches: int


@dataclass(frozen=True)
class _Sample:
    threads: list[_Thread]


@dataclass(frozen=True)
class _Queue:
    inode: int
    address: str
    length: int
    limit: int | None


@dataclass(frozen=True)
class _Queues:
    queues: list[_Queue]


@dataclass(frozen=True)
class _Reading:
    samples: list[msgspec.Raw] = field(default_factory=list)  # each a _Sample; only the first and the last are shown
    queues: list[_Queues] = field(default_factory=list)


@dataclass(frozen=True)
class _Case:
    round: _Round
    reading: _Reading | None = None


@dataclass(frozen=True)
class _Decided:
    verdict: str | None = None
    certainty: str | None = None


class _Entry(msgspec.Struct, frozen=True):  # a dataclass may have no field of type Raw
    at: datetime
    decided: _Decided | None = None
    case: msgspec.Raw = NOTHING  # a _Case


@dataclass(frozen=True)
class _File:
    entries: list[_Entry] = field(default_factory=list)


async def looks(raw: bytes, opened: float) -> tuple[list[Looked], int]:
    """The looks of an incident, oldest first, and how many more there are. `opened` is of the wall clock."""
    try:
        return await asyncio.to_thread(_looks, raw, opened)
    except msgspec.DecodeError as error:
        raise Unavailable(f"what is kept of it can't be understood: {error}") from error


def _looks(raw: bytes, opened: float) -> tuple[list[Looked], int]:
    kept = msgspec.json.decode(raw, type=_File)
    found = [entry for entry in kept.entries if entry.case != NOTHING]
    return [_look(entry, opened) for entry in found[:MOST_LOOKS]], max(0, len(found) - MOST_LOOKS)


def _look(entry: _Entry, opened: float) -> Looked:
    time.sleep(FOR_OTHERS)
    case = msgspec.json.decode(entry.case, type=_Case)
    reading = case.reading or _Reading()
    threads = list(_threads(reading))
    decided = entry.decided or _Decided()
    return Looked(
        offset=offset(entry.at.timestamp() - opened),
        verdict=_verdict(decided.verdict, decided.certainty) if decided.verdict else "",
        probes=[_found(name, seen) for name, seen in case.round.observations.items()],
        threads=threads[:MOST_THREADS],
        more_threads=max(0, len(threads) - MOST_THREADS),
        queues=list(_queues(reading)),
    )


def _verdict(verdict: str, certainty: str | None) -> str:
    return f"{verdict} ({certainty})" if tone_of(verdict) is Tone.BAD else verdict


def _found(name: str, seen: _Observation) -> Found:
    latency = format_duration(seen.latency)
    return Found(name, kind_tone(seen.kind), kind_symbol(seen.kind), seen.kind, latency, seen.reason)


def _threads(reading: _Reading) -> Iterator[Slept]:
    """First those that wait in epoll, then those that do anything but sleep."""
    if not reading.samples:
        return
    earliest, latest = _sample(reading.samples[0]), _sample(reading.samples[-1])
    before = {(thread.pid, thread.tid): thread for thread in earliest.threads}
    for thread in sorted(
        latest.threads, key=lambda each: (not each.call.startswith("epoll_"), each.state == "S", each.tid)
    ):
        first = before.get((thread.pid, thread.tid))
        switches = f"+{thread.switches - first.switches}" if first is not None else "new"
        yield Slept(f"{thread.tid} ({thread.name})", thread.state, _where(thread), switches)


def _sample(raw: msgspec.Raw) -> _Sample:
    time.sleep(FOR_OTHERS)
    return msgspec.json.decode(raw, type=_Sample)


def _where(thread: _Thread) -> str:
    if thread.call.startswith("epoll_"):
        epfd = "" if thread.epfd is None else f" on epoll {thread.epfd}"
        return f"{thread.call}{epfd}, {'with' if thread.finite else 'without'} a time-out"
    return thread.call or ("runs" if thread.state == "R" else thread.wchan or "not told")


def _queues(reading: _Reading) -> Iterator[str]:
    """How long each was, as often as it was read."""
    for queue in reading.queues[-1].queues if reading.queues else ():
        lengths = [each.length for moment in reading.queues for each in moment.queues if each.inode == queue.inode]
        limit = f" of {queue.limit}" if queue.limit is not None else ""
        yield f"{queue.address}: {', '.join(map(str, lengths))}{limit}"
