"""The drill's stall: threads that sleep in an epoll wait sleep on a fresh, empty epoll instead, until they get EINTR.

To the outside each is then a thread that has lost its wake-up: it sleeps in an epoll wait without a time-out, while its
own epoll has ready events. Any EINTR (a nudge, a signal, a freeze) ends it: the application sees EINTR from its wait,
nothing else, and waits on its own epoll again. How, and why we may be killed at any moment: `detour`.

Rules: as of the nudge; only threads that sleep in an epoll wait, one at a time, stopped as shortly as by a nudge. One
that is in a stall already is not touched: a stop would end it. Under a seccomp filter nobody is stalled unless somebody
knows it: a filter that a program has set itself may kill it for an epoll_create1. x86-64 only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from watchdog.evidence.calls import Unreadable, epoll_wait
from watchdog.evidence.pinned import open_directory, pinned, read, status
from watchdog.evidence.rights import NotPermitted, YamaForbids
from watchdog.helper import threads
from watchdog.helper.detour import OtherMachine, Vdso, divert, on_detour, vdso_of
from watchdog.helper.ptrace import Awake, Tracer
from watchdog.helper.reach import DEADLINE, THREAD_BOUND, Reach, Reached, Skipped, each, listed
from watchdog.model import Epoch
from watchdog.target import Refusal

LOOK = 0.002  # seconds between two looks for a thread that sleeps
QUIET = 0.1  # seconds without another thread found, after which there is none
PARKED_WITHIN = 0.1  # seconds, from letting a thread go until it sleeps on the detour


class Filtered(Refusal):
    """A seccomp filter may kill the process for a call that it does not make by itself."""

    hint = "allow it only where the filter lets epoll_create1, epoll waits and close pass"


class Stalled(Refusal):
    """The thread is in the drill's stall already."""

    hint = "a nudge ends it"


class NotParked(Refusal):
    """The thread was sent to wait elsewhere and does not sleep there."""

    hint = "a signal woke it, or it has no descriptor left"


@dataclass(slots=True)
class Stall(Reach):
    """What one stall came to. In the detail, `epoll_fd` is the one that each thread left."""

    deed = "stall"
    done = "stalled"


def stall(
    epochs: tuple[Epoch, ...],
    never: frozenset[int] = frozenset(),
    deadline: float = DEADLINE,
    *,
    patience: float = 0.0,
    filter_allows: bool = False,
) -> Stall:
    """Stall every thread of these processes that sleeps in an epoll wait, for at most `deadline` seconds.

    A thread at work is waited for, `patience` seconds at most: it sleeps between two events. A refusal is part of the
    result, not raised. `never` as in `each`. `filter_allows`: somebody knows that a seccomp filter of theirs lets
    epoll_create1 and close pass. Call it in a worker, and only one at a time for a process.
    """
    now = time.monotonic()
    until, look_until = now + deadline, now + min(patience, deadline)
    result = _look(epochs, never, until, filter_allows, ())
    found = time.monotonic()
    while result.others and time.monotonic() < look_until:
        if result.reached and time.monotonic() > found + QUIET:
            break
        time.sleep(LOOK)
        again = _look(epochs, never, until, filter_allows, result.reached)
        found = time.monotonic() if again.reached else found
        again.reached = result.reached + again.reached
        result = again
    return result


def _look(
    epochs: tuple[Epoch, ...], never: frozenset[int], until: float, filter_allows: bool, before: Sequence[Reached]
) -> Stall:
    """Stall whoever sleeps now. Those reached before are left alone: one of them may have been healed meanwhile."""
    result = Stall()
    left_alone = frozenset(thread.tid for thread in before)

    def act(tracer: Tracer, pid: int, process: int) -> None:
        _stall_process(_Round(tracer, pid, process, until, filter_allows, left_alone), result)

    each(result, epochs, never, act)
    return result


