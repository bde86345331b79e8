"""A nudge as the helper does it, in a worker, told as JSON: run inside the machine, and made to die on the way.

`python -m tests.systemd.freezing UNIT PID METHODS [NUMBER CALL WHEN WHOM]`: when the bus call CALL is made
(WHEN "before") or was answered ("after"), the signal NUMBER is sent to WHOM: the worker, or "all" of its process group.
"late" is "after", answered or not, of a call that is made only when the guardian has lost its patience; `0 record late
worker` is a disk that takes so long for the record that nothing is to be frozen any more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from watchdog.helper import freeze, frozen, thaw, worker
from watchdog.helper.methods import nudge_by_methods
from watchdog.model import Epoch, Method, Performed
from watchdog.systemd import Bus
from watchdog.target import Nudging, Refusal, Target, start_time

RECORDS = "/run/freezing/frozen"
LEDGER = "/run/freezing/ledger.json"


def nudge(unit: str, pid: int, methods: Sequence[str]) -> dict[str, Any]:
    """In this very process, which has to be a worker."""
    target = Target(unit=unit, nudge=Nudging(methods=tuple(map(Method, methods))))
    try:
        done = nudge_by_methods(target, Epoch(pid, start_time(pid)), frozenset(), RECORDS)
    except Refusal as refusal:
        return {"outcome": "refused", "reason": str(refusal), "raised": type(refusal).__name__}
    assert isinstance(done, Performed)
    return {"outcome": done.outcome, "reason": done.reason, **done.detail}


def strike(number: int, member: str, when: str, whom: str) -> None:
    """Have this process, or all of its group, struck at that call."""
    call, put = Bus.call, frozen.record

    def slow(directory: str, unit: str) -> None:
        put(directory, unit)
        time.sleep(thaw.BEGIN_WITHIN)

    if member == "record":
        freeze.record = slow  # type: ignore[attr-defined]
    elif when == "late":
        thaw.GUARD_AFTER = 0.1

    async def struck(self: Bus, interface: str, called: str, *rest: Any, **more: Any) -> list[Any]:
        if called == member and when == "before":
            _send(number, whom)
        if called == member and when == "late":
            time.sleep(3 * thaw.GUARD_AFTER)  # noqa: ASYNC251 - all of the process stands still, as when it is starved
        try:
            answer = await call(self, interface, called, *rest, **more)
        finally:
            if called == member and when == "late":  # its time may be up before the answer comes
                _send(number, whom)
        if called == member and when == "after":
            _send(number, whom)
        return answer

    Bus.call = struck  # type: ignore[assignment, method-assign]


def _send(number: int, whom: str) -> None:
    if os.getpid() == WORKER[0]:  # not the guardian, which makes calls too
        os.kill(0 if whom == "all" else os.getpid(), number)


WORKER: list[int] = []


def _work(words: Sequence[str]) -> dict[str, Any]:
    WORKER.append(os.getpid())
    unit, pid, methods, *blow = words
    if blow:
        strike(int(blow[0]), *blow[1:])
    return nudge(unit, int(pid), methods.split(","))


def main(words: Sequence[str]) -> None:
    """Print what the worker told."""
    if os.getpgid(0) != os.getpid():
        os.setsid()
    Path(LEDGER).parent.mkdir(exist_ok=True)
    ending = worker.run(lambda: _work(words), 4.0)
    print(json.dumps(ending.value if not ending.error else {"error": ending.error}))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main(sys.argv[1:])
