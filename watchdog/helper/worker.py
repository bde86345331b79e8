"""A piece of work in a child process of its own, with a deadline, whose answer comes back through a pipe.

Rules: a worker that overruns is killed; one that dies is answered for; one that not even SIGKILL ends (state D, on a
hung disk) is left to itself and reaped whenever it ends. A worker never outlives its parent (PR_SET_PDEATHSIG), and of
its descriptors it holds only the standard ones and its pipe. It is forked, not executed: it starts in a millisecond
with all modules loaded, so only a process with a single thread may start one. The answer is one line of JSON.

Sources: fork(2), pidfd_open(2), prctl(2).
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
MAX_ANSWER = 16 << 20  # bytes; the largest is the services of a large config

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ended: with a value, or with an error told in one line; `overran`: it was killed at its deadline."""

    value: Any = None
    error: str = ""
    overran: bool = False


class Worker:
    """A running worker. Poll `pipe` for input, then call `read`; at `deadline` (time.monotonic) call `overrun`."""

    def __init__(self, work: Callable[[], Any], timeout: float) -> None:
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout
        self.pipe, write_end = os.pipe()
        self._answer = bytearray()
        self._status: int | None = None
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _be_worker(work, parent, write_end)
        os.close(write_end)

    def read(self) -> Ending | None:
        """Read what has come; the ending, once the answer is complete or the worker is dead."""
        chunk = os.read(self.pipe, 65536)
        self._answer += chunk
        if chunk and not chunk.endswith(b"\n") and len(self._answer) < MAX_ANSWER:
            return None
        self._close()
        if not self._answer.endswith(b"\n"):
            self.reap(0.1)  # it closed its pipe: its end is at hand
            return Ending(error=f"its worker ended without an answer ({self._how()})")
        answer = json.loads(self._answer)
        return Ending(value=answer["value"]) if "value" in answer else Ending(error=answer["error"])

    def overrun(self) -> Ending:
        """Kill it: its time is up."""
        self._close()
        return Ending(error=f"no answer within {self.timeout:g} s: its worker was killed", overran=True)

    def reaped(self) -> bool:
        """Whether it is really gone; never blocks."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None

    def reap(self, patience: float) -> bool:
        """Wait for its end, `patience` seconds at most: one in state D may never end."""
        if self._status is None:
            end = os.pidfd_open(self.pid)
            poll = select.poll()
            poll.register(end, select.POLLIN)
            poll.poll(patience * 1000)
            os.close(end)
        return self.reaped()

    def _close(self) -> None:
        os.close(self.pipe)
        os.kill(self.pid, signal.SIGKILL)  # it has nothing more to do; not reaped yet, so the PID is still its own

    def _how(self) -> str:
        if self._status is None:
            return "it hangs in its end"
        code = os.waitstatus_to_exitcode(self._status)
        return f"signal {-code}" if code < 0 else f"status {code}"


def run(work: Callable[[], Any], timeout: float) -> Ending:
    """Do a piece of work in a worker and wait for it, `timeout` seconds at most."""
    worker = Worker(work, timeout)
    poll = select.poll()
    poll.register(worker.pipe, select.POLLIN)
    ending = None
    while ending is None:
        left = worker.deadline - time.monotonic()
        if left > 0 and not poll.poll(left * 1000):
            continue
        ending = worker.read() if left > 0 else worker.overrun()
    worker.reap(1.0)
    return ending


def _be_worker(work: Callable[[], Any], parent: int, write_end: int) -> NoReturn:
    """The child's whole life."""
    status = 1
    try:
        gc.disable()  # a collection in the middle of a thread's stop would prolong it
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(status)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.closerange(3, write_end)
        os.closerange(write_end + 1, 1 << 20)
        try:
            answer = {"value": work()}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        _write(write_end, json.dumps(answer).encode() + b"\n")
        status = 0
    except BaseException as error:
        print(f"epoll-watchdog helper: worker: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