@dataclass(frozen=True, slots=True)
class _Round:
    """What is the same for all threads of a process."""

    tracer: Tracer
    pid: int
    process: int
    until: float
    filter_allows: bool
    left_alone: frozenset[int]


def parked(epoch: Epoch) -> tuple[int, ...]:
    """The threads of this process that sleep on a detour. Raises a `Refusal`."""
    found = []
    with pinned(epoch) as process, vdso_of(process) as vdso, listed(process) as (listing, tids):
        for tid in tids:
            try:
                task = open_directory(str(tid), listing)
            except FileNotFoundError:
                continue  # it ended since the threads were listed
            try:
                if on_detour(task, vdso):
                    found.append(tid)
            except FileNotFoundError:
                pass
            finally:
                os.close(task)
    return tuple(found)


def _stall_process(round_: _Round, result: Stall) -> None:
    with listed(round_.process) as (listing, tids), vdso_of(round_.process) as vdso:
        for tid in (tid for tid in tids if tid not in round_.left_alone):
            if time.monotonic() >= round_.until:
                result.unfinished = True
                return
            _try_thread(round_, tid, listing, vdso, result)
            round_.tracer.look_after()


def _try_thread(round_: _Round, tid: int, listing: int, vdso: Vdso, result: Stall) -> None:
    try:
        stalled = _stall_thread(round_, tid, listing, vdso)
    except (NotPermitted, YamaForbids, Unreadable, Filtered, OtherMachine):
        raise  # so it is with every thread of the process
    except Refusal as refusal:
        result.skipped.append(Skipped(round_.pid, tid, refusal))
    else:
        if stalled is None:
            result.others += 1
        else:
            result.reached.append(stalled)


def _stall_thread(round_: _Round, tid: int, listing: int, vdso: Vdso) -> Reached | None:
    """None: the thread does not sleep in an epoll wait. Raises a `Refusal`."""
    try:
        task = open_directory(str(tid), listing)
    except FileNotFoundError:
        return None  # it ended since the threads were listed
    try:
        wait = epoll_wait(task)
        if wait is None or not threads.sleeps(task):
            return None
        if wait.epfd is None:
            raise Unreadable("the kernel does not tell which epoll a thread waits on")
        if on_detour(task, vdso):
            raise Stalled("it is in a stall of ours already")
        if status(task).get("Seccomp") == ["2"] and not round_.filter_allows:
            raise Filtered("it is under a seccomp filter, which may kill it for a call that it never makes")
        name = read(task, "comm").decode(errors="replace").strip()
        stopped_ns = _send(round_, tid, task, vdso)
        _await_parked(task, vdso)
        return Reached(round_.pid, tid, name, wait, stopped_ns)
    except (Awake, FileNotFoundError):
        return None
    except PermissionError:
        raise threads.explain(task) from None
    finally:
        os.close(task)


def _send(round_: _Round, tid: int, task: int, vdso: Vdso) -> int:
    """Stop the thread and send it on its detour; for how long it stood still, in ns. Raises a `Refusal`."""
    sent = False

    def send() -> None:
        nonlocal sent
        sent = divert(tid, vdso)

    def still_waits() -> bool:
        return epoll_wait(task) is not None and not on_detour(task, vdso)

    bound = max(0.0, min(THREAD_BOUND, round_.until - time.monotonic()))
    stopped_ns = round_.tracer.nudge(tid, still_waits, bound, send)
    if not sent:
        raise Awake(f"thread {tid} has left its epoll wait")
    return stopped_ns


def _await_parked(task: int, vdso: Vdso) -> None:
    """Wait until the thread sleeps on its detour, of which nothing tells. Raises `NotParked`."""
    until = time.monotonic() + PARKED_WITHIN
    while not (epoll_wait(task) and on_detour(task, vdso)):
        if time.monotonic() > until:
            raise NotParked("it does not sleep where it was sent")
        time.sleep(0.0005)
