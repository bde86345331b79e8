"""The verb `capture`: the configured command that keeps what a restart would destroy, run on the main process.

It is done in a forked child of the helper, as a restart is, and on no process but the service's own. What captures is a
debugger, such as gcore, and attaches by PTRACE_ATTACH, which stops the process by a SIGSTOP: a debugger that is killed
before it has taken that leaves the process stopped (state T; in 15 of 15 tries on Linux 6.18). So after a capture that
did not end well, a process that was not stopped before and is now goes on by SIGCONT. Where we are killed
meanwhile, others see to that (`capturing.py`).

Sources: ptrace(2), PTRACE_ATTACH; pidfd_send_signal(2); kill(2), whom one may send SIGCONT to.
"""

from __future__ import annotations

from dataclasses import replace

from watchdog.helper import capturing
from watchdog.helper.command import DEADLINE, Child, Runner
from watchdog.helper.stopped import held, left_stopped, stands
from watchdog.model import Epoch, Outcome, Performed, Rung
from watchdog.target import Target, check_runs


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
        stood = stands(epoch.pid)
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
