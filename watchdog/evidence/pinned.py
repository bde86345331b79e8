"""A process or thread by its open directory in /proc, so that all that is read of it is of this very one.

Rules: the open directory of a process or task leads to this one or, once it has ended, nowhere (it pins the kernel's
`struct pid`, as a pidfd does); the start time says that it is the one that was meant. Reading wakes nobody.

Sources: proc(5), proc_pid_stat(5), proc_pid_status(5).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from watchdog.model import Epoch
from watchdog.target import Gone, stat_fields

CHUNK = 4096  # bytes; a file that has less is read by one call


def now() -> float:
    """CLOCK_BOOTTIME, in seconds: when something was read."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextmanager
def pinned(epoch: Epoch) -> Iterator[int]:
    """The open /proc/PID of exactly this life of the process. Raises `Gone`."""
    try:
        process = open_directory(f"/proc/{epoch.pid}")
    except FileNotFoundError:
        raise Gone(f"there is no process {epoch.pid}") from None
    try:
        began = int(stat_fields(read(process, "stat"))[19])
        if began != epoch.start_time:
            raise Gone(f"PID {epoch.pid} is another process' by now")
        yield process
    except FileNotFoundError:
        raise Gone(f"process {epoch.pid} has ended") from None
    finally:
        os.close(process)


def open_directory(name: str, above: int | None = None) -> int:
    """A directory, to look further from. Raises `OSError`."""
    return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=above)


def read(directory: int, name: str, chunk: int = CHUNK) -> bytes:
    """A file below an open directory of /proc. Raises `OSError`; `Gone` once the process or thread has ended.

    The kernel writes such a file whole at the first read, and hands it out from there.
    """
    try:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            text = more = os.read(file, chunk)
            while len(more) == chunk:
                more = os.read(file, chunk)
                text += more
            return text
        finally:
            os.close(file)
    except ProcessLookupError:
        raise Gone("it has ended") from None


def state(task: int) -> str:
    """R, S, D, T, t, Z, X, I (proc_pid_stat(5)). Raises `Gone`."""
    try:
        return stat_fields(read(task, "stat"))[0].decode()
    except FileNotFoundError:
        raise Gone("it has ended") from None


def status(task: int) -> dict[str, list[str]]:
    """The lines of `status`: their words by their name. Raises `OSError`, `Gone`."""
    lines = read(task, "status").decode(errors="replace").splitlines()
    return {key: rest.split() for key, _, rest in (line.partition(":") for line in lines)}


def tracer(task: int) -> int:
    """The PID of who traces the thread; 0: nobody. Raises `OSError`, `Gone`."""
    return int(status(task)["TracerPid"][0])
