"""The verb `capture`: the configured command that keeps what a restart would destroy, run on the main process.

It is done in a forked child of the helper, as a restart is, and on no process but the service's own. What captures is a
debugger, such as gcore, and attaches by PTRACE_ATTACH, which stops the process by a SIGSTOP: a debugger that is killed
before it has taken that leaves the process stopped (state T; in 15 of 15 tries on Linux 6.18). So after a capture that
did not end well, a process that was not stopped before and is now goes on by SIGCONT. Where we are killed
meanwhile, others see to that (`capturing.py`).

Sources: ptrace(2), PTRACE_ATTACH; pidfd_send_signal(2); kill(2), whom one may send SIGCONT to.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace

from watchdog.helper import capturing
from watchdog.helper.command import DEADLINE, Child, Runner
from watchdog.helper.limits import LET_GO_WITHIN, STOPS_WITHIN
from watchdog.model import Epoch, Outcome, Performed, Rung
from watchdog.target import Gone, Target, check_alive, check_runs, contents

STEP = 0.01  # s between two looks: no event tells of either


def capture(
    target: Target,
    epoch: Epoch,
    *,
    runner: Runner | None = None,
    command_deadline: float = DEADLINE,
    service: str = "",
    directory: str = "",
) -> Performed:
    """Run the capture command on this life of the main process.

    `runner` runs it, as our child where nothing is said; `command_deadline` is in seconds. While it
    is under way it is recorded in `directory`, as one of `service`; nowhere where that is empty.

    Raises a `Refusal` where that is none of the service, or has ended.
    """
    if not target.capture:
        reason = "the config names no capture command for this service"
        return Performed(Rung.CAPTURE, Outcome.REFUSED, reason)
    check_runs(target, epoch)
    argv = tuple(word.replace("{pid}", str(epoch.pid)) for word in target.capture)
    runner = runner or Child()
    with held(epoch) as process:
        stood = _stands(epoch.pid)
        try:
            if not stood:
                capturing.record(directory, service, epoch)
        except OSError as error:
            reason = f"the capture can't be recorded, so there is none: {error.strerror}"
            return Performed(Rung.CAPTURE, Outcome.REFUSED, reason)
        performed = _captured(runner, argv, command_deadline, epoch.pid, stood, process)
    if _is_over(performed):
        capturing.forget(directory, epoch)
    return performed


def _captured(runner: Runner, argv: tuple[str, ...], deadline: float, pid: int, stood: bool, process: int) -> Performed:
    performed = runner.run(Rung.CAPTURE, argv, deadline)
    not_run = performed.outcome is Outcome.REFUSED
    if performed.outcome is Outcome.DONE or not_run or stood or not left_stopped(pid):
        return performed
    return _continued(performed, pid, process, runner)


def _is_over(performed: Performed) -> bool:
    """Whether the command has ended, or was never run, and has left nobody stopped."""
    detail = performed.detail
    ended = performed.outcome is Outcome.REFUSED or "exit_code" in detail or "unit" not in detail
    return ended and detail.get("continued", True)


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


def _continued(performed: Performed, pid: int, process: int, runner: Runner) -> Performed:
    left = f"{performed.reason}; it left process {pid} stopped"
    try:
        runner.let_go_on(process)
    except ProcessLookupError:
        return performed  # nobody is left who could stand still
    except PermissionError:
        told, went_on = f"{left}, and to let it go on is not permitted here: `kill -CONT {pid}` does", False
    else:
        told, went_on = f"{left}, so it was let go on by SIGCONT", True
    return replace(performed, reason=told, detail={**performed.detail, "left_stopped": True, "continued": went_on})


def left_stopped(pid: int) -> bool:
    """Whether it is stopped by a signal, and not traced, once who was killed just now has let go of it."""
    until = time.monotonic() + LET_GO_WITHIN
    while _traced(pid) and time.monotonic() < until:
        time.sleep(STEP)
    until = time.monotonic() + STOPS_WITHIN
    while not (stands := _stands(pid)) and time.monotonic() < until:
        time.sleep(STEP)
    return stands and not _traced(pid)


def _stands(pid: int) -> bool:
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
