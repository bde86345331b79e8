"""A stretch of time as the proof looks at it: samples with the queues in between, and what is known from before. Pure.

Rules of this file: a thread is the same thread by its TID and start time, an epoll the same one by its process and
descriptor. Where something is not told in every sample that should tell it, a condition does not hold (`No`).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from watchdog.baseline import Key, waits
from watchdog.reading import Baseline, Epoll, Queue, Queues, Reading, Sample, Thread, Waiter

SPAN = 0.1  # s from the first to the last but one sample
GRACE = 0.01  # s from the last arrival to the last sample
WINDOWS = 2
ENDED = ("Z", "X", "I")

Trace = tuple[Thread, ...]  # one thread, in every sample
Threads = Mapping[Key, Thread]  # of a sample
Waits = Mapping[Key, set[Key]]  # by epoll: the threads that were seen waiting on it


class No(Exception):
    """A condition that does not hold; the text says which."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Samples with the queues in between (none, where copies of epolls were polled), and what is known from before."""

    samples: tuple[Sample, ...]
    queues: tuple[Queues, ...]
    baseline: Baseline | None
    earlier: tuple[Reading, ...]
    threads: tuple[Threads, ...] = field(init=False)
    awake: tuple[tuple[int, Thread], ...] = field(init=False)  # who did not sleep, and in which sample
    epolls: tuple[Mapping[Key, Epoll], ...] = field(init=False)
    before: tuple[tuple[Reading, tuple[Threads, ...]], ...] = field(init=False)  # earlier readings, newest first
    known: Waits = field(init=False)  # to the baseline
    seen: Waits = field(init=False)  # in this and in earlier readings, sick as the service may have been

    def __post_init__(self) -> None:
        def told(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        earlier = [(reading, (*reading.samples, *reading.touched)) for reading in reversed(self.earlier)]
        awake = ((number, thread) for number, sample in enumerate(self.samples) for thread in sample.threads)
        told("threads", tuple(map(_by_key, self.samples)))
        told("awake", tuple((number, thread) for number, thread in awake if thread.state not in ("S", *ENDED)))
        told("epolls", tuple({epoll.key: epoll for epoll in sample.epolls} for sample in self.samples))
        told("before", tuple((reading, tuple(map(_by_key, samples))) for reading, samples in earlier))
        told("known", _by_epoll(self.baseline.waiters if self.baseline is not None else ()))
        told("seen", _by_epoll(waits(itertools.chain(self.samples, *(samples for _, samples in earlier)))))

    def check(self) -> None:
        """It is long enough, in the right order, and has every thread."""
        samples = self.samples
        if len(samples) < WINDOWS + 2 or samples[-2].began - samples[0].began < SPAN:
            raise No("the reading was too short")
        last = self.queues[-1].at if self.queues else samples[-2].ended
        if samples[-1].began - last < GRACE:
            raise No("the reading left no grace before its last sample")
        if not self._ordered():
            raise No("the samples and the queues were not read in turn")
        if not all(sample.whole for sample in samples):
            raise No("not every thread could be read")

    def _ordered(self) -> bool:
        pairs = list(itertools.pairwise(self.samples))
        if any(before.ended > after.began for before, after in pairs):
            return False
        if not self.queues:
            return True
        return len(self.queues) == len(pairs) and all(
            before.ended <= moment.at <= after.began for (before, after), moment in zip(pairs, self.queues, strict=True)
        )

    # --- threads ------------------------------------------------------------------------------------------------------

    def waiters(self, key: Key) -> dict[Key, Trace]:
        """The threads that wait on the epoll in all samples alike. Raises `No`."""
        ever = self.seen.get(key, set())
        per_sample = [
            {thread for thread in ever & found.keys() if found[thread].epoll == key} for found in self.threads
        ]
        if any(waiting != per_sample[0] for waiting in per_sample):
            raise No("its waiters changed in between: they are served")
        return {thread: self.trace(thread) for thread in per_sample[0]}

    def trace(self, thread: Key) -> Trace:
        """A thread in every sample. Raises `No` where it is not in all of them."""
        try:
            return tuple(found[thread] for found in self.threads)
        except KeyError:
            raise No(f"thread {thread[0]} was not there all the time") from None

    def serving(self, epolls: Iterable[Key]) -> set[Key]:
        """The threads that were ever seen waiting on any of these epolls."""
        return {thread for key in epolls for found in (self.known, self.seen) for thread in found.get(key, ())}

    @property
    def waits_somewhere(self) -> set[Key]:
        """The threads that the baseline saw waiting on any epoll: what they are woken for is there."""
        return {thread for threads in self.known.values() for thread in threads}

    def ran_on(self, thread: Key, number: int) -> bool:
        """Whether a thread that did not sleep in a sample had something else to do: it was on a CPU before the next.

        One that was woken and gets no CPU is not. A disk may let it wait (D), if that is not within an epoll wait.
        """
        now = self.threads[number][thread]
        if now.state == "D" and now.call and not now.waits_in_epoll:
            return True
        later = self.threads[number + 1].get(thread) if number + 1 < len(self.threads) else None
        return later is None or later.cpu > now.cpu

    # --- epolls and queues --------------------------------------------------------------------------------------------

    def epoll(self, key: Key) -> tuple[Epoll, ...]:
        """The epoll in every sample; the last one need not tell of any. Raises `No`."""
        told = self.epolls if self.epolls[-1] else self.epolls[:-1]
        if not all(key in epolls for epolls in told):
            raise No("what it watches could not be read in every sample")
        return tuple(epolls[key] for epolls in told)

    def over_time(self, inode: int) -> tuple[Queue, ...]:
        """The queue of a listener at every moment at which it was read; empty where it is none."""
        found = (moment.of(inode) for moment in self.queues)
        return tuple(queue for queue in found if queue is not None)

    def asleep_before(self, waiting: Mapping[Key, Trace]) -> list[Queues]:
        """The queues of earlier readings, as far back as the same threads sleep in the same sleep."""
        switches = {thread: trace[0].switches for thread, trace in waiting.items()}
        kept: list[Queues] = []
        for reading, samples in self.before:
            slept = samples and all(
                thread in threads and asleep_since(threads[thread], count)
                for threads in samples
                for thread, count in switches.items()
            )
            if not slept:
                break
            kept = [*reading.queues, *kept]
        return kept


def _by_key(sample: Sample) -> Threads:
    return {thread.key: thread for thread in sample.threads}


def _by_epoll(waiters: Iterable[Waiter]) -> Waits:
    found: defaultdict[Key, set[Key]] = defaultdict(set)
    for waiter in waiters:
        found[waiter.epoll].add(waiter.thread)
    return found


def asleep_since(thread: Thread, switches: int) -> bool:
    """Whether it sleeps, and has not run since it had been switched so often."""
    return thread.state == "S" and thread.switches == switches
