"""What must be seen to for as long as there is anything of it, whoever began it: done by one worker at a time.

Rules: it is looked for when the helper starts, and after each deed that may leave something. A worker that dies at it
is followed by another, a few times in a row: to go on for ever with what fails at once would burn a core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from watchdog.helper.crew import Crew
from watchdog.helper.worker import Ending

TRIES = 5  # workers in a row that died


class Upkeep:
    """`work` sees to all there is, `timeout` seconds at most at a time; where there is nothing, it ends at once."""

    def __init__(self, crew: Crew, work: Callable[[], Any], timeout: float) -> None:
        self._crew = crew
        self._work = work
        self._timeout = timeout
        self.at_work = False
        self._again = False
        self._died = 0

    def look(self) -> None:
        """Have it seen to: by the worker that is at it, and by another one where that is just ending."""
        self._again = self.at_work
        if not self.at_work:
            self.at_work = True
            self._crew.start(self._work, self._timeout, self._ended)

    def _ended(self, ending: Ending) -> None:
        self.at_work = False
        if ending.error:
            print(f"epoll-watchdog helper: {ending.error}", file=sys.stderr, flush=True)
        self._died = self._died + 1 if ending.error and not ending.overran else 0
        if self._again or (ending.error and self._died < TRIES):
            self.look()
