"""The baseline: which thread waits on which epoll while the service is healthy. Pure.

Rules of this file: it only grows within an epoch, so that a thread which serves seldom is not forgotten; what it knows
of a thread ends with the thread, and of an epoll with the epoll. A number names another epoll once the first was closed
and the number was used again: two readings speak of one epoll where an entry of it is the same in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from watchdog.reading import Baseline, Epoll, Sample, Waiter

Key = tuple[int, int]  # a thread by `tid` and `started`; an epoll by `pid` and `fd`


def learn(baseline: Baseline | None, samples: Sequence[Sample]) -> Baseline:
    """The baseline with what these samples of a healthy service add to it."""
    last = samples[-1]
    present = {thread.key for thread in last.threads}
    before = baseline.epolls if baseline is not None else ()
    epolls = next((sample.epolls for sample in reversed(samples) if sample.epolls), before)
    ended = _ended(before, epolls)
    known = (waiter for waiter in (baseline.waiters if baseline is not None else ()) if waiter.epoll not in ended)
    return Baseline(
        at=last.ended,
        samples=len(samples) + (baseline.samples if baseline is not None else 0),
        waiters=frozenset(waiter for waiter in (*known, *waits(samples)) if waiter.thread in present),
        threads=frozenset(present),
        epolls=epolls,
    )


def _ended(before: Sequence[Epoll], now: Sequence[Epoll]) -> set[Key]:
    """The epolls that are not there any more, or whose number is another one's by now."""
    there = {epoll.key: entries(epoll) for epoll in now}
    return {
        epoll.key
        for epoll in before
        if epoll.key not in there or (epoll.watches and not entries(epoll) & there[epoll.key])
    }


def waits(samples: Iterable[Sample]) -> Iterator[Waiter]:
    """Who waits on which epoll in these samples."""
    for sample in samples:
        for thread in sample.threads:
            if thread.epfd is not None:
                yield Waiter(thread.pid, thread.tid, thread.started, thread.epfd)


def entries(epoll: Epoll) -> set[tuple[int, int]]:
    """What it watches, by descriptor and inode; for what it watches each may change."""
    return {(watch.fd, watch.inode) for watch in epoll.watches}
