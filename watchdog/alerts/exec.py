"""The channel `exec`: a command that is given the event on its input, as the JSON that a webhook gets.

Exit code 0: delivered. 75 (EX_TEMPFAIL of sysexits.h) and a command that is too late: worth another attempt. All else
would go no better soon.

Rules of this file: no shell; nothing of our environment, which holds secrets; our user, and no right beyond its own.
Input and output are files in memory (memfd_create(2)): no pipe that a command could let fill up, and what it leaves
running dies of no SIGPIPE. Past the deadline, or when the daemon stops, its process group is killed. `unspared.py` is
what is started, and becomes the command: where memory runs out, the command is to end before the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.alerts import webhook
from watchdog.alerts.delivery import Delivered, Failed
from watchdog.alerts.message import one_line
from watchdog.alerts.outgoing import Unusable
from watchdog.alerts.routing import Routing
from watchdog.settings import Seconds, format_duration

if TYPE_CHECKING:
    from watchdog.store import Letter

UNSPARED = str(Path(__file__).with_name("unspared.py"))
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
LATER = os.EX_TEMPFAIL
OUTPUT = 1 << 16  # bytes that a command can write; more gets EPERM
DYING = 1.0  # s
TOLD = 2000  # bytes, of the end of it, that are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Routing):
    """A `[channel.NAME]` table with `type = "exec"`: a program, as an absolute path, and its arguments."""

    command: tuple[str, ...]
    timeout: Seconds = 30.0

    def __post_init__(self) -> None:
        Routing.__post_init__(self)
        if not self.command:
            raise Unusable("command: is empty; give a program as an absolute path, and its arguments")
        if not self.command[0].startswith("/"):
            raise Unusable(f'command: "{self.command[0]}" is no absolute path; no shell and no PATH will find it')
        if any("\0" in word for word in self.command):
            raise Unusable("command: holds a NUL character; no argument can")


class Exec:
    """One command."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._host = socket.gethostname()

    async def send(self, letter: Letter) -> Delivered | Failed:
        """One run."""
        try:
            with _memory() as event, _memory() as output, _memory() as refusal:
                os.write(event, webhook.body(letter, self._host))
                os.lseek(event, 0, os.SEEK_SET)
                os.ftruncate(output, OUTPUT)
                fcntl.fcntl(output, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
                code = await self._run(event, output, refusal)
                if refused := os.pread(refusal, 16, 0):
                    raise OSError(int(refused), os.strerror(int(refused)))
                return self._result(code, _last(output))
        except OSError as error:
            return Failed(
                retry=error.errno in (errno.EAGAIN, errno.ENOMEM), error=f"the command cannot be run: {error.strerror}"
            )

    async def close(self) -> None:
        """Nothing is held."""

    async def _run(self, event: int, output: int, refusal: int) -> int | None:
        """Its exit code, or minus the signal that it died of; None: it was too late, and is killed."""
        process = _start(self._settings.command, event, output, refusal)
        try:
            async with asyncio.timeout(self._settings.timeout):
                await _ended(process.pid)
            return process.wait()
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                with contextlib.suppress(PermissionError):  # a setuid program, which is not ours to end
                    os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
                with contextlib.suppress(TimeoutError):  # SIGKILL does not reach what waits for a hung disk
                    async with asyncio.timeout(DYING):
                        await _ended(process.pid)
                process.poll()

    def _result(self, code: int | None, said: str) -> Delivered | Failed:
        shown = f' ("{said}")' if said else ""
        if code is None:
            late = f"the command did not end within {format_duration(self._settings.timeout)} and was killed"
            return Failed(retry=True, error=late + shown)
        if code == 0:
            return Delivered()
        how = f"ended with {code}" if code > 0 else f"was killed: {signal.strsignal(-code)}"
        return Failed(retry=code == LATER, error=f"the command {how}{shown}")


def _start(command: tuple[str, ...], event: int, output: int, refusal: int) -> subprocess.Popen[bytes]:
    # Isolated, without the site's packages: it needs none, and starts in half the time.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", UNSPARED, str(refusal), *command],
        pass_fds=(refusal,),
        stdin=event,
        stdout=output,
        stderr=output,
        start_new_session=True,
        cwd="/",
        env=ENVIRONMENT,
    )


async def _ended(pid: int) -> None:
    """Wait for a child's end, without reaping it (pidfd_open(2))."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def _memory() -> Iterator[int]:
    descriptor = os.memfd_create("alert", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _last(output: int) -> str:
    """The last line that was written there."""
    said = os.lseek(output, 0, os.SEEK_CUR)  # one offset for all who share the file
    size = min(said, TOLD)
    text = os.pread(output, size, said - size).decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    return one_line(lines[-1], 200) if lines else ""
