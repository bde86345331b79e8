"""Restart a unit through systemd, so that nothing is started, stopped or lost that nobody asked for.

Rules: TryRestartUnit and never RestartUnit, which starts what its operator has just stopped. Mode "fail": a job that
somebody else has queued wins. Nothing is begun that would take other active units along, unless they are named, nor
what systemd's start limit would cut in half: it stops the unit first, and then does not start it. Done means a new
life (InvocationID), not a job's good end. It is bounded by the unit's own time-outs. What is asked beforehand is asked
here, by root, whatever the brain was told (`outlook.py`). A restart that we had begun, and whose helper was killed, is
taken up again (`restarting.py`): it is nobody else's.

Sources: org.freedesktop.systemd1(5); systemd.unit(5); systemd.kill(5).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from typing import Any

from watchdog.helper import restarting
from watchdog.helper.jobs import Jobs
from watchdog.helper.restarting import Pending
from watchdog.model import Outcome, Performed, Rung
from watchdog.outlook import Starts, journal_starts, not_named, start_limit, taken_along
from watchdog.systemd import JOB, MANAGER, SERVICE, SYSTEMD, UNIT, Bus, CallError, Listed

FALLBACK = 90.0  # s, for a time-out of the unit that is infinite: systemd's own default
RESTARTABLE = ("active", "reloading")
INFINITE = 2**64 - 1  # USEC_INFINITY


class _NotBegun(Exception):
    """The restart was not begun; `outcome` and the text say why."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


async def try_restart(
    unit: str,
    *,
    also_restarts: Sequence[str] = (),
    invocation_id: str = "",
    fallback: float = FALLBACK,
    starts: Starts | None = None,
    directory: str = "",
    address: str | None = None,
) -> Performed:
    """Restart the unit if it runs, and wait until it runs anew.

    `also_restarts` names active units that may be restarted with it. `invocation_id` pins the life that is to be ended:
    another one is left alone (outcome *gone*). A restart past the unit's own TimeoutStopUSec + TimeoutStartUSec
    (`fallback` seconds for each that is infinite) and still stopping is ended with SIGKILL, and waited for as long once
    more; one that is starting by then is left to go on, for a kill would only throw away its work.

    `starts` tells the recent starts of a unit (see `journal_starts`); `directory` is where restarts under way are
    recorded, and nowhere where it is empty; `address` is another bus. Raises `BusUnavailable`
    where systemd could not be asked, or its answer was lost.
    """
    begun = time.monotonic()
    detail: dict[str, Any] = {"unit": unit, "old_invocation_id": "", "new_invocation_id": "", "killed": False}
    jobs = Jobs()
    async with Bus(jobs.signal, address=address) as bus:
        try:
            listed = await _held(bus, unit, detail)
            await bus.match(sender=SYSTEMD, interface=MANAGER, member="JobRemoved", arg2=listed.id)
            await bus.subscribe()
            pending = await _taken_up(bus, listed, invocation_id, directory, detail)
            if pending is None:
                listed = await _running(bus, listed.id, invocation_id, detail)
                await _check_blast_radius(bus, listed, also_restarts, detail)
                await _check_start_limit(bus, listed, starts or journal_starts)
                pending = await _queue(bus, listed, fallback, detail)
                restarting.record(directory, listed.id, pending)
        except _NotBegun as refusal:
            return Performed(Rung.RESTART, refusal.outcome, str(refusal), detail)
        try:
            outcome, reason = await _follow(bus, jobs, listed, pending, detail)
            if "job_result" in detail or "called_off" in detail:
                restarting.forget(directory, listed.id)
        except CallError as error:
            outcome, reason = Outcome.FAILED, f"systemd no longer tells how the restart of {listed.id} goes: {error}"
    detail["duration_s"] = round(time.monotonic() - begun, 3)
    return Performed(Rung.RESTART, outcome, reason, detail)


