"""An operator's orders to the guards: pause, resume, acknowledge. They count at once, and are kept over restarts.

Rules of this file: nobody is asked who may order, for the web room let in only whom the socket's mode allows; who
asked, and why, is in the record of each order. An order that changes nothing is told so and recorded nowhere. All that
one order changes is in force before anything is waited for, and is written in one transaction: a thousand would keep
the guards from the disk. Where that fails the order is in force all the same, and whoever gave it is told. A guard that
has not read its state yet takes no order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from watchdog.clock import Clock
from watchdog.guard import Guard
from watchdog.model import Order, Pause, Told
from watchdog.store import Commit, Store, StoreUnwritable
from watchdog.web.orders import NotFound, Obeyed
from watchdog.web.view import Unavailable

LOADED_WITHIN = 10.0  # s that guards which start may take to read their state
SHORTEST_ID = 4  # characters of an incident's id that may stand for it


class Orders:
    """Implements `web.orders.Operator`. `guards` are those of the board, by name; `expected`: the config's services."""

    def __init__(
        self,
        guards: Callable[[], Mapping[str, Guard]],
        expected: Callable[[], Collection[str]],
        store: Store,
        clock: Clock,
    ) -> None:
        self._guards = guards
        self._expected = expected
        self._store = store
        self._clock = clock

    async def pause(self, services: Sequence[str] | None, by: str, reason: str, seconds: float | None) -> list[Obeyed]:
        """Stop every remedy of these services, or of all, for so long or until told otherwise."""
        await self._ready(services)
        until = None if seconds is None else self._clock.now() + seconds
        wall = None if seconds is None else self._clock.wall() + seconds
        told = Told(Order.PAUSE, by, reason, until, None if wall is None else round(wall))
        same = Pause(by, reason, until, told.until_wall)

        def answer(guard: Guard) -> Obeyed:
            name, before = guard.service.name, guard.state.pause
            if before == same:
                return Obeyed(name, changed=False, text="was paused so already")
            text = "paused" if before is None else f"paused (was paused by {before.told})"
            return Obeyed(name, changed=True, text=text, until=wall)

        return await self._tell(self._named(services), told, answer)

    async def resume(self, services: Sequence[str] | None, by: str) -> list[Obeyed]:
        """Let these services, or all, be healed again."""
        await self._ready(services)

        def answer(guard: Guard) -> Obeyed:
            paused = guard.state.pause is not None
            return Obeyed(guard.service.name, changed=paused, text="resumed" if paused else "was not paused")

        return await self._tell(self._named(services), Told(Order.RESUME, by), answer)

    async def acknowledge(self, incident: str, by: str) -> Obeyed:
        """Let no reminder of this incident come any more. Raises `NotFound`."""
        if len(incident) < SHORTEST_ID:
            raise NotFound(f"{incident!r} is too short for an incident's id; give {SHORTEST_ID} characters at least")
        await self._ready(None)

        def answer(guard: Guard) -> Obeyed:
            found = guard.state.incident
            if found is not None and found.acked:
                text = f"was acknowledged by {found.acked_by or 'somebody'}"
                return Obeyed(guard.service.name, changed=False, text=text)
            return Obeyed(guard.service.name, changed=True, text="acknowledged")

        [obeyed] = await self._tell([self._with(incident)], Told(Order.ACK, by), answer)
        return obeyed

    # --- whom it is for -----------------------------------------------------------------------------------------------

    async def _ready(self, services: Sequence[str] | None) -> None:
        """Wait until each of them, or each, has read its state. Raises `Unavailable` where that takes too long."""
        guards, expected = self._guards(), self._expected()
        every = {*expected, *guards}
        asked = every if services is None else every & set(services)
        late = Unavailable("the daemon is starting and has not read its state yet: try again in a moment")
        if not asked <= guards.keys():
            raise late
        try:
            async with asyncio.timeout(LOADED_WITHIN):
                for name in asked:
                    await guards[name].loaded()
        except TimeoutError:
            raise late from None

    def _named(self, services: Sequence[str] | None) -> list[Guard]:
        """As they are now: a reload may have put others in place of those that were waited for."""
        guards = self._guards()
        if services is None:
            return list(guards.values())
        if unknown := [name for name in services if name not in guards]:
            known = ", ".join(guards) or "none"
            raise NotFound(f"no such service is guarded: {', '.join(unknown)}; there are: {known}")
        return [guards[name] for name in dict.fromkeys(services)]

    def _with(self, incident: str) -> Guard:
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

    # --- telling ------------------------------------------------------------------------------------------------------

    async def _tell(self, guards: Sequence[Guard], told: Told, answer: Callable[[Guard], Obeyed]) -> list[Obeyed]:
        answers = [answer(guard) for guard in guards]
        changed = [guard for guard, obeyed in zip(guards, answers, strict=True) if obeyed.changed]
        commits = [guard.tell(told) for guard in changed]
        fault = await self._write(commits) if commits else None
        for guard, commit in zip(changed, commits, strict=True):
            guard.committed(commit, fault)
        unsaved = "" if fault is None else f"in force, but not kept over a restart yet: {fault}"
        return [obeyed.but(unsaved) if obeyed.changed else obeyed for obeyed in answers]

    async def _write(self, commits: Sequence[Commit]) -> StoreUnwritable | None:
        try:
            await self._store.commit_all(commits)
        except StoreUnwritable as error:
            return error
        return None
