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
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice

from watchdog.evidence.calls import BY_WCHAN, Unreadable, epoll_wait
from watchdog.evidence.pinned import open_directory, pinned, status
from watchdog.evidence.rights import NotPermitted, YamaForbids
from watchdog.helper import threads
from watchdog.helper.detour import OtherMachine, Vdso, divert, on_detour, vdso_of
from watchdog.helper.lookout import Lookout, lookout, make_way
from watchdog.helper.ptrace import Awake, Tracer
from watchdog.helper.reach import DEADLINE, THREAD_BOUND, Reach, Reached, Skipped, each, listed
from watchdog.model import Epoch
from watchdog.target import Gone, Refusal

MOST_AT_WORK = 64  # threads of a process that are lain in wait for
SLICE = 0.05  # seconds, until it is looked anew who is at work
QUIET = 1.0  # seconds without another one caught, after which those left are no servers
PARKED_WITHIN = 0.1  # seconds, from letting a thread go until it sleeps on the detour


class Filtered(Refusal):
    """A seccomp filter may kill the process for a call that it does not make by itself."""

    hint = "allow it only where the filter lets epoll_create1, epoll waits and close pass"


class Stalled(Refusal):
    """The thread is in the drill's stall already."""

    hint = "a nudge ends it"


class AtWork(Refusal):
    """The thread did not sleep in an epoll wait while it was waited for."""

    hint = "it goes on: where it serves clients, they are not dark; try again under less load"


class NotParked(Refusal):
    """The thread was sent to wait elsewhere, and was not seen to sleep there."""

    hint = "a signal woke it, it has no descriptor left, or it gets no CPU and arrives there later"


@dataclass(slots=True)
class Stall(Reach):
    """What one stall came to. In the detail, `epoll_fd` is the one that each thread left."""

    deed = "stall"
    done = "stalled"

    sent: set[int] = field(default_factory=set)  # processes of which a thread was sent, whether it has arrived or not


def stall(
    epochs: tuple[Epoch, ...],
    never: frozenset[int] = frozenset(),
    deadline: float = DEADLINE,
    *,
    patience: float = 0.0,
    filter_allows: bool = False,
) -> Stall:
    """Stall every thread of these processes that sleeps in an epoll wait, for at most `deadline` seconds.

    Threads at work are lain in wait for first, `patience` seconds at most in each process: they sleep between two
    events, and so all are dark at about the same time. A refusal is part of the result, not raised. `never` as in
    `each`. `filter_allows`: somebody knows that a seccomp filter of theirs lets epoll_create1 and close pass. Call it
    in a worker, and only one at a time for a process.
    """
    now = time.monotonic()
    how = _How(now + deadline, now + min(patience, deadline), filter_allows)
    reached: list[Reached] = []
    with Tracer() as tracer:
        while True:
            reached += _caught(tracer, epochs, never, replace(how, left_alone=_tids(reached)))
            result = _one_pass(tracer, epochs, never, replace(how, left_alone=_tids(reached)))
            reached += result.reached
            result.reached = reached
            result.sent = how.sent
            if not _missed(result) or time.monotonic() >= how.look_until:
                return result


@dataclass(frozen=True, slots=True)
class _How:
    """What is the same for all threads. `left_alone` were stalled before, and may be healed by now."""

    until: float  # time.monotonic, as the next
    look_until: float  # for a thread at work
    filter_allows: bool
    only_at_work: bool = False
    left_alone: frozenset[int] = frozenset()
    sent: set[int] = field(default_factory=set)


def _caught(tracer: Tracer, epochs: tuple[Epoch, ...], never: frozenset[int], how: _How) -> list[Reached]:
    """Threads at work, stalled as they slept; for as long as others of them come to it."""
    reached: list[Reached] = []
    until = time.monotonic() + QUIET
    while time.monotonic() < min(until, how.look_until):
        found = _one_pass(
            tracer, epochs, never, replace(how, only_at_work=True, left_alone=how.left_alone | _tids(reached))
        )
        if found.reached:
            until = time.monotonic() + QUIET
        elif not _missed(found):
            break  # nobody is at work
        reached += found.reached
    return reached


def _one_pass(tracer: Tracer, epochs: tuple[Epoch, ...], never: frozenset[int], how: _How) -> Stall:
    result = Stall()
    each(result, epochs, never, lambda pid, process: _stall_process(_Round(tracer, pid, process, how), result))
    return result


def _missed(found: Stall) -> bool:
    return any(isinstance(skipped.refusal, AtWork) for skipped in found.skipped)


def _tids(reached: list[Reached]) -> frozenset[int]:
    return frozenset(thread.tid for thread in reached)


@dataclass(frozen=True, slots=True)
class _Round:
    """What is the same for all threads of a process."""

    tracer: Tracer
    pid: int
    process: int
    how: _How


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


def release(epoch: Epoch, tids: tuple[int, ...]) -> list[Refusal]:
    """Wake these threads of the process, if they are on a detour still; why others could not be. Raises `Gone`."""
    failures: list[Refusal] = []
    with Tracer() as tracer, pinned(epoch) as process, vdso_of(process) as vdso, listed(process) as (listing, _):
        for tid in tids:
            try:
                _release(tracer, tid, listing, vdso)
            except (Awake, Gone, FileNotFoundError):
                pass
            except Refusal as refusal:
                failures.append(refusal)
    return failures


