"""The nudge of a service: each thread of its processes that sleeps in an epoll wait is stopped and let go, in turn.

Rules: only threads inside epoll_wait, epoll_pwait or epoll_pwait2, whose callers know EINTR (other calls may break on
it: kernel-facts.md, section 2); one thread at a time, so that the service never stands still as a whole; each process
pinned from the reading to the stop, by its open /proc/PID and its start time. Call it in a child of its own (`worker`):
what could not be let go is let go by the end of that child.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

from watchdog.evidence.calls import Call, Unreadable, epoll_wait
from watchdog.evidence.pinned import open_directory, pinned, read
from watchdog.evidence.rights import NotPermitted, YamaForbids
from watchdog.helper import threads
from watchdog.helper.ptrace import Awake, Tracer
from watchdog.model import Epoch, Outcome, Performed, Rung
from watchdog.target import Gone, NeverATarget, Refusal

DEADLINE = 0.8  # seconds for all threads, so that there is time left to tell within the child's deadline of 1 s
THREAD_BOUND = 0.2  # seconds for one of them; 4 times overloaded, a host needed 0.011
TOLD = 100  # threads, and refusals, that are told one by one


@dataclass(frozen=True, slots=True)
class Nudged:
    """A thread that was nudged: its wait, and for how long at most it stood still."""

    pid: int
    tid: int
    name: str
    wait: Call
    stopped_ns: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A thread, or with `tid` 0 a process, that was not nudged, and why."""

    pid: int
    tid: int
    refusal: Refusal


@dataclass(slots=True)
class Nudge:
    """What one nudge came to. `others`: threads that do something else than wait in epoll; they were left alone."""

    nudged: list[Nudged] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    processes: int = 0
    others: int = 0
    unfinished: bool = False  # the deadline came first

    @property
    def longest_ns(self) -> int:
        """The longest stop of any thread; 0 where none was stopped."""
        return max((thread.stopped_ns for thread in self.nudged), default=0)

    def outcome(self) -> Outcome:
        """In the words of the ladder: a nudge that reached no thread has not begun."""
        if self.nudged:
            return Outcome.DONE
        if self.skipped and all(isinstance(skipped.refusal, Gone) for skipped in self.skipped) and not self.others:
            return Outcome.GONE
        return Outcome.TIMED_OUT if self.unfinished else Outcome.REFUSED

    def reason(self) -> str:
        """One line for people."""
        if self.nudged:
            told = f"{_count(len(self.nudged), 'thread')} nudged, longest stop {self.longest_ns / 1e6:.2f} ms"
            if self.skipped:
                told += f"; {len(self.skipped)} not: {self.skipped[0].refusal}"
            return told + ("; the deadline left some out" if self.unfinished else "")
        if self.skipped:
            first = self.skipped[0]
            return f"{'thread' if first.tid else 'process'} {first.tid or first.pid}: {first.refusal}"
        if self.unfinished:
            return f"no thread was reached within {DEADLINE:.1f} s"
        return f"none of {_count(self.others, 'thread')} waits in epoll_wait: there is nothing to nudge"

    def detail(self) -> dict[str, Any]:
        """Plain values for the peer and the store: no pointers, no command lines."""
        return {
            "nudged": len(self.nudged),
            "longest_stop_seconds": self.longest_ns / 1e9,
            "processes": self.processes,
            "others": self.others,
            "unfinished": self.unfinished,
            "threads": [
                {
                    "pid": thread.pid,
                    "tid": thread.tid,
                    "name": thread.name,
                    "call": thread.wait.name,
                    "epoll_fd": thread.wait.epfd,
                    "finite": thread.wait.finite,
                    "stopped_seconds": thread.stopped_ns / 1e9,
                }
                for thread in self.nudged[:TOLD]
            ],
            "skipped": [
                {
                    "pid": skipped.pid,
                    "tid": skipped.tid,
                    "refusal": type(skipped.refusal).__name__,
                    "reason": str(skipped.refusal),
                    "hint": skipped.refusal.hint,
                }
                for skipped in self.skipped[:TOLD]
            ],
        }

    def performed(self) -> Performed:
        """The outcome as the ladder's event."""
        return Performed(Rung.NUDGE, self.outcome(), self.reason(), self.detail())


def nudge(epochs: tuple[Epoch, ...], never: frozenset[int] = frozenset(), deadline: float = DEADLINE) -> Nudge:
    """Nudge every thread of these processes that sleeps in an epoll wait, for at most `deadline` seconds.

    A refusal is part of the result, not raised. `never` are processes left alone whatever is asked; PID 1, this process
    and its parent are always among them.
    """
    result = Nudge()
    until = time.monotonic() + deadline
    never |= {1, os.getpid(), os.getppid()}
    with Tracer() as tracer:
        for epoch in epochs:
            result.processes += 1
            try:
                if epoch.pid in never:
                    raise NeverATarget("it is never touched")
                with pinned(epoch) as process:
                    _nudge_process(tracer, epoch.pid, process, until, result)
            except Refusal as refusal:
                result.skipped.append(Skipped(epoch.pid, 0, refusal))
    return result


def _nudge_process(tracer: Tracer, pid: int, process: int, until: float, result: Nudge) -> None:
    threads.check_nudgeable(process)
    listing = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)
    try:
        with os.scandir(listing) as entries:
            tids = sorted(int(entry.name) for entry in entries)
        for tid in tids:
            left = until - time.monotonic()
            if left <= 0:
                result.unfinished = True
                return
            try:
                nudged = _nudge_thread(tracer, pid, tid, listing, min(THREAD_BOUND, left))
            except (NotPermitted, YamaForbids, Unreadable) as refusal:
                result.skipped.append(Skipped(pid, 0, refusal))  # so it is with every thread of the process
                return
            except Refusal as refusal:
                result.skipped.append(Skipped(pid, tid, refusal))
            else:
                if nudged is None:
                    result.others += 1
                else:
                    result.nudged.append(nudged)
            tracer.look_after()
    finally:
        os.close(listing)


def _nudge_thread(tracer: Tracer, pid: int, tid: int, listing: int, bound: float) -> Nudged | None:
    """None: the thread does not sleep in an epoll wait. Raises a `Refusal`."""
    try:
        task = open_directory(str(tid), listing)
    except FileNotFoundError:
        return None  # it ended since the threads were listed
    try:
        wait = epoll_wait(task)
        if wait is None or not threads.sleeps(task):
            return None
        name = read(task, "comm").decode(errors="replace").strip()
        stopped_ns = tracer.nudge(tid, lambda: epoll_wait(task) is not None, bound)
        return Nudged(pid, tid, name, wait, stopped_ns)
    except (Awake, FileNotFoundError):
        return None
    except PermissionError:
        raise threads.explain(task) from None
    finally:
        os.close(task)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
