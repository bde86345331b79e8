"""Thawing what we have frozen, until it is certain: also when the one who froze it is dead.

Rules: a unit counts as thawed when systemd has answered ThawUnit and the unit's cgroup is no longer asked to freeze. An
answer alone is not enough: systemd 256 leaves a cgroup half frozen whose freeze had not come to its end (systemd pull
request 36852). Then, as where systemd refuses because a job waits, `cgroup.freeze` is written here, as far as our
sandbox allows it. A record (`frozen.py`) goes only after that. Three look after it: who froze it; the guardian, a
process that sees the end of the first; and after both, the next start of the helper and its ExecStopPost=.

Sources: org.freedesktop.systemd1(5), ThawUnit; Documentation/admin-guide/cgroup-v2.rst, cgroup.freeze.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn

from watchdog.helper.frozen import TooLate, forget, recorded, tell
from watchdog.systemd import MANAGER, SERVICE, Bus, BusUnavailable, CallError, run_on_poll
from watchdog.target import cgroup_directory, cgroup_mounts, contents

PAUSE = 0.05  # s between two tries
GUARD_AFTER = 3.0  # s that the guardian lets a freeze take at most, whatever the one who froze is doing
BEGIN_WITHIN = 1.0  # s from the guardian's start to the freeze: so all of the freeze is within GUARD_AFTER
GUARD_FOR = 10.0  # s that it tries to thaw; then the record is left to the helper's next start
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # the guardian has its thaw to do first


class NotThawed(Exception):
    """The unit is frozen still, or may be; the text says why."""


async def thaw(bus: Bus, unit: str, within: float) -> None:
    """Thaw the unit, and try again for `within` seconds.

    A unit that is gone or runs is fine. Raises `NotThawed` and `BusUnavailable`.
    """
    until = time.monotonic() + within
    while True:
        try:
            await _thaw_once(bus, unit)
            return
        except NotThawed:
            if time.monotonic() + PAUSE >= until:
                raise
        await asyncio.sleep(PAUSE)


async def _thaw_once(bus: Bus, unit: str) -> None:
    refusal = ""
    try:
        await bus.call(MANAGER, "ThawUnit", "s", unit)
    except CallError as error:
        refusal = str(error)
    try:
        cgroup = await cgroup_of(bus, unit)
    except CallError as error:
        raise NotThawed(f"systemd does not tell of its cgroup: {error}") from None
    if cgroup is None or not asked_to_freeze(cgroup):
        return
    try:
        _write_thaw(cgroup)
    except OSError as error:
        raise NotThawed(f"{refusal or 'systemd has not done it'}; nor can we: {error.strerror}") from None


def _write_thaw(cgroup: str) -> None:
    with contextlib.suppress(FileNotFoundError), open(os.path.join(cgroup, "cgroup.freeze"), "wb", buffering=0) as file:
        file.write(b"0")


async def cgroup_of(bus: Bus, unit: str) -> str | None:
    """The directory of the unit's cgroup (v2); None where it has none now. Raises `CallError`, `BusUnavailable`."""
    listed = await bus.unit(unit)
    path = str(await bus.get(listed.path, SERVICE, "ControlGroup")) if listed is not None else ""
    if not path:
        return None
    return next((cgroup_directory(path, root, mount) for kind, root, mount in cgroup_mounts() if kind == ""), None)


def asked_to_freeze(cgroup: str) -> bool:
    """Whether the cgroup itself is frozen, or on the way to it. One below a frozen one is not asked itself."""
    try:
        return contents(os.path.join(cgroup, "cgroup.freeze")).strip() == b"1"
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # removed meanwhile
            return False
        raise


# --- after a life that ended in a freeze ------------------------------------------------------------------------------