async def _held(bus: Bus, unit: str, detail: dict[str, Any]) -> Listed:
    """The unit, kept in systemd's memory."""
    listed = await bus.unit(unit)
    if listed is None or not listed.found:
        raise _NotBegun(Outcome.REFUSED, f"systemd knows no unit {unit}")
    detail["unit"] = listed.id
    await _hold(bus, listed)
    return listed


async def _taken_up(
    bus: Bus, unit: Listed, invocation_id: str, directory: str, detail: dict[str, Any]
) -> Pending | None:
    """The restart of this life that an earlier helper of ours had begun, where its job is still there."""
    pending = restarting.recorded(directory, unit.id)
    if pending is None:
        return None
    try:
        job = str((await bus.get(unit.path, UNIT, "Job"))[1])
    except CallError:  # it has none, or is gone
        return None
    if job != pending.job or invocation_id not in ("", pending.invocation_id):
        return None
    detail |= {"old_invocation_id": pending.invocation_id, "deadline_s": pending.deadline_s, "taken_up": True}
    return pending


async def _running(bus: Bus, unit: str, invocation_id: str, detail: dict[str, Any]) -> Listed:
    """The unit, where it runs the life that is to be ended."""
    listed = await bus.unit(unit)
    if listed is None or not listed.found:
        raise _NotBegun(Outcome.REFUSED, f"systemd knows no unit {unit}")
    if listed.job is not None:
        raise _NotBegun(Outcome.REFUSED, f"somebody else has queued a {listed.job} job for {listed.id}")
    if listed.active_state not in RESTARTABLE:
        state = f"{listed.active_state} ({listed.sub_state})"
        raise _NotBegun(Outcome.REFUSED, f"{listed.id} is {state}: only a running unit is restarted, none is started")
    detail["old_invocation_id"] = now = await bus.invocation_id(listed.path)
    if invocation_id not in ("", now):
        raise _NotBegun(Outcome.GONE, f"{listed.id} was restarted by somebody else: the life to be ended is over")
    return listed


async def _hold(bus: Bus, unit: Listed) -> None:
    """Keep it in systemd's memory while we are connected: of a unit that has stopped it forgets what we must know."""
    try:
        await bus.call(MANAGER, "RefUnit", "s", unit.id)
    except CallError as error:
        raise _NotBegun(Outcome.REFUSED, f"systemd refuses to restart {unit.id}: {error}") from error


async def _check_blast_radius(bus: Bus, unit: Listed, also_restarts: Sequence[str], detail: dict[str, Any]) -> None:
    along = await taken_along(bus, unit)
    detail["taken_along"] = sorted(along)
    if left := await not_named(bus, along, also_restarts):
        names = ", ".join(left)
        raise _NotBegun(Outcome.REFUSED, f"a restart of {unit.id} would restart {names} too; allow it in also_restarts")


async def _check_start_limit(bus: Bus, unit: Listed, starts: Starts) -> None:
    async def told(name: str, interval: float) -> list[float]:
        return starts(name, interval)

    limit = await start_limit(bus, unit, told)
    if limit.reached:
        raise _NotBegun(
            Outcome.REFUSED,
            f"systemd's start limit: {unit.id} has used {limit.used} of {limit.burst} starts within "
            f"{limit.interval:g} s; a restart would only stop it",
        )


async def _queue(bus: Bus, unit: Listed, fallback: float, detail: dict[str, Any]) -> Pending:
    """Ask for the restart."""
    detail["deadline_s"] = sum(await asyncio.gather(*(_timeout(bus, unit, name, fallback) for name in _TIMEOUTS)))
    try:
        job = str((await bus.call(MANAGER, "TryRestartUnit", "ss", unit.id, "fail"))[0])
    except CallError as error:
        raise _NotBegun(Outcome.REFUSED, f"systemd refuses to restart {unit.id}: {error}") from error
    return restarting.begun(job, detail["old_invocation_id"], detail["deadline_s"])


