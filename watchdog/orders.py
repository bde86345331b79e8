"""An operator's orders to the guards: pause, resume, acknowledge. They count at once, and are kept over restarts.

Rules of this file: nobody is asked who may order, for the web room let in only whom the socket's mode allows; who
asked, and why, is in the record of each order. An order that changes nothing is told so and recorded nowhere. Where the
state can't be written the order is in force all the same, and whoever gave it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from watchdog.clock import Clock
from watchdog.guard import Guard
from watchdog.model import Order, Told
from watchdog.store import StoreUnwritable
from watchdog.web.orders import NotFound, Obeyed

AT_ONCE = 16
LOADED_WITHIN = 10.0  # s that a guard which starts may take to read its state
SHORTEST_ID = 4  # characters of an incident's id that may stand for it


class Orders:
    """Implements `web.orders.Operator`. `guards` are those of the board, by name."""

    def __init__(self, guards: Callable[[], Mapping[str, Guard]], clock: Clock) -> None:
        self._guards = guards
        self._clock = clock

    async def pause(self, services: Sequence[str] | None, by: str, reason: str, seconds: float | None) -> list[Obeyed]:
        """Stop every remedy of these services, or of all, for so long or until told otherwise."""
        until = None if seconds is None else self._clock.now() + seconds
        wall = None if seconds is None else self._clock.wall() + seconds
        told = Told(Order.PAUSE, by, reason, until)
        return await self._tell_all(self._named(services), told, "paused", wall)

    async def resume(self, services: Sequence[str] | None, by: str) -> list[Obeyed]:
        """Let these services, or all, be healed again."""
        return await self._tell_all(self._named(services), Told(Order.RESUME, by), "resumed")

    async def acknowledge(self, incident: str, by: str) -> Obeyed:
        """Let no reminder of this incident come any more. Raises `NotFound`."""
        guard = self._with(incident)
        found = guard.state.incident
        if found is not None and found.acked:
            return Obeyed(guard.service.name, changed=False, text=f"was acknowledged by {found.acked_by or 'somebody'}")
        return await self._tell(guard, Told(Order.ACK, by), "acknowledged")

    # --- whom it is for -----------------------------------------------------------------------------------------------

    def _named(self, services: Sequence[str] | None) -> list[Guard]:
        """All of them, or none where one is unknown."""
        guards = self._guards()
        if services is None:
            return list(guards.values())
        if unknown := [name for name in services if name not in guards]:
            raise NotFound(
                f"no such service is guarded: {', '.join(unknown)}; there are: {', '.join(guards) or 'none'}"
            )
        return [guards[name] for name in dict.fromkeys(services)]

    def _with(self, incident: str) -> Guard:
        if len(incident) < SHORTEST_ID:
            raise NotFound(f"{incident!r} is too short for an incident's id; give {SHORTEST_ID} characters at least")
        found = [
            guard
            for guard in self._guards().values()
            if guard.state.incident is not None and guard.state.incident.id.startswith(incident)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFound(f"several incidents begin with {incident!r}; give more of the id")
        raise NotFound(f"no open incident begins with {incident!r}; epoll-watchdog status tells those that are open")

    async def _tell_all(
        self, guards: Sequence[Guard], told: Told, text: str, until: float | None = None
    ) -> list[Obeyed]:
        """A few at a time: of more the last would wait longer for the disk than a commit may."""
        obeyed: list[Obeyed] = []
        for start in range(0, len(guards), AT_ONCE):
            few = guards[start : start + AT_ONCE]
            obeyed += await asyncio.gather(*(self._tell(guard, told, text, until) for guard in few))
        return obeyed

    async def _tell(self, guard: Guard, told: Told, text: str, until: float | None = None) -> Obeyed:
        name, unsaved = guard.service.name, ""
        try:
            async with asyncio.timeout(LOADED_WITHIN):
                await guard.loaded()
        except TimeoutError:
            return Obeyed(name, changed=False, text=f"not {text}", unsaved="its state could not be read yet: try again")
        if told.order is Order.RESUME and guard.state.pause is None:
            return Obeyed(name, changed=False, text="was not paused")
        try:
            await guard.tell(told)
        except StoreUnwritable as error:
            unsaved = f"in force, but not kept over a restart yet: {error}"
        return Obeyed(name, changed=True, text=text, until=until, unsaved=unsaved)
