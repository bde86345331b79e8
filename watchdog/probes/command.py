"""The exec probe: a command, judged by its exit code as Nagios judges a plugin.

0 (OK) and 1 (WARNING) are *alive*, 2 (CRITICAL) is *silent*; 3 (UNKNOWN) and all else say that the command itself could
not tell: *error*. A command that does not end in time is *silent*, as is any witness that keeps silent.
Monitoring Plugins Development Guidelines, "Plugin Return Codes".

Rules of this file: no shell; no input; of our environment nothing, our secrets least of all. `keeper.py` runs the
command and ends it with all that it started, once it has ended, is too late, or its probe is dropped. As long as one
run has not ended wholly (a process in a hung disk can't be killed), the same probe starts no other. It costs 13 ms of
CPU, beside what the command costs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from watchdog.model import Epoch, Kind, Observation, Plane, Road, Strength
from watchdog.probes import sockets
from watchdog.probes.attempt import Finding, Found, observe, one_line
from watchdog.probes.deadline import Deadline

KEEPER = str(Path(__file__).with_name("keeper.py"))
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
PID = "EPOLL_WATCHDOG_PID"
CLOSING = 0.2  # s for runs that are ending, when all probes are released


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`command` is a program, as an absolute path, and its arguments; `{pid}` in them stands for the main PID."""

    command: tuple[str, ...]
    strength: Strength = Strength.PROCESS

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("command: is empty; give a program as an absolute path, and its arguments")
        if not self.command[0].startswith("/"):
            raise ValueError(f'command: "{self.command[0]}" is no absolute path; no shell and no PATH will find it')
        if any("\0" in word for word in self.command):
            raise ValueError("command: holds a NUL character; no argument can")


def road(settings: Settings) -> Road:
    """A witness, as strong as the settings say: nobody here can know what the command asks."""
    return Road(Plane.WITNESS, strength=settings.strength)


def warnings(_settings: Settings) -> tuple[str, ...]:
    """Nothing: what there is to know, the settings say."""
    return ()


async def probe(settings: Settings, target: Epoch | None, deadline: Deadline) -> Observation:
    """Run it once."""
    return await observe(_attempt(settings, target, deadline), deadline)


async def _attempt(settings: Settings, target: Epoch | None, deadline: Deadline) -> Finding:
    argv = _argv(settings.command, target)
    environment = ENVIRONMENT if target is None else {**ENVIRONMENT, PID: str(target.pid)}
    key = settings, target
    deadline.ours = "the run before this one could not be ended"
    while (before := _runs.get(key)) is not None:
        await asyncio.shield(before.ended)
    deadline.ours = "the command was not started"
    run = _runs[key] = Run(argv, environment, lambda: _runs.pop(key))
    try:
        return judge(await run.told(deadline))
    finally:
        run.end()


def _argv(command: tuple[str, ...], target: Epoch | None) -> list[str]:
    if target is None and any("{pid}" in word for word in command):
        raise Found((Kind.ERROR, "the command has {pid}, and the service has no process"))
    pid = "" if target is None else str(target.pid)
    return [word.replace("{pid}", pid) for word in command]


def judge(told: bytes) -> Finding:
    """What a run says, in the keeper's words."""
    how, _, output = told.partition(b"\n")
    what, _, number = how.decode().partition(" ")
    line = last_line(output)
    shown = f' ("{line}")' if line else ""
    match what, number:
        case "exit", "0" | "1":
            return Kind.ALIVE, f"exit code {number}{shown}"
        case "exit", "2":
            return Kind.SILENT, f"exit code 2{shown}"
        case "exit", _:
            return Kind.ERROR, f"exit code {number}{shown}: the command could not tell"
        case "signal", _:
            return Kind.ERROR, f"the command was killed: {signal.strsignal(int(number))}{shown}"
        case "flood", _:
            return Kind.ERROR, f"the command wrote more than 1 MiB{shown}"
    return Kind.ERROR, "the command's keeper ended without a word"


def last_line(output: bytes) -> str:
    """The last line that is not empty, in printable characters, at most 120 of them."""
    lines = [line for line in output.decode(errors="backslashreplace").splitlines() if line.strip()]
    text = lines[-1] if lines else ""
    return one_line("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))


# --- a run ------------------------------------------------------------------------------------------------------------


class Run:
    """A command under way, and its keeper; `ended` once nothing of it is left: then `forget` is called, too."""

    def __init__(self, argv: list[str], environment: Mapping[str, str], forget: Callable[[], object]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._forget = forget
        self._sock, theirs = socket.socketpair()
        with ExitStack() as undo:
            undo.callback(self._sock.close)
            with theirs:
                self._keeper = _start(argv, environment, theirs)
            undo.callback(self._keeper.wait)
            undo.callback(self._keeper.kill)
            self._pidfd = os.pidfd_open(self._keeper.pid)
            undo.pop_all()
        self._sock.setblocking(False)

    async def told(self, deadline: Deadline) -> bytes:
        """How the command ended, and the last of its output, in the keeper's words."""
        told = b""
        with suppress(ConnectionResetError):
            while chunk := await sockets.receive(self._sock):
                deadline.ours, deadline.connected, deadline.did = "", True, "the command runs on"
                told += chunk
        return told.removeprefix(b"run\n")

    def end(self) -> None:
        """Let the keeper end what is left, and reap it when it has. Never waits."""
        self._sock.close()
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._keeper.wait()
        self._forget()
        self.ended.set_result(None)


def _start(argv: list[str], environment: Mapping[str, str], asker: socket.socket) -> subprocess.Popen[bytes]:
    # Isolated, without the site's packages: it needs none, and starts in half the time.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", KEEPER, *argv],
        stdin=asker.fileno(),
        stdout=subprocess.DEVNULL,
        cwd="/",
        env=environment,
        start_new_session=True,
    )


_runs: dict[tuple[Settings, Epoch | None], Run] = {}


async def close() -> None:
    """Wait for the runs that are ending: shortly, for a process that can't be killed ends no sooner for it."""
    if _runs:
        await asyncio.wait([run.ended for run in _runs.values()], timeout=CLOSING)
