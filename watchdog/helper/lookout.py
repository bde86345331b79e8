"""The moment in which a thread at work sleeps in its epoll wait: it is read again and again until it comes.

A server under load sleeps for microseconds at a time, and who looks once in a while never sees it: nginx, redis and
Java NIO, saturated by wrk on 2 CPUs, were not met once in 0.5 s of looks 2 ms apart. Here a look takes some 5 us, and
the interrupt follows at once: nginx was caught within 28 ms, redis within 119 [measured, 12 times each].
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from watchdog.evidence.calls import EPOLL_WAITS, NONE, parse
from watchdog.evidence.pinned import read
from watchdog.target import Gone, stat_fields

PROCESSOR = 36  # of `stat`, counted from the state


class Lookout:
    """The open `syscall` file of a thread, and what the last look told. `name` is its name, `cpu` where it ran last."""

    def __init__(self, file: int, name: str, cpu: int) -> None:
        self._file = file
        self.name = name
        self.cpu = cpu
        self.call = NONE
        self.returns_to = 0  # where the thread goes on after the call
        self.at_work = False  # it ran, or was about to: it slept nowhere

    def waits_in_epoll(self) -> bool:
        """Whether it sleeps in an epoll wait now. Raises `Gone`."""
        try:
            text = os.pread(self._file, 256, 0)
        except ProcessLookupError:
            raise Gone("the thread has ended") from None
        self.at_work = text.startswith(b"running")
        if self.at_work:
            return False
        self.call = parse(text)
        if self.call.name not in EPOLL_WAITS:
            return False
        self.returns_to = int(text.split()[8], 16)
        return True


@contextmanager
def lookout(task: int) -> Iterator[Lookout]:
    """On a thread, by its open /proc/PID/task/TID. Raises `FileNotFoundError`, `PermissionError`."""
    file = os.open("syscall", os.O_RDONLY | os.O_CLOEXEC, dir_fd=task)
    try:
        cpu = int(stat_fields(read(task, "stat"))[PROCESSOR])
        yield Lookout(file, read(task, "comm").decode(errors="replace").strip(), cpu)
    finally:
        os.close(file)


def make_way(threads: Collection[Lookout]) -> None:
    """Look from another CPU than theirs, if there is one.

    Who looks all the time takes a CPU's time from somebody: better from their clients, whose requests keep them awake,
    than from them. On 2 CPUs with wrk, node never slept in 2 s otherwise [measured].
    """
    try:
        others = os.sched_getaffinity(os.getppid()) - {thread.cpu for thread in threads}
        if others:
            os.sched_setaffinity(0, others)
    except OSError:
        pass  # it was a favour
