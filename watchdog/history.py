"""What was seen of each service in the last hours: a bounded memory for the status page. Nothing decides by it. Pure.

Rules of this file. A span of time is cut into buckets; of a probe each keeps the worst kind of outcome and the longest
wait for one, of a service the longest accept queue and whether one was full. Two spans are kept: `HOURS`, a bucket a
minute, and `MINUTES`, a bucket every five seconds. What a round found holds until the next one, or until now, unless
that is longer than twice the interval: then nobody knows. Times are those of one clock that never goes back.

It is small, for it lives in the daemon: a bucket has 3 bytes of a probe and 3 of a service. 1,000 services with three
probes each take 9.5 MB [M].
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from watchdog.model import Kind, Observation
from watchdog.reading import Queues

# From best to worst; a bucket keeps the place in it, and 0 where nothing was seen.
WORSE: tuple[Kind, ...] = (
    Kind.ALIVE,
    Kind.ERROR,
    Kind.LATE,
    Kind.WRONG,
    Kind.UNREACHABLE,
    Kind.REFUSED,
    Kind.SILENT,
)
RANKS: Mapping[Kind, int] = {kind: place for place, kind in enumerate(WORSE, start=1)}

SHORTEST = 1e-6  # s; what is shorter is kept as that
LONGEST = 1e3
STEPS = 65534  # of a latency's logarithm in 16 bits, 0 being none: 0.03 % each
LONGEST_QUEUE = 65534
RUNS = re.compile(rb"(.)\1*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time in buckets of `width` seconds."""

    width: int
    count: int

    @property
    def seconds(self) -> int:
        """All of it."""
        return self.width * self.count


HOURS = Span(60, 360)
MINUTES = Span(5, 60)
SPANS = (HOURS, MINUTES)


@dataclass(frozen=True, slots=True)
class Track:
    """A probe over a span, oldest bucket first, up to now: codes of the worst kinds and of the longest waits."""

    ranks: bytes
    codes: Sequence[int]
    ends_in: float  # s from now until the newest bucket is over

    def runs(self) -> Iterator[tuple[Kind | None, int, int]]:
        """Buckets in a row that are alike: their kind (None: nobody looked), the first one's place, how many."""
        for run in RUNS.finditer(self.ranks):
            rank = self.ranks[run.start()]
            yield WORSE[rank - 1] if rank else None, run.start(), run.end() - run.start()

    def kinds(self) -> list[Kind | None]:
        """The worst kind of each bucket; None: nobody looked."""
        return [WORSE[rank - 1] if rank else None for rank in self.ranks]

    def latencies(self) -> list[float | None]:
        """The longest wait of each bucket, in seconds."""
        return [decoded(code) if code else None for code in self.codes]


@dataclass(frozen=True, slots=True)
class Backlog:
    """A service's accept queues over a span, oldest bucket first, up to now."""

    longest: Sequence[int] = ()  # and 1; 0: nobody read one
    full: bytes = b""  # 1 where one of them was, which its own limit says and not how long it is


@dataclass(frozen=True, slots=True)
class Past:
    """A service's last hours by span."""

    probes: Mapping[str, Mapping[Span, Track]] = field(default_factory=dict)
    backlog: Mapping[Span, Backlog] = field(default_factory=dict)
    queues: Queues | None = None  # as they were last read


