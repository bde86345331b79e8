"""Each thread of a service's processes that sleeps in an epoll wait, reached in turn; and what that came to.

Rules: only threads inside epoll_wait, epoll_pwait or epoll_pwait2, whose callers know EINTR (other calls may break on
it: kernel-facts.md, section 2); one thread at a time, so that the service never stands still as a whole; each process
pinned from the reading to the stop, by its open /proc/PID and its start time. What is done to a thread, `nudge` and
`stall` know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from watchdog.evidence.calls import Call
from watchdog.evidence.pinned import pinned
from watchdog.helper import threads
from watchdog.model import Epoch, Outcome
from watchdog.target import Gone, NeverATarget, Refusal

DEADLINE = 0.8  # seconds for all threads, so that there is time left to tell within the child's deadline of 1 s
THREAD_BOUND = 0.2  # seconds for one of them; 4 times overloaded, a host needed 0.011
TOLD = 100  # threads, and refusals, that are told one by one


@dataclass(frozen=True, slots=True)
class Reached:
    """A thread that was reached: the wait it was in, and for how long at most it stood still."""

    pid: int
    tid: int
    name: str
    wait: Call
    stopped_ns: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A thread, or with `tid` 0 a process, that was not reached, and why."""

    pid: int
    tid: int
    refusal: Refusal


@dataclass(slots=True)
class Reach:
    """What it came to. `others`: threads that do something else than wait in epoll; they were left alone."""

    deed: ClassVar[str]
    done: ClassVar[str]  # what a thread was then: also the name of their number in a detail

    reached: list[Reached] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    processes: int = 0
    others: int = 0
    unfinished: bool = False  # the deadline came first

    @property
    def longest_ns(self) -> int:
        """The longest stop of any thread; 0 where none was stopped."""
        return max((thread.stopped_ns for thread in self.reached), default=0)

    def outcome(self) -> Outcome:
        """In the words of the ladder: what reached no thread has not begun."""
        if self.reached:
            return Outcome.DONE
        if self.skipped and all(isinstance(skipped.refusal, Gone) for skipped in self.skipped) and not self.others:
            return Outcome.GONE
        return Outcome.TIMED_OUT if self.unfinished else Outcome.REFUSED

    def reason(self) -> str:
        """One line for people."""
        if self.reached:
            told = f"{_threads(len(self.reached))} {self.done}, longest stop {self.longest_ns / 1e6:.2f} ms"
            if self.skipped:
                told += f"; {len(self.skipped)} not: {self.skipped[0].refusal}"
            return told + ("; the deadline left some out" if self.unfinished else "")
        if self.skipped:
            first = self.skipped[0]
            return f"{'thread' if first.tid else 'process'} {first.tid or first.pid}: {first.refusal}"
        if self.unfinished:
            return "no thread was reached before the deadline"
        return f"none of {_threads(self.others)} waits in epoll_wait: there is nothing to {self.deed}"

    def detail(self) -> dict[str, Any]:
        """Plain values for the peer and the store: no pointers, no command lines."""
        return {
            self.done: len(self.reached),
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
                for thread in self.reached[:TOLD]
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


def each(result: Reach, epochs: tuple[Epoch, ...], never: frozenset[int], act: Callable[[int, int], None]) -> None:
    """Let `act` reach the threads of each process: it gets the PID and the process' open directory.

    A refusal becomes part of the result. `never` are processes left alone whatever is asked; PID 1, this process and
    its parent are always among them.
    """
    never |= {1, os.getpid(), os.getppid()}
    for epoch in epochs:
        result.processes += 1
        try:
            if epoch.pid in never:
                raise NeverATarget("it is never touched")
            with pinned(epoch) as process:
                threads.check_nudgeable(process)
                act(epoch.pid, process)
        except Refusal as refusal:
            result.skipped.append(Skipped(epoch.pid, 0, refusal))


@contextmanager
def listed(process: int) -> Iterator[tuple[int, list[int]]]:
    """The open directory of a process' threads, and their TIDs."""
    listing = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)
    try:
        with os.scandir(listing) as entries:
            tids = sorted(int(entry.name) for entry in entries)
        yield listing, tids
    finally:
        os.close(listing)


def _threads(number: int) -> str:
    return f"{number} thread{'' if number == 1 else 's'}"
