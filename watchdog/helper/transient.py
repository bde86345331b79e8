"""A command of the config as a transient unit of systemd's: with all of root's powers, and a life of its own.

As the helper's child it would have the helper's few capabilities and its sandbox, and die with it. The unit is of
Type=oneshot, so the end of its start job is the end of the command. Its argv is taken as it is: no shell, no variables
(ExecStartEx, "no-env-expand"), no specifiers (systemd expands those of unit files alone). What it says goes to the
sealed file of `command.py`, its environment is what systemd gives a service. The deadline is systemd's own
(TimeoutStartSec=), so it holds without us too; then we end what is left in the unit's cgroup, too.

A restart command may leave a daemon running, as init scripts do, so systemd kills nothing but the command itself
(KillMode=process); a capture leaves nothing behind (control-group). Where the bus or systemd cannot be asked, nothing
is run: a child instead would be another command, with other powers.

Sources: org.freedesktop.systemd1(5), StartTransientUnit, KillUnit; systemd.service(5); systemd.kill(5);
systemd.exec(5), "Process Exit Codes"; systemd.unit(5), CollectMode=, "String Escaping for Inclusion in Unit Names";
systemd's src/core/dbus-execute.c, dbus-service.c (…FileDescriptor), dbus-unit.c (AddRef).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

from watchdog.helper.command import DEADLINE, output_file, tail, told
from watchdog.helper.jobs import Jobs
from watchdog.helper.limits import CONTINUES_WITHIN, PATIENCE, STOP_WITHIN
from watchdog.model import Outcome, Performed, Rung
from watchdog.systemd import JOB, MANAGER, SERVICE, SYSTEMD, Bus, BusUnavailable, CallError, Listed, run_on_poll

ENDED = ("inactive", "failed")
LOOK = 1.0  # s between two looks whether the bus is still there: the loss of it is no signal
STEP = 0.05  # s between two looks at a unit that somebody else stops: it is not our job that tells of its end
EXEC = 203  # EXIT_EXEC: what systemd's own child ends with where the program cannot be executed
CLD_EXITED, CLD_KILLED = 1, 2  # ExecMainCode, as si_code of waitid(2); 0: nothing was run

CONTINUE = "import signal; signal.pidfd_send_signal(0, signal.SIGCONT)"


class _NotBegun(Exception):
    """The command was not run; the text says why."""


@dataclass(frozen=True, slots=True)
class _Command:
    """What is run: `kind` is in the unit's name, `files` are its output and perhaps its input."""

    kind: str
    service: str
    rung: Rung
    argv: tuple[str, ...]
    deadline: float
    files: tuple[int, ...]

    @property
    def kill_mode(self) -> str:
        return "process" if self.rung is Rung.RESTART else "control-group"


@dataclass(frozen=True, slots=True)
class Transient:
    """Runs the commands of one service so. `address` is another bus than the system's."""

    service: str
    address: str | None = None

    def run(self, rung: Rung, argv: tuple[str, ...], deadline: float = DEADLINE) -> Performed:
        """As `Runner` has it; the detail has `unit`, by which the journal knows it."""
        return self._run(rung.value, rung, argv, deadline)

    def let_go_on(self, process: int) -> None:
        """As `Runner` has it. Without CAP_KILL we may not: then a unit may, to which the pidfd is passed as its input.

        So it is this very life that gets the signal, as ever.
        """
        with contextlib.suppress(PermissionError):
            signal.pidfd_send_signal(process, signal.SIGCONT)
            return
        argv = (sys.executable, "-I", "-S", "-c", CONTINUE)
        performed = self._run("continue", Rung.CAPTURE, argv, CONTINUES_WITHIN, process)
        if performed.outcome is not Outcome.DONE:
            raise PermissionError(performed.reason)

    def _run(self, kind: str, rung: Rung, argv: tuple[str, ...], deadline: float, *inputs: int) -> Performed:
        detail: dict[str, Any] = {}
        with output_file(rung) as output:
            command = _Command(kind, self.service, rung, argv, deadline, (output, *inputs))
            try:
                return run_on_poll(_perform(command, self.address, detail))
            except _NotBegun as why:
                return Performed(rung, Outcome.REFUSED, str(why), detail)
            except (BusUnavailable, CallError) as error:
                reason = f"the {rung} command was not run: {error}"
                if "unit" in detail:
                    reason = f"the {rung} command may go on as {detail['unit']}, but how it ends is not known: {error}"
                return Performed(rung, Outcome.FAILED, reason, detail)


