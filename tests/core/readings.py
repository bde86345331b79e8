"""Readings for the tests of the proof and of the symptoms: one that proves a lost wake-up, and ways to break it.

One process, 100, whose loop (thread 100) sleeps on epoll 5. That watches a TCP and a Unix listener; epoll 9 watches
nothing. Samples begin at 0, 50, 100 and 120 ms; the queues are read 10 ms after the first three.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from watchdog.baseline import learn
from watchdog.proof import prove
from watchdog.reading import (
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLIN,
    EPOLLONESHOT,
    Baseline,
    Epoll,
    Family,
    Process,
    Proof,
    Queue,
    Queues,
    Reading,
    Sample,
    Thread,
    Watch,
)

PID = 100
E, NOTHING = 5, 9  # epolls
WEB, PIPE = 7001, 7002  # listeners, by inode
ADDRESSES = {WEB: "127.0.0.1:80", PIPE: "/run/web.sock"}
LEVEL, EDGE, ONESHOT, EXCLUSIVE = EPOLLIN, EPOLLIN | EPOLLET, EPOLLIN | EPOLLONESHOT, EPOLLIN | EPOLLEXCLUSIVE

FLAT = (2, 2, 2)  # connections stand, and none comes
EMPTY = (0, 0, 0)
BEGAN = (0.0, 0.05, 0.1, 0.12)
READ = (0.01, 0.06, 0.108)
TOOK = 0.005

Trace = tuple[Thread, ...]
Epolls = tuple[Epoll, ...]


def asleep(tid: int = 100, *, pid: int = PID, epfd: int | None = E, **fields: Any) -> Trace:
    """A thread that sleeps in epoll_wait all the time."""
    told: dict[str, Any] = {
        "state": "S",
        "call": "epoll_wait",
        "finite": False,
        "wchan": "ep_poll",
        "switches": 50,
    } | fields
    thread = Thread(pid=pid, tid=tid, started=tid * 10, name=f"t{tid}", epfd=epfd, cpu=1.0, delayed=0.0, **told)
    return (thread,) * len(BEGAN)


def elsewhere(tid: int, **fields: Any) -> Trace:
    """A thread that sleeps in something else."""
    return asleep(tid, **({"epfd": None, "call": "futex", "wchan": "futex_wait_queue"} | fields))


def running(tid: int, **fields: Any) -> Trace:
    """A thread that computes all the time."""
    trace = elsewhere(tid, **({"state": "R", "call": "", "wchan": ""} | fields))
    return tuple(replace(thread, cpu=1.0 + at) for thread, at in zip(trace, BEGAN, strict=True))


def but(trace: Trace, *samples: int, **fields: Any) -> Trace:
    """With these fields instead, in these samples (in all, where none is named)."""
    chosen = samples or range(len(trace))
    return tuple(replace(thread, **fields) if at in chosen else thread for at, thread in enumerate(trace))


def epoll(fd: int = E, events: int = LEVEL, *, pid: int = PID, inode: int = WEB, **fields: Any) -> Epoll:
    """An epoll that watches a listener, and a pipe to itself."""
    return Epoll(pid, fd, (Watch(6, events, inode), Watch(7, LEVEL, 9000 + fd)), **fields)


def nothing(fd: int = NOTHING, *, pid: int = PID, **fields: Any) -> Epoll:
    """One that watches nothing."""
    return Epoll(pid, fd, (), **fields)


WATCHING = (epoll(),)


def reading(
    *traces: Trace,
    epolls: Epolls | Sequence[Epolls] = WATCHING,
    lengths: Sequence[int | None] = (1, 2, 3),
    pipe: Sequence[int | None] = (0, 0, 0),
    limit: int | None = 128,
    at: float = 1000.0,
    processes: Iterable[Process] = (Process(PID, 1000),),
) -> Reading:
    """By default the proof of the form *arrival*. `epolls` may be told by sample; a length of None was not read."""
    told = [epolls] * len(BEGAN) if not epolls or isinstance(epolls[0], Epoll) else list(epolls)
    samples = tuple(
        Sample(
            began=at + BEGAN[number],
            ended=at + BEGAN[number] + TOOK,
            processes=tuple(processes),
            threads=tuple(trace[number] for trace in traces or (asleep(),) if number < len(trace)),
            epolls=told[number],  # type: ignore[arg-type]
            sockets=(WEB, PIPE),
        )
        for number in range(len(BEGAN))
    )
    queues = tuple(
        Queues(at + READ[number], (*_queue(WEB, lengths[number], limit), *_queue(PIPE, pipe[number], limit)))
        for number in range(len(READ))
    )
    return Reading(samples=samples, queues=queues)


def _queue(inode: int, length: int | None, limit: int | None) -> tuple[Queue, ...]:
    family = Family.UNIX if inode == PIPE else Family.TCP
    return () if length is None else (Queue(inode, family, ADDRESSES[inode], length, limit),)


def without_thread(found: Reading, tid: int, *samples: int) -> Reading:
    """A reading in some samples of which a thread is missing."""
    return sampled(
        found, *samples, threads=lambda sample: tuple(thread for thread in sample.threads if thread.tid != tid)
    )


def sampled(found: Reading, *samples: int, **fields: Any) -> Reading:
    """With these fields of these samples instead; a function gets the sample."""
    changed = list(found.samples)
    for at in samples:
        told = {name: value(changed[at]) if callable(value) else value for name, value in fields.items()}
        changed[at] = replace(changed[at], **told)
    return replace(found, samples=tuple(changed))


def read_at(found: Reading, moment: int, at: float) -> Reading:
    """With one moment of the queues read at another time."""
    queues = list(found.queues)
    queues[moment] = replace(queues[moment], at=at)
    return replace(found, queues=tuple(queues))


def touched(found: Reading, *readable: bool | None, at: float = 1000.2) -> Reading:
    """The same, with copies of its epolls polled: what each of four polls said of all that watch something."""
    samples = []
    for sample, moment, says in zip(found.samples, BEGAN, readable or (True,) * len(BEGAN), strict=True):
        epolls = [replace(each, readable=says and bool(each.watches)) for each in sample.epolls]
        samples.append(replace(sample, began=at + moment, ended=at + moment + TOOK, epolls=tuple(epolls)))
    return replace(found, touched=tuple(samples))


def healthy(*traces: Trace, epolls: Epolls = WATCHING) -> Baseline:
    """The baseline of these threads and epolls."""
    return learn(None, reading(*traces, epolls=epolls, lengths=(0, 0, 0)).samples)


def proven(found: Reading, baseline: Baseline | None = None, *earlier: Reading) -> Proof:
    """The one proof of the reading."""
    (proof,) = prove(found, baseline, earlier).proofs
    return proof


def refuted(found: Reading, baseline: Baseline | None = None, *earlier: Reading) -> str:
    """Why nothing is proven."""
    said = prove(found, baseline, earlier)
    assert said.proofs == ()
    return "; ".join(said.against)
