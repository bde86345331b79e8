"""The workers that the helper's loop has under way, and what is to be done when each of them ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from watchdog.helper.worker import Ending, Worker

REAP_PAUSE = 0.05  # seconds between two looks for the end of a killed worker

Then = Callable[[Ending], None]


class Crew:
    """Poll `pipes()` for input, at most for `due()` seconds, and then call `attend`."""

    def __init__(self) -> None:
        self._then: dict[Worker, Then] = {}
        self._unborn: list[tuple[Then, Ending]] = []
        self._ending: list[Worker] = []  # answered for, not reaped yet

    def start(self, work: Callable[[], Any], timeout: float, then: Then) -> Worker | None:
        """Begin a piece of work; `then` gets its ending, from `attend`. None: no worker could be started."""
        try:
            worker = Worker(work, timeout)
        except OSError as error:
            self._unborn.append((then, Ending(error=f"no worker could be started: {error.strerror}")))
            return None
        self._then[worker] = then
        return worker

    @property
    def busy(self) -> bool:
        """Whether anybody is at work, or was and is not gone yet."""
        return bool(self._then or self._unborn or self._ending)

    def pipes(self) -> list[int]:
        """What to poll."""
        return [worker.pipe for worker in self._then]

    def due(self) -> float | None:
        """Seconds until `attend` has something to do though nothing came; None: never."""
        if self._unborn:
            return 0.0
        moments = [worker.deadline - time.monotonic() for worker in self._then]
        if self._ending:
            moments.append(REAP_PAUSE)
        return max(0.0, min(moments)) if moments else None

    def attend(self, ready: set[int]) -> None:
        """Read what came through the `ready` pipes, kill who overran, reap who ended."""
        unborn, self._unborn = self._unborn, []
        for then, failure in unborn:
            then(failure)
        for worker in list(self._then):
            ending = worker.read() if worker.pipe in ready else None
            if ending is None and time.monotonic() >= worker.deadline:
                ending = worker.overrun()
            if ending is not None:
                self._ending.append(worker)
                self._then.pop(worker)(ending)
        self._ending = [worker for worker in self._ending if not worker.reaped()]

    def dismiss(self) -> None:
        """Kill them all; nobody waits for them any more."""
        for worker in self._then:
            worker.overrun()
        self._then.clear()