# --- the unit and its name --------------------------------------------------------------------------------------------


def unit_name(kind: str, service: str) -> str:
    """A name that no other run has: of two with one name, systemd would refuse the second, or forget the first."""
    return f"{_prefix(kind, service)}{os.urandom(4).hex()}.service"


def names_pattern(kind: str, service: str) -> str:
    """The glob(7) of all names that `unit_name` gives for these, and of none that it gives for others."""
    return _prefix(kind, service).replace("\\", "\\\\") + "[0-9a-f]" * 8 + ".service"


def _prefix(kind: str, service: str) -> str:
    escaped = re.sub(rb"[^A-Za-z0-9_.-]", lambda found: b"\\x%02x" % found[0][0], service.encode())
    return f"epoll-watchdog-{kind}-{escaped.decode()}-"


def _properties(command: _Command) -> list[list[Any]]:
    from dbus_fast.signature import Variant

    properties = {
        "Description": ("s", f"epoll-watchdog: {command.kind} command of {command.service}"),
        "Type": ("s", "oneshot"),
        "ExecStartEx": ("a(sasas)", [[command.argv[0], list(command.argv), ["no-env-expand"]]]),
        "TimeoutStartUSec": ("t", int(command.deadline * 1e6)),
        "TimeoutStartFailureMode": ("s", "kill"),
        "TimeoutStopUSec": ("t", int(STOP_WITHIN * 1e6)),
        "KillMode": ("s", command.kill_mode),
        "IgnoreSIGPIPE": ("b", False),  # systemd's default is for daemons: a pipeline in a script counts on it
        "CollectMode": ("s", "inactive-or-failed"),
        "AddRef": ("b", True),  # while we are connected it is kept, so that its exit code can be read
        "StandardOutputFileDescriptor": ("h", 0),
        "StandardErrorFileDescriptor": ("h", 0),
    }
    if len(command.files) > 1:
        properties["StandardInputFileDescriptor"] = ("h", 1)
    return [[name, Variant(*value)] for name, value in properties.items()]


# --- its run ----------------------------------------------------------------------------------------------------------


async def _perform(command: _Command, address: str | None, detail: dict[str, Any]) -> Performed:
    """Raises `_NotBegun`, `CallError` and `BusUnavailable`; the detail has `unit` once it may run."""
    begun = time.monotonic()
    jobs = Jobs()
    async with Bus(jobs.signal, address=address, passes_files=True) as bus:
        await _check_none_runs(bus, command, detail)
        unit = unit_name(command.kind, command.service)
        await bus.match(sender=SYSTEMD, interface=MANAGER, member="JobRemoved", arg2=unit)
        await bus.subscribe()
        job = await _start(bus, command, unit, detail)
        cancelled = await _end(bus, jobs, unit, job, command.deadline + PATIENCE)
        detail["duration_s"] = round(time.monotonic() - begun, 3)
        if still := await _still(bus, command, unit, job):
            return Performed(command.rung, Outcome.TIMED_OUT, still, detail)
        return await _judge(bus, command, unit, cancelled, detail)


async def _check_none_runs(bus: Bus, command: _Command, detail: dict[str, Any]) -> None:
    """There may be one that a helper has begun that was killed: names are unique, so systemd would not mind."""
    if unit := await _running(bus, command.kind, command.service):
        detail["unit"] = unit
        raise _NotBegun(f"the {command.rung} command of before still runs, as {unit}: `systemctl stop` ends it")


