"""The second way of a nudge: systemd freezes the unit's cgroup and thaws it at once, and every epoll_wait in it
returns EINTR. It takes no right to trace, only systemd's ear: for hosts where ptrace is forbidden.

Rules: the whole service stands still for a moment (2.0 ms in the median of 50, 2.6 ms at most; all of the nudge took 60
ms), and not only threads in epoll_wait get EINTR (kernel-facts.md, section 2): so it is used only where ptrace can't
be. What somebody else has frozen is left alone, for its thaw would be ours. It is recorded on the disk first, and a
guardian stands by (`thaw.py`): whatever happens, it is thawed. Nothing is frozen that we stand on: the bus, systemd's
own, our own.

A thread in state D can keep a cgroup from ever being frozen; the others stand still by then. So it is thawed after
`FREEZE_WITHIN`, which calls off a freeze under way. At that, PID 1 of a systemd before 253 fails an assertion (its pull
request 25662; 252.39 does not, as a test shows), and 256 and 257 leave frozen what did freeze (36852; 38351 for 257).
Those are not asked.

Sources: org.freedesktop.systemd1(5), FreezeUnit, CanFreeze, FreezerState; cgroup-v2.rst, cgroup.events.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Iterator
from typing import Any

from watchdog.evidence.rights import NotPermitted
from watchdog.helper.frozen import (
    Busy,
    CannotFreeze,
    FrozenAlready,
    TooLate,
    forget,
    is_service,
    record,
    recorded,
    tell,
)
from watchdog.helper.thaw import Guardian, NotThawed, asked_to_freeze, guardian, thaw
from watchdog.model import Epoch, Outcome, Performed, Rung
from watchdog.systemd import MANAGER, UNIT, Bus, BusUnavailable, CallError, Listed, load_dbus, poll_loop
from watchdog.target import (
    Gone,
    NeverATarget,
    Refusal,
    Target,
    cgroup_mounts,
    contents,
    is_never_touched,
    processes,
    stat_fields,
    unit_cgroup,
)

ASK_WITHIN = 1.0  # s for systemd to tell of the unit, before anything is done
FREEZE_WITHIN = 0.5  # s until a freeze that has not come to its end is called off
THAW_WITHIN = 1.0  # s for the thaw; then it is the guardian's
LOOK = 0.0002  # s between two looks whether it goes on: systemd's answer comes up to 10 ms later
# From the first of each pair up to, not including, the second. 257.9 surely has the patch; 257.8 may.
SOUND_SYSTEMDS = (((252, 39), (256, 0)), ((257, 9), (9999, 0)))
FORBIDDEN = tuple(f"org.freedesktop.DBus.Error.{name}" for name in ("AccessDenied", "InteractiveAuthorizationRequired"))


def freeze(
    target: Target, epoch: Epoch, never: frozenset[int], directory: str, *, address: str | None = None
) -> Performed:
    """Freeze the unit that `epoch` is a process of, and thaw it.

    `directory` is where it is recorded; `address` another bus than the system's. Call it in a process with a single
    thread. What the unit and systemd do is told by the outcome: *timed_out* where not all of it stood still, *failed*
    where it could not be asked of systemd or the thaw is still to come. Raises a `Refusal`, with nothing done.
    """
    unit, frozen = target.unit, processes(target, epoch) if target.unit else ()
    if unit is None:
        raise CannotFreeze("it has no unit, and only systemd's units are frozen")
    if any(each.pid in never | {1, os.getpid(), os.getppid()} for each in frozen):
        raise NeverATarget(f"{unit} has a process in it that is never touched")
    detail: dict[str, Any] = {"processes": len(frozen), "nudged": _threads(frozen)}
    try:
        cgroup = _cgroup(unit, epoch)
        with _connection(address) as (bus, runner):
            unit = runner.run(_prepared(bus, unit, cgroup, directory))
            whole, stopped = _frozen_and_thawed(bus, runner, unit, cgroup, directory, address)
    except (BusUnavailable, NotThawed, OSError) as error:
        return Performed(Rung.NUDGE, Outcome.FAILED, str(error), detail)
    detail |= {"unit": unit, "stopped_seconds": stopped, "unfinished": not whole}
    stood = f"it stood still for {stopped * 1000:.1f} ms"
    if whole:
        return Performed(Rung.NUDGE, Outcome.DONE, f"{unit} was frozen and thawed; {stood}", detail)
    reason = f"a thread of {unit} could not be frozen within {FREEZE_WITHIN:g} s; it is thawed; {stood}"
    return Performed(Rung.NUDGE, Outcome.TIMED_OUT, reason, detail)


def _threads(epochs: tuple[Epoch, ...]) -> int:
    """How many threads stand still then: all."""
    found = 0
    for epoch in epochs:
        try:
            found += int(stat_fields(contents(f"/proc/{epoch.pid}/stat"))[17])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@contextlib.contextmanager
def _connection(address: str | None) -> Iterator[tuple[Bus, asyncio.Runner]]:
    """One for all that is asked, loaded before any clock runs; between its calls no loop runs, so one may fork."""
    load_dbus()
    bus = Bus(address=address)
    with asyncio.Runner(loop_factory=poll_loop) as runner:
        try:
            yield bus, runner
        finally:
            runner.run(bus.close())


# --- what can be frozen -----------------------------------------------------------------------------------------------


def _cgroup(unit: str, epoch: Epoch) -> str:
    if any(kind for kind, _, _ in cgroup_mounts()):
        raise CannotFreeze("this host has cgroup v1, where systemd can't freeze")
    cgroup = unit_cgroup(unit, epoch.pid)
    if cgroup is None or not os.path.exists(os.path.join(cgroup, "cgroup.freeze")):
        raise CannotFreeze(f"the cgroup of {unit} has no freezer")
    return cgroup


async def _prepared(bus: Bus, unit: str, cgroup: str, directory: str) -> str:
    """The unit's own name, once it is known that it runs, is not frozen, and can be. Opens the connection."""
    try:
        async with asyncio.timeout(ASK_WITHIN):
            await bus.open()
            listed = await bus.unit(unit)
            if listed is None or not listed.found:
                raise Gone(f"systemd knows no unit {unit}")
            if is_never_touched(listed.id):
                raise NeverATarget(f"{listed.id} is never touched")
            await _check_can(bus, listed)
            if listed.id in recorded(directory):  # by an earlier life of ours
                await thaw(bus, listed.id, ASK_WITHIN)
                forget(directory, listed.id)
            state = str(await bus.get(listed.path, UNIT, "FreezerState"))
            if state != "running" or _is_frozen(cgroup):
                raise FrozenAlready(f"{listed.id} is {state if state != 'running' else 'frozen'} already")
            return listed.id
    except TimeoutError:
        raise BusUnavailable(f"systemd did not tell of {unit} within {ASK_WITHIN:g} s") from None
    except CallError as error:
        raise BusUnavailable(f"systemd does not tell of {unit}: {error}") from None


