"""A process that a debugger may have left stopped: held, so that it is this very life, and looked at.

Sources: pidfd_open(2); proc_pid_status(5), State and TracerPid.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from watchdog.helper.limits import LET_GO_WITHIN, STOPS_WITHIN
from watchdog.model import Epoch
from watchdog.target import Gone, check_alive, contents

STEP = 0.01  # s between two looks: no event tells of either


@contextlib.contextmanager
def held(epoch: Epoch) -> Iterator[int]:
    """A pidfd of this very life, so that no other process gets the signal. Raises `Gone`."""
    try:
        process = os.pidfd_open(epoch.pid)
    except ProcessLookupError:
        raise Gone(f"there is no process {epoch.pid}") from None
    try:
        check_alive(epoch)
        yield process
    finally:
        os.close(process)


def left_stopped(pid: int) -> bool:
    """Whether it is stopped by a signal, and not traced, once who was killed just now has let go of it."""
    until = time.monotonic() + LET_GO_WITHIN
    while _traced(pid) and time.monotonic() < until:
        time.sleep(STEP)
    until = time.monotonic() + STOPS_WITHIN
    while not (stopped := stands(pid)) and time.monotonic() < until:
        time.sleep(STEP)
    return stopped and not _traced(pid)


def stands(pid: int) -> bool:
    """Whether any thread of it was stopped by a signal: SIGCONT is for them all."""
    return any(thread[b"State"].startswith(b"T") for thread in _threads(pid))


def _traced(pid: int) -> bool:
    return any(thread[b"TracerPid"] != b"0" for thread in _threads(pid))


def _threads(pid: int) -> Iterator[dict[bytes, bytes]]:
    """The `status` of each thread (proc_pid_status(5)); of none that has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for tid in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                lines = contents(f"/proc/{pid}/task/{tid}/status").splitlines()
                yield {key: value.strip() for key, _, value in (line.partition(b":") for line in lines)}
