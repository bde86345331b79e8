"""How the brain reaches the helper: as its child over a socket pair, or at the socket that systemd listens on.

Rules: neither waits for anything when it opens a connection; that the helper is there shows in its answers. A child
that is parted with is ended, which harms no service; a helper of systemd's is not ours to end: it takes its time and
lets go by itself.

Sources: unix(7) on what connect(2) says; pidfd_open(2).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CLOSE_TIMEOUT = 0.5  # seconds for a child to end by itself
UNIT = "epoll-watchdog-helper.socket"
COMMAND = (sys.executable, "-P", "-m", "watchdog.helper")
LEDGER = "helper-ledger.json"  # in the daemon's state directory: where a child keeps account


def helper_command(config: Path, ledger: Path, command: tuple[str, ...] = COMMAND) -> tuple[str, ...]:
    """What starts a child that serves the services of this config."""
    return (*command, "--config", str(config), "--ledger", str(ledger))


class Unreachable(Exception):
    """There is no connection to a helper; in one line why, and what an operator can do."""


@dataclass(frozen=True, slots=True)
class Parting:
    """Why the connection is no more, in one line; `excused`: that it ended says nothing against the next one."""

    reason: str
    excused: bool = False


class Link(Protocol):
    """A way to a helper."""

    given_up: str  # what becomes of one that does not answer
    again: str  # how a new one comes about

    @property
    def pid(self) -> int | None:
        """Of the helper, where it is ours to know."""

    def open(self) -> socket.socket:
        """A connection that does not block. Raises `Unreachable`."""

    def part(self, reason: str) -> Parting:
        """The connection was closed, for this reason; empty: from the other end."""

    async def close(self) -> None:
        """The connection was closed for good."""


class Child:
    """A helper of our own, started by `command` and `--fd N`.

    The variables in `withheld` are not in its environment, so that no command that it runs has them: they are secrets.
    """

    given_up = "so it was killed"
    again = "it is started again"

    def __init__(self, command: tuple[str, ...], withheld: Collection[str] = ()) -> None:
        self._command = command
        self._withheld = withheld
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [*self._command, "--fd", str(theirs.fileno())]
            try:
                # A session of its own: Ctrl-C in a terminal is for the daemon, which then ends the helper.
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    env={name: value for name, value in os.environ.items() if name not in self._withheld},
                )
            except OSError as error:
                ours.close()
                raise Unreachable(f"it can't be started: {error}") from None
        ours.setblocking(False)
        return ours

    def part(self, reason: str) -> Parting:
        process, self._process = self._process, None
        if process is None:
            return Parting(reason)
        status = _kill(process) if reason else _end(process)
        how = f"signal {-status}" if status < 0 else f"status {status}"
        # One that did its work, and that somebody ended.
        return Parting(reason or f"the helper ended ({how})", excused=not reason and status == -signal.SIGKILL)

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        end = os.pidfd_open(process.pid)
        loop.add_reader(end, ended.set)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await ended.wait()
        finally:
            loop.remove_reader(end)
            os.close(end)
            _kill(process)


class Socket:
    """The helper behind a listening socket: whoever listens there starts it when we come, and ends it when it likes."""

    given_up = "so the connection was dropped"
    again = "it is tried again"
    pid = None

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(os.fspath(self._path))
        except OSError as error:
            connection.close()
            raise Unreachable(self._why(error)) from None
        return connection

    def part(self, reason: str) -> Parting:
        return Parting(reason or "the helper closed the connection", excused=not reason)  # as when it is restarted

    async def close(self) -> None:
        pass

    def _why(self, error: OSError) -> str:
        told = f"{self._path}: {error.strerror or error}"
        match error.errno:
            case errno.ENOENT | errno.ENOTDIR:
                return f"{told}; is {UNIT} started? `systemctl start {UNIT}`"
            case errno.ECONNREFUSED:
                return f"{told}: nobody listens there any more; `systemctl restart {UNIT}`"
            case errno.EACCES:
                return f"{told}; {_who_may(self._path)}"
            case errno.EAGAIN:
                return f"{told}: too many wait there already; `systemctl status {UNIT}` tells why"
        return told


def _who_may(path: Path) -> str:
    try:
        group = path.stat().st_gid
    except OSError:
        return f"its directory {path.parent} is closed to this user"
    try:
        name = grp.getgrgid(group).gr_name
    except KeyError:
        name = str(group)
    return f"the user of this process must be in the group {name!r}"


def _end(process: subprocess.Popen[bytes]) -> int:
    """The status of one that has let go of its socket: its end is at hand."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(0.1)
    return _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> int:
    """End it if it has not ended; its status. One that hangs in the kernel is not waited for."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(0.2)
    return -signal.SIGKILL
