"""The nudge of a service: each thread of its processes that sleeps in an epoll wait is stopped and let go, in turn.

Whose threads, and in which order: `reach`. Call it in a child of its own (`worker`): what could not be let go is let go
by the end of that child.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from watchdog.evidence.calls import Unreadable, epoll_wait
from watchdog.evidence.pinned import open_directory, read
from watchdog.evidence.rights import NotPermitted, YamaForbids
from watchdog.helper import threads
from watchdog.helper.ptrace import Awake, Tracer
from watchdog.helper.reach import DEADLINE, THREAD_BOUND, Reach, Reached, Skipped, each, listed
from watchdog.model import Epoch, Performed, Rung
from watchdog.target import Refusal


@dataclass(slots=True)
class Nudge(Reach):
    """What one nudge came to."""

    deed = "nudge"
    done = "nudged"

    def performed(self) -> Performed:
        """The outcome as the ladder's event."""
        return Performed(Rung.NUDGE, self.outcome(), self.reason(), self.detail())


def nudge(epochs: tuple[Epoch, ...], never: frozenset[int] = frozenset(), deadline: float = DEADLINE) -> Nudge:
    """Nudge every thread of these processes that sleeps in an epoll wait, for at most `deadline` seconds.

    A refusal is part of the result, not raised. `never` as in `each`.
    """
    result = Nudge()
    until = time.monotonic() + deadline
    with Tracer() as tracer:
        each(result, epochs, never, lambda pid, process: _nudge_process(tracer, pid, process, until, result))
    return result


def _nudge_process(tracer: Tracer, pid: int, process: int, until: float, result: Nudge) -> None:
    with listed(process) as (listing, tids):
        for tid in tids:
            left = until - time.monotonic()
            if left <= 0:
                result.unfinished = True
                return
            try:
                nudged = _nudge_thread(tracer, pid, tid, listing, min(THREAD_BOUND, left))
            except (NotPermitted, YamaForbids, Unreadable):
                raise  # so it is with every thread of the process
            except Refusal as refusal:
                result.skipped.append(Skipped(pid, tid, refusal))
            else:
                if nudged is None:
                    result.others += 1
                else:
                    result.reached.append(nudged)
            tracer.look_after()


def _nudge_thread(tracer: Tracer, pid: int, tid: int, listing: int, bound: float) -> Reached | None:
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
        return Reached(pid, tid, name, wait, stopped_ns)
    except (Awake, FileNotFoundError):
        return None
    except PermissionError:
        raise threads.explain(task) from None
    finally:
        os.close(task)
