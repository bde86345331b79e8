"""The verb `restart`: through systemd for a unit, by the configured command for anything else.

It runs in a forked child of the helper: it blocks, and imports what the resident helper shall not carry. Nothing is
started that is not running: where the process that was to be ended has ended already, its operator may have stopped it.
A command cannot know that, so it is looked at before: systemd knows it of a unit; what names anything else, names a
living process or not.
"""

from __future__ import annotations

from watchdog.helper.command import DEADLINE, Child, Runner
from watchdog.helper.unit_restart import RESTARTABLE, try_restart
from watchdog.model import Epoch, Outcome, Performed, Rung
from watchdog.systemd import Bus, BusUnavailable, CallError, run_on_poll
from watchdog.target import Gone, Target, check_runs, find


def restart(
    target: Target,
    epoch: Epoch | None,
    *,
    runner: Runner | None = None,
    command_deadline: float = DEADLINE,
    directory: str = "",
) -> Performed:
    """Restart the service, and wait until that is done.

    `epoch` pins the life that is to be ended; None ends whichever there is. Nothing is raised for what the service or
    systemd do: the outcome says it. Raises a `Refusal` where `epoch` is none of the service, or its pidfile is not to
    be trusted. `runner` runs a command, as our child where nothing is said; `command_deadline` is in seconds;
    `directory` is where a unit's restart is recorded while it is under way.
    """
    try:
        if target.restart_command:
            return _by_command(target, epoch, runner or Child(), command_deadline)
        if target.unit is None:
            reason = "nothing can restart this service: it is no systemd unit, and has no restart_command"
            return Performed(Rung.RESTART, Outcome.REFUSED, reason)
        invocation_id = epoch.invocation_id if epoch else ""
        return run_on_poll(
            try_restart(
                target.unit, also_restarts=target.also_restarts, invocation_id=invocation_id, directory=directory
            )
        )
    except BusUnavailable as error:
        return Performed(Rung.RESTART, Outcome.FAILED, str(error))


def _by_command(target: Target, epoch: Epoch | None, runner: Runner, deadline: float) -> Performed:
    try:
        if epoch is not None:
            check_runs(target, epoch)
        elif target.unit is not None:
            run_on_poll(_check_unit_runs(target.unit))
        elif find(target) is None:
            raise Gone(f"{target} names no living process")
    except Gone as gone:
        reason = f"{gone}: nothing is started that its operator may have stopped"
        return Performed(Rung.RESTART, Outcome.GONE, reason)
    return runner.run(Rung.RESTART, target.restart_command, deadline)


async def _check_unit_runs(unit: str) -> None:
    try:
        async with Bus() as bus:
            listed = await bus.unit(unit)
    except CallError as error:
        raise BusUnavailable(f"systemd does not tell whether {unit} runs: {error}") from error
    if listed is None or listed.active_state not in RESTARTABLE:
        state = f"{listed.active_state} ({listed.sub_state})" if listed is not None else "unknown to systemd"
        raise Gone(f"{unit} is {state}")