def thaw_recorded(
    directory: str,
    within: float,
    *,
    only: Iterable[str] | None = None,
    keep: bool = False,
    address: str | None = None,
) -> Mapping[str, str]:
    """Thaw what the records in `directory` name (`only` these of them), trying for `within` seconds or a bit longer.

    What could not be thawed, and why, keeps its record; with `keep` so does what is thawed. Loads D-Bus where
    there is a record: not for the resident helper itself.
    """
    left = [unit for unit in recorded(directory) if only is None or unit in only]
    until = time.monotonic() + within
    return run_on_poll(_thaw_recorded(directory, left, until, keep, address)) if left else {}


async def _thaw_recorded(
    directory: str, units: list[str], until: float, keep: bool, address: str | None
) -> dict[str, str]:
    left = dict.fromkeys(units, "")
    while True:
        try:
            async with Bus(address=address) as bus:
                for unit in units:
                    if unit in left:
                        await _thaw_and_forget(bus, directory, unit, left, keep)
        except BusUnavailable as error:
            left = dict.fromkeys(left, str(error))
        if not left or time.monotonic() >= until:
            return left
        await asyncio.sleep(PAUSE)


async def _thaw_and_forget(bus: Bus, directory: str, unit: str, left: dict[str, str], keep: bool) -> None:
    try:
        await _thaw_once(bus, unit)
        if not keep:
            forget(directory, unit)
    except NotThawed as error:
        left[unit] = str(error)
    except OSError as error:
        left[unit] = f"it is thawed, but its record can't be removed: {error.strerror}"
    else:
        del left[unit]


# --- the guardian -----------------------------------------------------------------------------------------------------


class Guardian:
    """One that stands by: `pid`, and when its clock began."""

    def __init__(self, directory: str, unit: str, pid: int) -> None:
        self._directory, self._unit, self._pid = directory, unit, pid
        self._begun = time.monotonic()

    def check(self) -> None:
        """Call it just before the freeze. Raises `TooLate` where the freeze could end in nobody's thaw."""
        if os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            raise TooLate(f"nobody stands by to thaw {self._unit}")
        if self._unit not in recorded(self._directory):
            raise TooLate(f"the record that {self._unit} is frozen has gone")
        if (took := time.monotonic() - self._begun) >= BEGIN_WITHIN:
            raise TooLate(f"to record it took {took:.1f} s")


@contextlib.contextmanager
def guardian(directory: str, unit: str, *, address: str | None = None) -> Iterator[Guardian]:
    """While the context lasts, a process stands by that thaws the unit if it is recorded.

    It does so where we are killed, where the context ends with an exception, and again and again, each `GUARD_AFTER`,
    where it lasts so long; then the record stays, for the freeze may still come. Enter it before the record is written,
    in a process with a single thread and no loop that runs. Raises `OSError` where no process is to be had.
    """
    read_end, write_end = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(read_end)
        os.close(write_end)
        raise
    if pid == 0:
        _stand_by(read_end, directory, unit, address)
    os.close(read_end)
    try:
        yield Guardian(directory, unit, pid)
        with contextlib.suppress(BrokenPipeError):  # it was killed
            os.write(write_end, b".")
    finally:
        os.close(write_end)
    os.waitpid(pid, 0)


def _stand_by(read_end: int, directory: str, unit: str, address: str | None) -> NoReturn:
    """The guardian's whole life. It outlives the worker (fork(2) clears PR_SET_PDEATHSIG), and the helper."""
    try:
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        os.closerange(3, read_end)
        os.closerange(read_end + 1, 1 << 20)
        poll = select.poll()
        poll.register(read_end, select.POLLIN)
        while not poll.poll(GUARD_AFTER * 1000):  # who froze, or is about to, lives
            tell(thaw_recorded(directory, GUARD_AFTER, only=(unit,), keep=True, address=address))
        if os.read(read_end, 1):
            os._exit(0)
        tell(thaw_recorded(directory, GUARD_FOR, only=(unit,), address=address))
    except BaseException as error:
        tell({unit: f"{type(error).__name__}: {error}"})
    finally:
        os._exit(0)
