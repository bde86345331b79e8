"""A command of the config that root runs for a service: its restart, or the capture before it.

A command is an argv, never a shell. It gets a session of its own, no input, and for what it says a file in memory that
cannot grow (memfd_create(2), F_SEAL_GROW): behind a pipe, the service that it leaves running would later die of
SIGPIPE, or we would wait for its end. What writes more than the file takes gets EPERM.

Here it runs as our child, with our powers and in our cgroup, as whoever sits at a terminal expects. Where the helper
is a service of systemd's, `transient.py` runs it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Protocol

from watchdog.helper.limits import DEADLINE as DEADLINE
from watchdog.model import Outcome, Performed, Rung

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
    "STATE_DIRECTORY",
)


class Runner(Protocol):
    """Who runs commands, and with whose powers."""

    def run(self, rung: Rung, argv: tuple[str, ...], deadline: float = DEADLINE) -> Performed:
        """Run it to its end; past `deadline` seconds it is killed, with what it has started. Raises nothing."""
        ...

    def let_go_on(self, process: int) -> None:
        """Send SIGCONT to the process of this pidfd. Raises `ProcessLookupError` and `PermissionError`."""
        ...


class Child:
    """Runs them as our children."""

    def run(self, rung: Rung, argv: tuple[str, ...], deadline: float = DEADLINE) -> Performed:
        """As `Runner` has it: what is killed is the command's process group."""
        begun = time.monotonic()
        with output_file(rung) as output:
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
                return Performed(rung, Outcome.REFUSED, f"the {rung} command cannot be run: {error}")
            in_time = _wait(process, deadline)
            if not in_time:
                os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
            code = process.wait()
            detail = {"exit_code": code, "output": tail(output), "duration_s": round(time.monotonic() - begun, 3)}
        return told(rung, in_time, code, deadline, detail)

    def let_go_on(self, process: int) -> None:
        """As `Runner` has it."""
        signal.pidfd_send_signal(process, signal.SIGCONT)


@contextlib.contextmanager
def output_file(rung: Rung) -> Iterator[int]:
    """The file for what a command says, for as long as we read it."""
    output = os.memfd_create(f"{rung}-output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(output, OUTPUT_SIZE)
        fcntl.fcntl(output, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        yield output
    finally:
        os.ftruncate(output, 0)  # where the service still holds it, it costs no memory
        os.close(output)


def tail(output: int) -> str:
    """The last that was said there."""
    said = os.lseek(output, 0, os.SEEK_CUR)  # one offset for all who share the file
    size = min(said, KEPT_OUTPUT)
    return os.pread(output, size, said - size).decode(errors="replace").strip()


def _wait(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Whether it ends in time (pidfd_open(2): no polling, and a child that ends at once is not missed)."""
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(pidfd)


def told(rung: Rung, in_time: bool, code: int, deadline: float, detail: dict[str, Any]) -> Performed:
    """What came of it; `code` is its exit code, or minus the signal that it died of."""
    last = detail["output"].splitlines()[-1][:200] if detail["output"] else "it said nothing"
    if not in_time:
        reason = f"the {rung} command did not end within {deadline:g} s and was killed: {last}"
        return Performed(rung, Outcome.TIMED_OUT, reason, detail)
    if code != 0:
        how = f"ended with {code}" if code > 0 else f"was killed by signal {-code}"
        return Performed(rung, Outcome.FAILED, f"the {rung} command {how}: {last}", detail)
    return Performed(rung, Outcome.DONE, f"the {rung} command ended well", detail)