async def _follow(bus: Bus, jobs: Jobs, unit: Listed, pending: Pending, detail: dict[str, Any]) -> tuple[Outcome, str]:
    """Wait for the job, help it where it hangs, and judge what came of it."""
    job, deadline = pending.job, pending.deadline_s
    result = await jobs.result(job, pending.left)
    if result is None:
        result = await _help(bus, jobs, unit, job, deadline, detail)
    if result is None:
        return Outcome.TIMED_OUT, await _still(bus, unit, deadline, detail)
    detail["job_result"] = result
    return await _judge(bus, unit, result, detail)


async def _help(bus: Bus, jobs: Jobs, unit: Listed, job: str, deadline: float, detail: dict[str, Any]) -> str | None:
    """Kill what hangs in its stop, and wait again; call off what has not begun."""
    state = await _state(bus, unit)
    if state == "deactivating":
        try:
            await bus.call(MANAGER, "KillUnit", "ssi", unit.id, "all", int(signal.SIGKILL))
        except CallError as error:  # it has ended by itself just now, or we may not
            detail["kill_error"] = str(error)
            return await jobs.result(job, 1.0)
        detail["killed"] = True
        return await jobs.result(job, deadline)
    if state in RESTARTABLE:
        detail["called_off"] = True
        with contextlib.suppress(CallError):  # it has ended by itself just now
            await bus.call(JOB, "Cancel", path=job)
        return None
    return jobs.results.get(job)


async def _still(bus: Bus, unit: Listed, deadline: float, detail: dict[str, Any]) -> str:
    if detail.get("called_off"):
        return f"the restart of {unit.id} waited for other jobs of systemd's for {deadline:g} s, and was called off"
    if detail["killed"]:
        return f"{unit.id} did not end within {deadline:g} s, nor after SIGKILL"
    if "kill_error" in detail:
        return f"{unit.id} did not end within {deadline:g} s, and could not be killed: {detail['kill_error']}"
    return f"{unit.id} is still {await _state(bus, unit)} after {deadline:g} s, and is left to go on"


async def _state(bus: Bus, unit: Listed) -> str:
    now = await bus.unit(unit.id)
    return now.active_state if now else "inactive"


_TIMEOUTS = ("TimeoutStopUSec", "TimeoutStartUSec")


async def _timeout(bus: Bus, unit: Listed, name: str, fallback: float) -> float:
    try:
        value = int(await bus.get(unit.path, SERVICE, name))
    except CallError:  # not a service
        return fallback
    return fallback if value == INFINITE else value / 1e6


async def _judge(bus: Bus, unit: Listed, result: str, detail: dict[str, Any]) -> tuple[Outcome, str]:
    state = await _state(bus, unit)
    detail["new_invocation_id"] = new = await bus.invocation_id(unit.path)
    anew = new not in ("", detail["old_invocation_id"])
    if anew and state in RESTARTABLE:
        return Outcome.DONE, f"{unit.id} was restarted" + (", after SIGKILL" if detail["killed"] else "")
    if state in ("inactive", "deactivating") and not anew:
        if not await bus.get(unit.path, UNIT, "ConditionResult"):
            return Outcome.FAILED, f"{unit.id} was stopped, and not started: a Condition…= of its unit file is not met"
        return Outcome.REFUSED, f"{unit.id} was stopped by somebody else meanwhile, and is left so"
    if result == "canceled":
        return Outcome.FAILED, f"the restart of {unit.id} was cancelled by somebody else; it is {state}"
    why = await _result(bus, unit)
    return Outcome.FAILED, f"the restart of {unit.id} ended as {result!r}: it is {state}{why}"


async def _result(bus: Bus, unit: Listed) -> str:
    try:
        result = str(await bus.get(unit.path, SERVICE, "Result"))
    except CallError:
        return ""
    return f" ({result})" if result != "success" else ""