async def _check_can(bus: Bus, unit: Listed) -> None:
    if not is_service(unit.id):
        raise CannotFreeze(f"{unit.id} is no .service")
    version = str(await bus.get("/org/freedesktop/systemd1", MANAGER, "Version"))
    if not sound(version):
        raise CannotFreeze(f"systemd {version} may crash, or not thaw, where a freeze is called off")
    if not await bus.get(unit.path, UNIT, "CanFreeze"):
        raise CannotFreeze(f"systemd can't freeze {unit.id}: CanFreeze is no")
    if unit.job is not None:
        raise Busy(f"somebody has queued a {unit.job} job for {unit.id}")


def sound(version: str) -> bool:
    """Whether a systemd of this version, such as "252.39-1~deb12u2", calls off a freeze without harm."""
    found = re.match(r"v?(\d+)(?:\.(\d+))?", version)
    number = (int(found[1]), int(found[2] or 0)) if found else (0, 0)
    return any(first <= number < end for first, end in SOUND_SYSTEMDS)


def _is_frozen(cgroup: str) -> bool:
    """By itself, or by a cgroup above it."""
    return asked_to_freeze(cgroup) or b"frozen 1\n" in contents(os.path.join(cgroup, "cgroup.events"))


# --- the act ----------------------------------------------------------------------------------------------------------


class _Untouched(Exception):
    """systemd was not asked for the freeze, or has refused it: nothing is to be thawed. Carries the refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def _frozen_and_thawed(
    bus: Bus, runner: asyncio.Runner, unit: str, cgroup: str, directory: str, address: str | None
) -> tuple[bool, float]:
    """Whether all of it stood still, and for how many seconds at most. Raises `Refusal`, or what leaves it in doubt."""
    refusal = None
    with guardian(directory, unit, address=address) as stands_by:
        try:
            record(directory, unit)
        except OSError as error:
            raise NotThawed(f"it can't be recorded, so nothing is frozen: {error.strerror}") from None
        try:
            whole, stopped = runner.run(_stand_still(bus, stands_by, unit, cgroup))
        except _Untouched as untouched:
            whole, stopped, refusal = False, 0.0, untouched.refusal
        except (BusUnavailable, NotThawed) as error:
            raise NotThawed(f"{unit} may be frozen: {error}; a process of its own tries to thaw it") from None
        try:
            forget(directory, unit)
        except OSError as error:
            tell({unit: f"it is not, but its record can't be removed: {error.strerror}"})
    if refusal is not None:
        raise refusal
    return whole, stopped


async def _stand_still(bus: Bus, stands_by: Guardian, unit: str, cgroup: str) -> tuple[bool, float]:
    whole = True
    try:
        stands_by.check()
    except TooLate as late:
        raise _Untouched(late) from None
    begun = time.monotonic()
    try:
        async with asyncio.timeout(FREEZE_WITHIN):
            await bus.call(MANAGER, "FreezeUnit", "s", unit)
    except TimeoutError:
        whole = False
    except CallError as error:
        kind = NotPermitted if error.name in FORBIDDEN else Busy
        raise _Untouched(kind(f"systemd refuses to freeze {unit}: {error}")) from None
    thawing = asyncio.create_task(thaw(bus, unit, THAW_WITHIN))
    while asked_to_freeze(cgroup) and not thawing.done():
        await asyncio.wait({thawing}, timeout=LOOK)
    stopped = time.monotonic() - begun
    await thawing
    return whole, stopped