class Ring:
    """The buckets of a span, in arrays that are never longer. `put` keeps the greater of what falls into one."""

    __slots__ = ("_last", "_put", "_rows", "_until", "span")

    def __init__(self, span: Span, codes: str) -> None:
        self.span = span
        self._rows = tuple(array(code, bytes(array(code).itemsize * span.count)) for code in codes)
        self._last: int | None = None  # the number of the newest bucket
        self._put: tuple[int, ...] = (0,) * len(codes)  # what was last put in,
        self._until = 0.0  # and how long it holds

    def put(self, now: float, values: tuple[int, ...], until: float) -> None:
        """Take what was seen now; it holds until then."""
        number = int(now // self.span.width)
        if self._last is None or number > self._last:
            self._advance(number, now)
        place = number % self.span.count
        for row, value in zip(self._rows, values, strict=True):
            if value > row[place]:
                row[place] = value
        self._put, self._until = values, until

    def _advance(self, number: int, now: float) -> None:
        last = self._last
        self._last = number
        if last is None:
            return
        for row, held in zip(self._rows, self._held(now), strict=True):
            for skipped in range(max(last + 1, number - self.span.count + 1), number):
                row[skipped % self.span.count] = held
            row[number % self.span.count] = 0

    def _held(self, now: float) -> tuple[int, ...]:
        """What the buckets have into which nothing was put since."""
        return self._put if now <= self._until else (0,) * len(self._rows)

    def read(self, now: float) -> tuple[array[int], ...]:
        """Each row's buckets up to now, oldest first."""
        count, newest = self.span.count, int(now // self.span.width)
        last = newest if self._last is None else min(self._last, newest)
        passed = min(newest - last, count)  # buckets that nothing was put into, at the end
        oldest = (newest + 1) % count
        read = []
        for row, held in zip(self._rows, self._held(now), strict=True):
            unrolled = row[oldest:] + row[:oldest]
            for place in range(count - passed, count):
                unrolled[place] = held
            read.append(unrolled)
        return tuple(read)


def _rings(codes: str) -> tuple[Ring, ...]:
    return tuple(Ring(span, codes) for span in SPANS)


@dataclass(slots=True)
class _Service:
    probes: dict[str, tuple[Ring, ...]] = field(default_factory=dict)
    backlog: tuple[Ring, ...] = field(default_factory=lambda: _rings("HB"))
    queues: Queues | None = None


class History:
    """The memory of all services."""

    def __init__(self) -> None:
        self._services: dict[str, _Service] = {}

    def looked(self, service: str, now: float, found: Mapping[str, Observation], interval: float) -> None:
        """A round was taken; `interval` seconds are to pass until the next one begins."""
        kept = self._services.setdefault(service, _Service())
        until = now + 2 * interval
        for probe, seen in found.items():
            rings = kept.probes.get(probe)
            if rings is None:
                rings = kept.probes[probe] = _rings("BH")
            values = RANKS[seen.kind], coded(seen.latency)
            for ring in rings:
                ring.put(now, values, until)

    def queued(self, service: str, now: float, queues: Queues) -> None:
        """The accept queues were read. A service without listeners has no such history."""
        kept = self._services.setdefault(service, _Service())
        kept.queues = queues
        if queues.queues:
            longest = min(LONGEST_QUEUE, max(queue.length for queue in queues.queues))
            values = longest + 1, int(any(queue.full for queue in queues.queues))
            for ring in kept.backlog:
                ring.put(now, values, now)

    def keep_only(self, services: Mapping[str, Iterable[str]]) -> None:
        """Forget services, and probes of services, that are guarded no more."""
        self._services = {name: kept for name, kept in self._services.items() if name in services}
        for name, kept in self._services.items():
            probes = set(services[name])
            kept.probes = {probe: rings for probe, rings in kept.probes.items() if probe in probes}

    def of(self, service: str, now: float, spans: Collection[Span] = SPANS) -> Past:
        """What is remembered of it, over these spans."""
        kept = self._services.get(service)
        if kept is None:
            return Past()
        return Past(
            probes={
                probe: {ring.span: _track(ring, now) for ring in rings if ring.span in spans}
                for probe, rings in kept.probes.items()
            },
            backlog={ring.span: _backlog(ring, now) for ring in kept.backlog if ring.span in spans},
            queues=kept.queues,
        )


def _track(ring: Ring, now: float) -> Track:
    ranks, codes = ring.read(now)
    return Track(ranks.tobytes(), codes, ring.span.width - now % ring.span.width)


def _backlog(ring: Ring, now: float) -> Backlog:
    longest, full = ring.read(now)
    return Backlog(longest, full.tobytes())


def coded(latency: float) -> int:
    """Seconds in 16 bits, by their logarithm: 1 for `SHORTEST` or less, and never more than `LONGEST`."""
    share = math.log(min(max(latency, SHORTEST), LONGEST) / SHORTEST) / math.log(LONGEST / SHORTEST)
    return 1 + round(share * STEPS)


def decoded(code: int) -> float:
    """The seconds of it."""
    return SHORTEST * math.pow(LONGEST / SHORTEST, (code - 1) / STEPS)
