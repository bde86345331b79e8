"""What must be seen to for as long as there is anything of it, whoever began it: done by one worker at a time.

Rules: it is looked for when the helper starts and whenever it has acted. A worker that dies at it is followed by
another, a few times in a row: to go on for ever with what fails at once would burn a core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from watchdog.helper.crew import Crew
from watchdog.helper.worker import Ending

TRIES = 5  # workers in a row that died


class Upkeep:
    """`needed`: whether there is anything to see to. `work` sees to it, `timeout` seconds at most at a time."""

    def __init__(self, crew: Crew, needed: Callable[[], object], work: Callable[[], Any], timeout: float) -> None:
        self._crew = crew
        self._needed = needed
        self._work = work
        self._timeout = timeout
        self.at_work = False
        self._died = 0

    def look(self) -> None:
        """Have it seen to, unless that is being done, or nothing is there."""
        if self.at_work or not self._needed():
            return
        self.at_work = True
        self._crew.start(self._work, self._timeout, self._ended)

    def _ended(self, ending: Ending) -> None:
        self.at_work = False
        if ending.error:
            print(f"epoll-watchdog helper: {ending.error}", file=sys.stderr, flush=True)
        self._died = self._died + 1 if ending.error and not ending.overran else 0
        if self._died < TRIES:
            self.look()
