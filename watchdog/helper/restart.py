"""The verb `restart`: through systemd for a unit, by the configured command for anything else.

It runs in a forked child of the helper: it blocks, and imports what the resident helper shall not carry. Nothing is
started that is not running: where the process that was to be ended has ended already, its operator may have stopped it.
"""

from __future__ import annotations

from watchdog.helper.command import DEADLINE, ended, run
from watchdog.helper.unit_restart import try_restart
from watchdog.model import Epoch, Outcome, Performed, Rung
from watchdog.systemd import BusUnavailable, run_on_poll
from watchdog.target import Target


def restart(target: Target, epoch: Epoch | None, *, command_deadline: float = DEADLINE) -> Performed:
    """Restart the service, and wait until that is done.

    `epoch` pins the life that is to be ended; None ends whichever there is. Nothing is raised for what the service or
    systemd do: the outcome says it. `command_deadline` is in seconds.
    """
    if target.restart_command:
        if epoch is not None and ended(epoch):
            reason = f"process {epoch.pid} has ended already: nothing is started that its operator may have stopped"
            return Performed(Rung.RESTART, Outcome.GONE, reason)
        return run(Rung.RESTART, target.restart_command, command_deadline)
    if target.unit is None:
        reason = "nothing can restart this service: it is no systemd unit, and has no restart_command"
        return Performed(Rung.RESTART, Outcome.REFUSED, reason)
    invocation_id = epoch.invocation_id if epoch else ""
    try:
        return run_on_poll(try_restart(target.unit, also_restarts=target.also_restarts, invocation_id=invocation_id))
    except BusUnavailable as error:
        return Performed(Rung.RESTART, Outcome.FAILED, str(error))
