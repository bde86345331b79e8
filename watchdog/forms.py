"""The forms of the proof: what shows that an epoll should have woken who waits on it. Pure.

*Arrival*: a listener that it watches, armed, got connections in each window. *Standing*: connections stood for a
second before an entry of it that is level-triggered and neither EXCLUSIVE nor ONESHOT; such an entry tells of them as
long as they stand. *Copy*: a copy of it is readable in all samples.

Of established sockets none confirms anything: with SO_RCVLOWAT, which nobody sees from outside, bytes arrive without a
wake-up.

Why a sound kernel does not look so: each connection calls ep_poll_callback() of every epoll that watches the listener
(of one that has a waiter, where the entry is EXCLUSIVE), and that takes one waiter from its sleep at once, before it
has a CPU to run on; an epoll that has events left when a waiter of it was served, or when somebody polled it, wakes the
next one (ep_done_scan()).

Sources: design.md, "The proof of a lost wake-up"; fs/eventpoll.c; epoll_ctl(2); inet_csk_listen_poll().
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from watchdog.baseline import Key
from watchdog.reading import Epoll, Form, Queue, Queues, Watch
from watchdog.stretch import WINDOWS, No, Stretch, Trace

STOOD = 1.0  # s

Waiting = Mapping[Key, Trace]


@dataclass(frozen=True, slots=True)
class Asked:
    """An epoll in every sample, those of its entries that may prove something, and who sleeps before it."""

    epolls: tuple[Epoll, ...]
    watches: Sequence[Watch]
    waiting: Waiting

    @property
    def armed(self) -> list[Watch]:
        """The entries that are the same in every sample, and would tell of input. Before 4.13 no inode is told: 0."""
        always = set(self.epolls[0].watches).intersection(*(epoll.watches for epoll in self.epolls[1:]))
        return [watch for watch in self.watches if watch in always and watch.armed and watch.inode]


@dataclass(frozen=True, slots=True)
class Shown:
    """What was seen, and the addresses of the listeners that it rests on."""

    form: Form
    text: str
    listeners: tuple[str, ...] = ()


def arrival(stretch: Stretch, asked: Asked) -> Shown:
    """A listener that it watches, armed, got connections in each window."""
    grown = [queues for watch in asked.armed if _grew(queues := stretch.over_time(watch.inode))]
    if not grown:
        raise No("no listener that it watches got a connection in each window")
    lengths = ", ".join(str(queue.length) for queue in grown[0])
    address = grown[0][-1].address
    text = f"the accept queue of {address} grew ({lengths}) while {names(asked.waiting)} slept on without waking"
    return Shown(Form.ARRIVAL, text, tuple(queues[-1].address for queues in grown))


def _grew(queues: tuple[Queue, ...]) -> bool:
    windows = list(itertools.pairwise(queues))
    return len(windows) >= WINDOWS and all(after.length > before.length for before, after in windows)


def standing(stretch: Stretch, asked: Asked) -> Shown:
    """Connections stood before a level-triggered entry for a second, and nobody woke."""
    filled = [
        queues[-1]
        for watch in asked.armed
        if watch.level and (queues := stretch.over_time(watch.inode)) and queues[-1].length
    ]
    moments = [*stretch.asleep_before(asked.waiting), *stretch.queues] if filled else []
    for queue in filled:
        stood = moments[-1].at - _filled_since(moments, queue.inode)
        if stood >= STOOD:
            where, who = f"the accept queue of {queue.address}", names(asked.waiting)
            text = f"connections stood in {where} for {stood:.1f} s while {who} slept on"
            return Shown(Form.STANDING, text, (queue.address,))
    raise No("no connection stood before a level-triggered entry for a second")


def _filled_since(moments: Sequence[Queues], inode: int) -> float:
    """Since when some stood in the queue at every moment; infinity: not even at the last."""
    since = math.inf
    for moment in moments:
        queue = moment.of(inode)
        since = min(since, moment.at) if queue is not None and queue.length else math.inf
    return since


def copy(stretch: Stretch, asked: Asked) -> Shown:
    """A copy of it is readable in all samples: its waiters should have been woken."""
    if len(asked.epolls) < len(stretch.samples) or any(epoll.readable is None for epoll in asked.epolls):
        raise No("no copy of it could be polled")
    if not all(epoll.readable for epoll in asked.epolls):
        raise No("nothing in it is ready")
    text = f"epoll {asked.epolls[0].fd} has events ready, and {names(asked.waiting)} sleeps before it without waking"
    return Shown(Form.COPY, text)


Shows = Callable[[Stretch, Asked], Shown]
PASSIVE: tuple[Shows, ...] = (arrival, standing)
TOUCHING: tuple[Shows, ...] = (copy,)


def first(shows: tuple[Shows, ...], stretch: Stretch, asked: Asked) -> Shown:
    """The first form that shows it. Raises `No` with the reasons of all."""
    reasons = []
    for show in shows:
        try:
            return show(stretch, asked)
        except No as no:
            reasons.append(str(no))
    raise No(", and ".join(reasons))


def names(waiting: Waiting) -> str:
    """Who sleeps, in words."""
    traces = sorted(waiting.values(), key=lambda trace: trace[0].tid)
    one = f"thread {traces[0][0].tid} ({traces[0][0].name})"
    return f"{one} and {len(traces) - 1} more" if len(traces) > 1 else one
