"""The file probe: a file that the service writes again and again, by its age. stat(2), inode(7).

Rules of this file: a file system that hangs (a lost NFS server) holds up neither the loop nor another probe: `aside`.
The age is of the last change of content (mtime) by the wall clock, the only time that a file has; a file from the
future tells of a clock that was set, not of the service.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from watchdog.model import Epoch, Kind, Observation, Plane, Road, Strength
from watchdog.probes.aside import Aside
from watchdog.probes.attempt import Finding, observe
from watchdog.probes.deadline import Deadline
from watchdog.probes.rights import remedy
from watchdog.settings import Seconds, check_above_zero, format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`path` is absolute; its content must have changed `within` that time."""

    path: str
    within: Seconds
    strength: Strength = Strength.PROCESS

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f'path: "{self.path}" is no absolute path; begin it with /')
        if "\0" in self.path:
            raise ValueError("path: holds a NUL character; no path does")
        check_above_zero("within", self.within, "1m")


def road(settings: Settings) -> Road:
    """A witness, as strong as the settings say: nobody here can know who writes the file."""
    return Road(Plane.WITNESS, strength=settings.strength)


def warnings(_settings: Settings) -> tuple[str, ...]:
    """Nothing: what there is to know, the settings say."""
    return ()


_asides: dict[str, Aside] = {}  # by path: a disk that hangs holds up no file on another one


def close() -> None:
    """Forget all but the calls that hang: a second one would hang with them."""
    for path in [path for path, aside in _asides.items() if not aside.busy]:
        del _asides[path]


async def probe(settings: Settings, target: Epoch | None, deadline: Deadline) -> Observation:
    """Look once."""
    return await observe(_attempt(settings, deadline), deadline)


async def _attempt(settings: Settings, deadline: Deadline) -> Finding:
    deadline.ours = f"its disk hangs: {settings.path} was not looked at"
    aside = _asides.setdefault(settings.path, Aside("file probe"))
    return await aside.run(lambda: judge(settings))


def judge(settings: Settings) -> Finding:
    """What the file says now. May wait for a disk."""
    path, within = settings.path, settings.within
    try:
        age = time.time() - Path(path).stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return Kind.SILENT, f"{path} does not exist"
    except PermissionError:
        return Kind.ERROR, f"may not look at {path}: {remedy(path)}"
    except OSError as error:
        return Kind.ERROR, f"{path}: {os.strerror(error.errno or 0)}"
    if age < -within:
        return Kind.ERROR, f"{path} is dated {format_duration(-age)} ahead of now: a clock was set"
    old = format_duration(max(age, 0.0))
    if age > within:
        return Kind.SILENT, f"{path} is {old} old, expected less than {format_duration(within)}"
    return Kind.ALIVE, f"{path} is {old} old, looked at"
