"""The demo's child processes: the embedded service, and the daemon that guards it.

Rules of this file: a child ends with its context, whatever happened in it, and with the demo itself, however that
ended. It has a session of its own, so that Ctrl-C in the terminal reaches the demo alone, which ends its children in
order. prctl(2) (PR_SET_PDEATHSIG), setsid(2).
"""

from __future__ import annotations

import collections
import ctypes
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
END_WITHIN_S = 5.0
READY_WITHIN_S = 15.0
PYTHON = (sys.executable, "-P")  # whatever lies in the working directory is not imported

_prctl = ctypes.CDLL(None, use_errno=True).prctl


class NotReady(Exception):
    """A child ended, or did not become ready; the text has what it wrote."""


class NoAnswer(Exception):
    """The daemon's API could not be asked."""


@contextmanager
def child(
    argv: Sequence[str], *, log: Path, stdout: int | None = None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `argv`; what it writes goes to `log`, but for stdout where `stdout` says otherwise."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output if stdout is None else stdout,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(env or {})},
            preexec_fn=_end_with_parent,  # noqa: PLW1509  one prctl, no lock taken
        )
    try:
        yield process
    finally:
        end(process)


def _end_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL to whom that does not end within 5 s."""
    process.terminate()
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the embedded service answers."""

    pid: int
    pidfile: str
    tcp: str
    unix: str
    snmp: str


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to the service's loop, and when by CLOCK_MONOTONIC: "lost", "useless" or "woken"."""

    name: str
    at: float


class Service:
    """The embedded service, as its parent sees it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        assert process.stdout is not None
        self._process = process
        self._stdout = process.stdout.fileno()
        self._rest = b""
        self._lines: collections.deque[Mapping[str, Any]] = collections.deque()
        os.set_blocking(self._stdout, False)
        try:
            self.addresses = Addresses(**self._next(READY_WITHIN_S))
        except (TimeoutError, EOFError):
            raise NotReady(f"the service did not start: {log.read_text(errors='replace')}") from None

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    def lose_wakeup(self) -> None:
        """Make its event loop sleep through whatever comes next."""
        self._process.send_signal(signal.SIGUSR1)

    def events(self) -> list[Event]:
        """What happened since the last call. Does not wait."""
        came = []
        with suppress(TimeoutError, EOFError):
            while True:
                came.append(_event(self._next(0)))
        return came

    def next_event(self, within_s: float = 5.0) -> Event:
        """What happened next. Raises `TimeoutError`, or `EOFError` where the service has ended."""
        return _event(self._next(within_s))

    def _next(self, within_s: float) -> Mapping[str, Any]:
        poller = select.poll()
        poller.register(self._stdout, select.POLLIN)
        deadline = time.monotonic() + within_s
        while not self._lines:
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError(f"the service told of nothing within {within_s:g} s")
            data = os.read(self._stdout, 65536)
            if not data:
                raise EOFError("the service has ended")
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._lines.extend(json.loads(line) for line in lines)
        return self._lines.popleft()


def _event(entry: Mapping[str, Any]) -> Event:
    return Event(entry["event"], entry["monotonic"])


@contextmanager
def service(directory: Path, *options: str) -> Iterator[Service]:
    """The embedded service in `directory`, ready to answer. Raises `NotReady`."""
    log = directory / "service.log"
    argv = [*PYTHON, "-m", "watchdog.demo.service", "--dir", str(directory), *options]
    with child(argv, log=log, stdout=subprocess.PIPE) as process:
        yield Service(process, log)


class Daemon:
    """The real daemon, as its parent sees it."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, log: Path) -> None:
        self.process = process
        self.address = address
        self.log = log

    def get(self, path: str) -> Any:
        """What the API answers to GET `path`. Raises `NoAnswer`."""
        return json.loads(self.text(path))

    def text(self, path: str) -> str:
        """The same, not parsed."""
        connection = http.client.HTTPConnection(self.address, timeout=2)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"GET {path}: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise NoAnswer(f"GET {path}: {response.status} {body[:200]}")
        return body

    def said(self) -> str:
        """All that it wrote."""
        return self.log.read_text(errors="replace")


@contextmanager
def daemon(
    config: Path,
    address: str,
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    within_s: float = READY_WITHIN_S,
) -> Iterator[Daemon]:
    """The daemon with `config`, whose `[http] listen` is `address`; ready when it says so. Raises `NotReady`.

    `before` is a command that becomes the daemon (setpriv, say).
    """
    argv = [*before, *PYTHON, "-m", "watchdog", "run", "--config", str(config)]
    with child(argv, log=log, env=env) as process:
        running = Daemon(process, address, log)
        deadline = time.monotonic() + within_s
        while not _ready(running):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotReady(f"the daemon did not start: {running.said()}")
            time.sleep(0.02)
        yield running


def _ready(running: Daemon) -> bool:
    try:
        running.text("/-/ready")
    except NoAnswer:
        return False
    return True
