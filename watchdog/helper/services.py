"""The services that the helper may touch: those of the config, read by itself, and no others.

Rules: the config is validated by the same child that the brain asks (`python -m watchdog.config PATH --for-helper`), so
that pydantic is never loaded here; as root only files that nobody but root could have put there are believed (`trust`);
a change of any file that was read, or of conf.d, makes it stale; a config that is bad leaves the old one in force.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from watchdog.helper import trust
from watchdog.helper.limits import LOAD_TIMEOUT
from watchdog.model import Budget, Method, Mode, Rung
from watchdog.target import Match, Nudging, Target

RETRY = 5.0  # seconds until a bad config is read again: a file that it names may have been mended unseen
CLOCK_GRAIN = 0.1  # seconds: a file's time stamp may lag behind the clock by a tick of the kernel

Load = Callable[[], Any]  # done in a worker; returns what --for-helper prints, as plain values


class ConfigBad(Exception):
    """The config can't be used; in one line why."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """One service of the config: what it is, how far one may go with it, and how often each remedy may be used."""

    target: Target
    mode: Mode
    budgets: Mapping[Rung, Budget]  # those that the mode forbids have a burst of 0

    def why_spent(self, rung: Rung) -> str:
        """Why this remedy may not be used (again)."""
        if self.mode.forbids(rung):
            return f'mode is "{self.mode}" in the config, which allows no {rung}'
        budget = self.budgets[rung]
        return f"the helper's own budget is spent: {budget.burst} in {budget.interval:g} s"


def load_with_child(path: str) -> Any:
    """What `python -m watchdog.config PATH --for-helper` prints, or {"error": …}. For a worker."""
    import subprocess  # in the worker only: 1 MiB

    command = [sys.executable, "-P", "-m", "watchdog.config", path, "--for-helper"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LOAD_TIMEOUT - 1, check=False)
    if done.returncode != 0:
        return {"error": " ".join(done.stderr.decode(errors="replace").split())[:2000]}
    return json.loads(done.stdout)


class Services:
    """The services by name, and whether the files that told of them are still the same."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._services: dict[str, Guarded] = {}
        self._stamps: dict[str, tuple[int, ...] | None] = {}
        self._tried = float("-inf")  # time.monotonic
        self.error = "it has not been read yet"  # why the newest config is not the one in force; empty: it is

    def get(self, name: str) -> Guarded | None:
        """A service of the config that is in force."""
        return self._services.get(name)

    def stale(self) -> bool:
        """Whether the config must be read before it is relied on."""
        if self.error and time.monotonic() - self._tried >= RETRY:
            return True
        return any(stamp != _stamp(path) for path, stamp in self._stamps.items())

    def accept(self, loaded: Any, began: float) -> None:
        """Take over what was loaded; the loading `began` then (time.time). Raises `ConfigBad` and keeps the old."""
        if "error" in loaded:
            raise ConfigBad(loaded["error"])
        try:
            files = [str(file) for file in loaded["files"]]
            services = {name: _guarded(table) for name, table in loaded["services"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ConfigBad("watchdog.config printed something else than services") from None
        for file in files:
            _check_owner(file)
        self._services = services
        self.error = ""
        self._stamps = {file: _stamp_before(file, began) for file in files}

    def reject(self, error: str) -> None:
        """Remember why the newest config is not in force."""
        self.error = error
        self._tried = time.monotonic()
        self._stamps = {file: _stamp(file) for file in self._stamps or (self._path,)}


def _stamp(path: str) -> tuple[int, ...] | None:
    """What changes with a file; None where there is none. The time of its last change comes last, in ns."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _stamp_before(path: str, began: float) -> tuple[int, ...] | None:
    """The same; None, so that it will be stale, where the file changed since the child began to read it."""
    stamp = _stamp(path)
    return stamp if stamp and stamp[-1] < (began - CLOCK_GRAIN) * 1e9 else None


def _check_owner(path: str) -> None:
    """Raises `ConfigBad` where root would obey a file that others could have put there."""
    if os.geteuid() != 0:
        return
    try:
        trust.check(path)
    except trust.Untrusted as untrusted:
        raise ConfigBad(str(untrusted)) from None


def _guarded(table: Mapping[str, Any]) -> Guarded:
    target = Target(
        unit=table["unit"],
        pidfile=table["pidfile"],
        process=_match(table["process"]),
        cgroup=table["cgroup"],
        restart_command=tuple(table["restart_command"]),
        also_restarts=tuple(table["also_restarts"]),
        capture=tuple(table["capture"]),
        nudge=Nudging(methods=tuple(Method(word) for word in table["nudge"]["methods"])),
        drill=table["drill"] is True,
        drill_under_seccomp=table["drill_under_seccomp"] is True,
    )
    budgets = {
        Rung(rung): Budget(burst=int(b["burst"]), interval=float(b["interval"])) for rung, b in table["budget"].items()
    }
    return Guarded(target, Mode(table["mode"]), budgets)


def _match(table: Mapping[str, Any] | None) -> Match | None:
    return Match(exe=table["exe"], args=tuple(table["args"]), user=table["user"]) if table is not None else None