def _release(tracer: Tracer, tid: int, listing: int, vdso: Vdso) -> None:
    task = open_directory(str(tid), listing)
    try:
        tracer.nudge(tid, lambda: on_detour(task, vdso), THREAD_BOUND)
    except PermissionError:
        raise threads.explain(task) from None
    finally:
        os.close(task)


def _stall_process(round_: _Round, result: Stall) -> None:
    with listed(round_.process) as (listing, tids), vdso_of(round_.process) as vdso:
        if round_.how.only_at_work:
            _stall_at_work(round_, listing, tids, vdso, result)
            return
        for tid in (tid for tid in tids if tid not in round_.how.left_alone):
            if time.monotonic() >= round_.how.until:
                result.unfinished = True
                return
            _try_thread(round_, tid, listing, vdso, result)
            round_.tracer.look_after()


# --- threads at work --------------------------------------------------------------------------------------------------


def _stall_at_work(round_: _Round, listing: int, tids: list[int], vdso: Vdso, result: Stall) -> None:
    """Stall each of them in the moment in which it sleeps; why another could not be, the second pass finds."""
    until = min(round_.how.until, round_.how.look_until, time.monotonic() + SLICE)
    with ExitStack() as opened:
        others = (tid for tid in tids if tid not in round_.how.left_alone)
        found = ((tid, _at_work(round_, tid, listing, opened)) for tid in others)
        busy = dict(islice(((tid, thread) for tid, thread in found if thread is not None), MOST_AT_WORK))
        make_way(busy.values())
        while busy and time.monotonic() < until:
            round_.tracer.look_after()  # one that is seized stops for any signal of its own
            for tid, thread in list(busy.items()):
                try:
                    if not thread.waits_in_epoll():
                        continue
                    result.reached.append(_send(round_, tid, thread, vdso))
                except (Missed, Awake):
                    continue
                except (Refusal, OSError):
                    pass
                del busy[tid]
        result.skipped += [Skipped(round_.pid, tid, AtWork("it is at work")) for tid in busy]


def _at_work(round_: _Round, tid: int, listing: int, opened: ExitStack) -> Lookout | None:
    """The thread, if it is at work and may be stalled."""
    try:
        task = open_directory(str(tid), listing)
        try:
            with ExitStack() as its:
                thread = its.enter_context(lookout(task))
                may = status(task).get("Seccomp") != ["2"] or round_.how.filter_allows
                if not may or thread.waits_in_epoll() or not thread.at_work:
                    return None
                opened.enter_context(its.pop_all())
                return thread
        finally:
            os.close(task)
    except (Refusal, OSError):
        return None


# --- threads that sleep -----------------------------------------------------------------------------------------------


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
        if epoll_wait(task) is BY_WCHAN:
            raise Unreadable("the kernel does not tell which epoll a thread waits on")
        with lookout(task) as thread:
            threads.sleeps(task)  # for the refusals that fit other states
            if not thread.waits_in_epoll():
                if thread.at_work:
                    raise AtWork("it was at work all the time")
                return None
            if status(task).get("Seccomp") == ["2"] and not round_.how.filter_allows:
                raise Filtered("it is under a seccomp filter, which may kill it for a call that it never makes")
            return _send(round_, tid, thread, vdso)
    except (Awake, Missed):
        raise AtWork("it was at work all the time") from None
    except FileNotFoundError:
        return None
    except PermissionError:
        raise threads.explain(task) from None
    finally:
        os.close(task)


class Missed(Exception):
    """The thread had left its epoll wait when it stopped; it was let go."""


def _send(round_: _Round, tid: int, thread: Lookout, vdso: Vdso) -> Reached:
    """Stop the thread in its epoll wait and send it on its detour. Raises a `Refusal`, `Awake`, `Missed`."""
    sent = False

    def send() -> None:
        nonlocal sent
        sent = divert(tid, vdso)

    def still_waits() -> bool:
        waits = thread.waits_in_epoll()
        if waits and vdso.holds(thread.returns_to):
            raise Stalled("it is in a stall of ours already")
        return waits

    bound = max(0.0, min(THREAD_BOUND, round_.how.until - time.monotonic()))
    stopped_ns = round_.tracer.nudge(tid, still_waits, bound, send)
    if not sent:
        raise Missed
    round_.how.sent.add(round_.pid)
    _await_parked(thread, vdso)
    return Reached(round_.pid, tid, thread.name, thread.call, stopped_ns)


def _await_parked(thread: Lookout, vdso: Vdso) -> None:
    """Wait until the thread sleeps on its detour, of which nothing tells. Raises `NotParked`, `Gone`."""
    left, until = thread.call, time.monotonic() + PARKED_WITHIN
    while not (thread.waits_in_epoll() and vdso.holds(thread.returns_to)):
        if time.monotonic() > until:
            raise NotParked("it does not sleep where it was sent")
        time.sleep(0.0005)
    thread.call = left  # the wait that it was in, not the detour's
