"""The captures that are under way, as the disk has them: so that no process stays stopped because a helper was killed.

A capture goes on without us, as a unit of systemd's, and a debugger that is killed may leave its process stopped
(`capture.py`). Who lets it go on then is the next start of the helper, or its ExecStopPost=: by SIGCONT to this very
life of the process, and only where the unit has ended, nobody traces it, and it is stopped. One that stood before the
capture is never recorded. A record that tells anything else than it should is removed: nobody gets a signal by it.

    capturing/4711-123456            {"boot_id": "…", "wall": "…", "service": "redis", "pid": 4711,
                                      "start_time": 123456, "boottime": 8123.4}
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
import time
from collections.abc import Mapping

from watchdog.helper import ledger, records
from watchdog.model import Epoch

KIND = "capturing"  # of the records beside the ledger
LOOK = 0.5  # s between two looks whether the unit has ended
_NAME = re.compile(r"[1-9][0-9]{0,9}-[0-9]{1,20}")


def record(directory: str, service: str, epoch: Epoch) -> None:
    """Have it on the disk that this process is about to be captured. Raises `OSError`."""
    if directory:
        told = {"service": service, "pid": epoch.pid, "start_time": epoch.start_time}
        records.put(directory, _name(epoch), **told, boottime=ledger.now().boottime)


def forget(directory: str, epoch: Epoch) -> None:
    """It is over, and the process goes on. One that can't be removed does no harm while the process runs."""
    if directory:
        with contextlib.suppress(OSError):
            records.forget(directory, _name(epoch))


def recorded(directory: str, before: float = math.inf) -> list[tuple[str, Epoch]]:
    """Service and process of each capture of this boot whose end nobody has seen; begun `before` (CLOCK_BOOTTIME)."""
    found = []
    for name in records.names(directory, lambda name: _NAME.fullmatch(name) is not None) if directory else ():
        told = records.content(directory, name)
        service, pid, start_time, began = (told.get(key) for key in ("service", "pid", "start_time", "boottime"))
        ours = name == f"{pid}-{start_time}" and told.get("boot_id") == ledger.now().boot_id
        if ours and isinstance(service, str) and type(pid) is int and type(start_time) is int and type(began) is float:
            if began < before:
                found.append((service, Epoch(pid, start_time)))
        else:
            with contextlib.suppress(OSError):
                records.forget(directory, name)
    return found


def tell(failures: Mapping[str, str]) -> None:
    """On stderr, who may be stopped still: somebody has to know."""
    for process, why in failures.items():
        print(f"epoll-watchdog helper: {process} may be stopped by a capture still: {why}", file=sys.stderr, flush=True)


def let_go_on(directory: str, within: float, address: str | None = None) -> dict[str, str]:
    """Let go on what a capture left stopped, waiting `within` seconds for the captures' units to end.

    Who may be stopped still by a capture that has ended, and why; one whose unit goes on keeps its record, and is not
    told. Loads D-Bus where there is a record: not for the resident helper itself.
    """
    until, before = time.monotonic() + within, ledger.now().boottime  # a later capture is somebody else's to see to
    while True:
        failures = {}
        waits = False
        for service, epoch in recorded(directory, before):
            try:
                if _goes_on(service, address):
                    waits = True
                    continue
                _let_go_on(service, epoch, address)
                forget(directory, epoch)
            except _Failed as error:
                failures[f"process {epoch.pid}"] = str(error)
        if not waits or time.monotonic() >= until:
            return failures
        time.sleep(LOOK)


class _Failed(Exception):
    """The text says why."""


def _goes_on(service: str, address: str | None) -> bool:
    from watchdog.helper.transient import runs
    from watchdog.systemd import BusUnavailable, CallError, run_on_poll

    try:
        return run_on_poll(runs("capture", service, address))
    except (BusUnavailable, CallError) as error:
        raise _Failed(f"whether the capture goes on is not known: {error}") from None


def _let_go_on(service: str, epoch: Epoch, address: str | None) -> None:
    from watchdog.helper.stopped import held, left_stopped
    from watchdog.helper.transient import Transient
    from watchdog.target import Gone

    try:
        with held(epoch) as process:
            if left_stopped(epoch.pid):
                Transient(service, address).let_go_on(process)
    except (Gone, ProcessLookupError):
        return
    except PermissionError as error:
        raise _Failed(f"{error}; `kill -CONT {epoch.pid}` lets it go on") from None


def _name(epoch: Epoch) -> str:
    return f"{epoch.pid}-{epoch.start_time}"