async def _running(bus: Bus, kind: str, service: str) -> str:
    """The unit of such a command that has not ended; empty where there is none."""
    pattern = names_pattern(kind, service)
    for row in (await bus.call(MANAGER, "ListUnitsByPatterns", "asas", [], [pattern]))[0]:
        unit, state, job_id = row[0], row[3], row[7]
        if state not in ENDED or job_id:
            return str(unit)
    return ""


async def runs(kind: str, service: str, address: str | None = None) -> bool:
    """Whether a command of this kind goes on, perhaps without us. Raises `BusUnavailable` and `CallError`."""
    async with Bus(address=address) as bus:
        return bool(await _running(bus, kind, service))


async def _start(bus: Bus, command: _Command, unit: str, detail: dict[str, Any]) -> str:
    """The path of its job. From here on it may run, also where the answer is lost."""
    detail["unit"] = unit
    properties, signature = _properties(command), "ssa(sv)a(sa(sv))"
    try:
        started = await bus.call(
            MANAGER, "StartTransientUnit", signature, unit, "fail", properties, [], files=command.files
        )
    except CallError as error:
        del detail["unit"]
        raise _NotBegun(f"systemd refuses to run the {command.rung} command: {error}") from error
    return str(started[0])


async def _end(bus: Bus, jobs: Jobs, unit: str, job: str, timeout_s: float) -> bool:
    """Wait for it; whether its job was cancelled: by a stop, mostly, and then the command ends later than its job."""
    until = time.monotonic() + timeout_s
    result = None
    while result is None and bus.connected and (left := until - time.monotonic()) > 0:
        result = await jobs.result(job, min(left, LOOK))
    while result == "canceled" and time.monotonic() < until:
        if _has_ended(await bus.unit(unit)):
            break
        await asyncio.sleep(STEP)
    return result == "canceled"


def _has_ended(unit: Listed | None) -> bool:
    return unit is None or (unit.active_state in ENDED and unit.job is None)


async def _still(bus: Bus, command: _Command, unit: str, job: str) -> str:
    """Why it has not ended long after its deadline; empty where it has."""
    listed = await bus.unit(unit)
    if listed is None or _has_ended(listed):
        return ""
    if listed.active_state in ENDED:
        with contextlib.suppress(CallError):  # it has just begun
            await bus.call(JOB, "Cancel", path=job)
        return f"the {command.rung} command waited for other jobs of systemd's, and was called off"
    return f"the {command.rung} command did not end within {command.deadline:g} s, nor after SIGKILL"


async def _judge(bus: Bus, command: _Command, unit: str, cancelled: bool, detail: dict[str, Any]) -> Performed:
    """What came of it, from systemd's own words on the ended unit."""
    listed = await bus.unit(unit)
    path = listed.path if listed else ""
    names = ("ExecMainCode", "ExecMainStatus", "Result")
    how, status, result = await asyncio.gather(*(bus.get(path, SERVICE, name) for name in names))
    if how == 0:
        reason = f"systemd did not come to run the {command.rung} command ({result})"
        return Performed(command.rung, Outcome.FAILED, reason, detail)
    detail["exit_code"] = code = status if how == CLD_EXITED else -status
    detail["output"] = tail(command.files[0])
    in_time = cancelled or (how, result) != (CLD_KILLED, "timeout")  # of its start; there is one of a stop too
    if not in_time:
        with contextlib.suppress(CallError):  # nobody is left
            await bus.call(MANAGER, "KillUnit", "ssi", unit, "all", int(signal.SIGKILL))
    if code == EXEC and not detail["output"]:
        reason = f"the {command.rung} command cannot be run: `journalctl -u {unit}` has systemd's reason"
        return Performed(command.rung, Outcome.REFUSED, reason, detail)
    return told(command.rung, in_time, code, command.deadline, detail)
