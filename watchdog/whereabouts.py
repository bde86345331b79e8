"""Which process a service has now that is no unit: by its pidfile, its cgroup, or whom the helper finds.

Rules of this file. What was found is held while it lives, and not looked for again; what is looked for, is so once a
round. A cgroup and a pidfile can be read without any right. Whose executable a process runs can't: the helper, which
may, is asked, and what it says it reads again itself before it touches anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from watchdog import target
from watchdog.config import Service
from watchdog.model import Epoch
from watchdog.reading import Lack

Find = Callable[[str], Awaitable[Epoch | Lack | None]]  # the process of the service of this name; `Hands.find`


async def nobody_finds(_service: str) -> Lack:
    """Where there is no helper."""
    return Lack("the service's process", "there is no helper that could look for it")


class Whereabouts:
    """Of one service. `close` it."""

    def __init__(self, service: Service, find: Find) -> None:
        self._service = service
        self._find = find
        pidfile = service.target.pidfile
        self._pidfile = target.Pidfile(pidfile) if pidfile is not None else None
        self._held = target.Held()

    async def epoch(self) -> Epoch | None:
        """The main process; None where there is none. Raises a `Refusal` where it can't be known; `OSError`."""
        if self._pidfile is not None:
            return self._pidfile.epoch()
        if (known := self._held.alive()) is not None:
            return known
        found = await self._found()
        if found is not None:
            self._held.keep(found)
        return found

    async def _found(self) -> Epoch | None:
        if self._service.target.process is None:
            return target.find(self._service.target)
        found = await self._find(self._service.name)
        if isinstance(found, Lack):
            raise target.CantLook(found.reason)
        return found

    def close(self) -> None:
        """Let go of the process."""
        self._held.close()
        if self._pidfile is not None:
            self._pidfile.close()
