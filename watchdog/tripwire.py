"""The tripwire: between the rounds, one dump of all accept queues a few times a second.

A queue that stays filled over two readings starts a round of its service, and a reading of evidence, at once: so a busy
service that went dark is found before its clients time out, whatever its interval. Rules of this file: an idle service
never trips, for nothing waits there; a service that lives with filled queues is looked at ever more seldom, down to its
own interval; an open incident has its own pace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from watchdog.clock import Clock
from watchdog.evidence.sockdiag import SockDiag
from watchdog.guard import Guard
from watchdog.reading import Queues

ABROAD_EVERY = 1.0  # s between two readings of queues in another network namespace


@dataclass(slots=True)
class _Wire:
    """What is remembered of one service."""

    filled: frozenset[int] = frozenset()  # listeners that had waiting connections in the last reading
    read: float = float("-inf")
    tripped: float = float("-inf")
    pause: float = 0.0  # s from one trip to the next


class Tripwire:
    """Watches the queues of all guards. `told` gets each service's queues as they are read."""

    def __init__(
        self, guards: Mapping[str, Guard], diag: SockDiag, clock: Clock, told: Callable[[str, Queues], None]
    ) -> None:
        self._guards = guards
        self._diag = diag
        self._clock = clock
        self._told = told
        self._wires: dict[str, _Wire] = {}

    async def watch(self, period: Callable[[], float]) -> None:
        """Read every `period()` seconds until cancelled."""
        while True:
            await asyncio.sleep(period())
            self.read()

    def read(self) -> None:
        """One reading of all queues."""
        listening = self._diag.listeners()
        self._wires = {name: self._wires.get(name, _Wire()) for name in self._guards}
        for name, guard in self._guards.items():
            wire, now = self._wires[name], self._clock.now()
            if guard.abroad and now - wire.read < ABROAD_EVERY:
                continue
            wire.read = now
            queues = guard.queues(listening)
            self._told(name, queues)
            filled = frozenset(queue.inode for queue in queues.queues if queue.length)
            stays, wire.filled = filled & wire.filled, filled
            if stays and guard.state.incident is None:
                self._trip(guard, wire)

    def _trip(self, guard: Guard, wire: _Wire) -> None:
        now, policy = self._clock.now(), guard.service.policy
        if now - wire.tripped < wire.pause:
            return
        again = now - wire.tripped < policy.interval + wire.pause
        wire.pause = min(policy.interval, 2 * wire.pause if again else policy.interval_suspect)
        wire.tripped = now
        guard.trip()
