"""The whole configuration as plain values, and how the resident process gets them.

The rooms' Settings put together: TOML (toml.io, v1.0.0) from FILE and from `conf.d/*.toml` beside it. pydantic checks
it in a short-lived child (`python -m watchdog.config`), so that no resident process pays for pydantic (14 MiB); what
comes back are the standard dataclasses below. Nothing starts with a configuration in which one thing is wrong, and
every wrong thing is told at once.
"""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watchdog.config.web import Web
from watchdog.deadman import Settings as DeadMan
from watchdog.model import Policy
from watchdog.settings import Seconds
from watchdog.target import Target
from watchdog.window import Window

CHECK_TIMEOUT = 30.0  # seconds; a check takes half of one
DEFAULT_FILE = Path("/etc/epoll-watchdog/config.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One road to a service. `settings` are of the type that `watchdog.probes.PROBES[type]` names."""

    type: str
    timeout: Seconds | None  # None: the service's
    settings: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A `[service.NAME]` table. Labels and annotations go to every alert of it."""

    name: str
    target: Target
    policy: Policy
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    probes: Mapping[str, Probe]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A `[channel.NAME]` table. `settings` are of the type that `watchdog.alerts.CHANNELS[type]` names."""

    name: str
    type: str
    settings: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """The `[http]` table. Each `listen` is HOST:PORT (port 0 takes a free one), "unix:/PATH" or "systemd"; `control` is
    the path of the Unix socket for orders (None: where systemd has made a directory for it).
    """

    listen: str | tuple[str, ...] = "127.0.0.1:9797"
    web_config: str | None = None
    control: str | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Each `listen`."""
        return (self.listen,) if isinstance(self.listen, str) else self.listen


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that the configuration says. `warnings` are sentences for the operator that keep nothing from starting."""

    files: tuple[Path, ...]
    services: Mapping[str, Service]
    channels: Mapping[str, Channel]
    http: Http
    state_directory: Path
    max_sick: int | None  # None: two, or a quarter of the services if that is more
    warnings: tuple[str, ...]
    tripwire: Seconds = 0.25  # between two readings of all accept queues
    dead_man: DeadMan | None = None
    windows: Mapping[str, Window] = field(default_factory=dict)
    web: Web = field(default_factory=Web)  # what stands in the file that `http.web_config` names


@dataclass(frozen=True, slots=True)
class ConfigError:
    """One wrong thing: in which file, where in it (empty: the file itself), what is wrong and what would be right."""

    file: Path
    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: {self.path}" if self.path else str(self.file)
        return f"{where}: {self.message}; {self.hint}" if self.hint else f"{where}: {self.message}"


class ConfigInvalid(Exception):
    """Everything that is wrong, sorted by file and path. Its text is one line an error."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


def load(path: Path) -> Config:
    """Read, check and return the configuration in `path`; the check runs in a child, for at most `CHECK_TIMEOUT`.

    Raises `ConfigInvalid`, also where the check itself could not be done.
    """
    # -P: no module from the working directory. Unpickling is safe: the child is our own code, run as our own user.
    command = [sys.executable, "-P", "-m", "watchdog.config", "--pickle", str(path)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=CHECK_TIMEOUT, check=False
        )
        if done.returncode != 0:
            raise _unchecked(path, done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
        answer = pickle.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise _unchecked(path, f"no answer within {CHECK_TIMEOUT:.0f} s") from None
    except (OSError, ValueError, EOFError, pickle.UnpicklingError, ImportError, AttributeError) as error:
        raise _unchecked(path, str(error)) from error
    if isinstance(answer, Config):
        return answer
    raise ConfigInvalid(answer)


async def load_async(path: Path) -> Config:
    """`load` in a thread, for a reload that keeps nobody waiting."""
    return await asyncio.to_thread(load, path)


def _unchecked(path: Path, why: str) -> ConfigInvalid:
    return ConfigInvalid((ConfigError(path, "", f"could not be checked: {why}"),))
