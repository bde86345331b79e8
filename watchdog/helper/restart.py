"""The verb `restart`: through systemd for a unit, by the configured command for anything else.

It runs in a forked child of the helper: it blocks, and imports what the resident helper shall not carry. Nothing is
started that is not running: where the process that was to be ended has ended already, its operator may have stopped it.

A command is an argv, never a shell. It gets a session of its own, no input, and for what it says a file in memory that
cannot grow (memfd_create(2), F_SEAL_GROW): behind a pipe, the service that it leaves running would later die of
SIGPIPE, or the restart would wait for its end. What writes more than the file takes gets EPERM.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from watchdog.helper.unit_restart import try_restart
from watchdog.model import Epoch, Outcome, Performed, Rung
from watchdog.systemd import BusUnavailable, run_on_poll
from watchdog.target import Target

COMMAND_DEADLINE = 180.0  # s, as much as systemd gives a stop and a start together
OUTPUT_SIZE = 1 << 20  # bytes, that a command can say
KEPT_OUTPUT = 2000  # bytes, of the end of it
OURS = (  # what systemd tells the helper of itself: it is nobody else's
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "CREDENTIALS_DIRECTORY",
)


def restart(target: Target, epoch: Epoch | None, *, command_deadline: float = COMMAND_DEADLINE) -> Performed:
    """Restart the service, and wait until that is done.

    `epoch` pins the life that is to be ended; None ends whichever there is. Nothing is raised for what the service or
    systemd do: the outcome says it. `command_deadline` is in seconds.
    """
    if target.restart_command:
        if epoch is not None and _ended(epoch):
            reason = f"process {epoch.pid} has ended already: nothing is started that its operator may have stopped"
            return Performed(Rung.RESTART, Outcome.GONE, reason)
        return run_command(target.restart_command, command_deadline)
    if target.unit is None:
        reason = "nothing can restart this service: it is no systemd unit, and has no restart_command"
        return Performed(Rung.RESTART, Outcome.REFUSED, reason)
    invocation_id = epoch.invocation_id if epoch else ""
    try:
        return run_on_poll(try_restart(target.unit, also_restarts=target.also_restarts, invocation_id=invocation_id))
    except BusUnavailable as error:
        return Performed(Rung.RESTART, Outcome.FAILED, str(error))


def _ended(epoch: Epoch) -> bool:
    """Whether the process is gone, is a zombie, or its PID is another's by now (proc(5), /proc/PID/stat)."""
    try:
        stat = Path(f"/proc/{epoch.pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    fields = stat.rpartition(")")[2].split()
    return fields[0] in "ZX" or int(fields[19]) != epoch.start_time


def run_command(argv: tuple[str, ...], deadline: float) -> Performed:
    """Run it to its end; past `deadline` seconds it is killed, with all that is still in its process group."""
    begun = time.monotonic()
    output = _output()
    try:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env={name: value for name, value in os.environ.items() if name not in OURS},
            )
        except OSError as error:
            return Performed(Rung.RESTART, Outcome.REFUSED, f"the restart command cannot be run: {error}")
        ended = _wait(process, deadline)
        if not ended:
            os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
        code = process.wait()
        detail = {"exit_code": code, "output": _tail(output), "duration_s": round(time.monotonic() - begun, 3)}
    finally:
        os.ftruncate(output, 0)  # where the service still holds it, it costs no memory
        os.close(output)
    return _told(ended, code, deadline, detail)


def _output() -> int:
    output = os.memfd_create("restart-output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(output, OUTPUT_SIZE)
    fcntl.fcntl(output, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    return output


def _wait(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Whether it ends in time (pidfd_open(2): no polling, and a child that ends at once is not missed)."""
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(pidfd)


def _tail(output: int) -> str:
    said = os.lseek(output, 0, os.SEEK_CUR)  # one offset for all who share the file
    size = min(said, KEPT_OUTPUT)
    return os.pread(output, size, said - size).decode(errors="replace").strip()


def _told(ended: bool, code: int, deadline: float, detail: dict[str, Any]) -> Performed:
    last = detail["output"].splitlines()[-1][:200] if detail["output"] else "it said nothing"
    if not ended:
        reason = f"the restart command did not end within {deadline:g} s and was killed: {last}"
        return Performed(Rung.RESTART, Outcome.TIMED_OUT, reason, detail)
    if code != 0:
        how = f"ended with {code}" if code > 0 else f"was killed by signal {-code}"
        return Performed(Rung.RESTART, Outcome.FAILED, f"the restart command {how}: {last}", detail)
    return Performed(Rung.RESTART, Outcome.DONE, "the restart command ended well", detail)
