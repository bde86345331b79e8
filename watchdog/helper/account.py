"""The ledger in use: spends from it, and has it on the disk before anything is done.

Rules: what is kept in memory decides, and the file follows it; one write at a time, for all that wait for it; a write
that fails or hangs is told to those who waited, and does not undo the use: a nudge goes on within what is left in
memory, and a restart, which is refused then, takes its use back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from watchdog.helper import ledger
from watchdog.helper.crew import Crew
from watchdog.helper.ledger import Ledger, Use
from watchdog.helper.worker import Ending, Worker
from watchdog.model import Budget, Rung

STORE_TIMEOUT = 1.0  # seconds until the disk counts as hung

Stored = Callable[[str], None]  # gets the error in one line; empty: it is on the disk


class Account:
    """The helper's own budgets. Raises `LedgerUnreadable` from whatever needs the file, until it can be understood."""

    def __init__(self, path: str, crew: Crew) -> None:
        self._path = path
        self._crew = crew
        self._ledger: Ledger | None = None
        self._waiting: list[Stored] = []
        self._writing = False
        self._writer: Worker | None = None
        self._hung: Worker | None = None
        self._error = ""

    def left(self, service: str, rung: Rung, budget: Budget) -> int:
        """How many uses are left now."""
        return self._known().left(service, rung, budget, ledger.now())

    def spend(self, service: str, rung: Rung, budget: Budget, then: Stored) -> Use | None:
        """Spend one use, then write, then tell. None, and `then` is never called: nothing is left to spend."""
        at = ledger.now()
        if self._known().left(service, rung, budget, at) == 0:
            return None
        self._known().spend(service, rung, budget, at)
        self._waiting.append(then)
        return at

    def _known(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger.read(self._path)
        return self._ledger

    def refund(self, service: str, rung: Rung, use: Use) -> None:
        """Take a use back that came to nothing; on the disk it is until the next write."""
        if self._ledger is not None:
            self._ledger.refund(service, rung, use)

    @property
    def behind(self) -> bool:
        """Whether the file, as far as is known, tells of fewer uses than memory: its last write failed or hangs."""
        return bool(self._error)

    def catch_up(self) -> None:
        """Try again to write what could not be written."""
        if self._error and not self._writing:
            self._waiting.append(lambda _error: None)
            self.store()

    def store(self) -> None:
        """Begin to write for all that wait, unless a write is under way: its end begins the next."""
        if self._ledger is None or self._writing or not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        if self._hung is not None and not self._hung.reaped():
            self._stored(batch, Ending(error="an earlier write hangs: is the disk dead?"))
            return
        self._writing = True
        path, text = self._path, self._ledger.text()
        self._writer = self._crew.start(
            lambda: ledger.write(path, text), STORE_TIMEOUT, lambda e: self._stored(batch, e)
        )

    def _stored(self, batch: list[Stored], ending: Ending) -> None:
        self._hung = self._writer if self._writing and ending.overran else self._hung
        self._writing = False
        if ending.error != self._error:
            told = f"can't be written: {ending.error}" if ending.error else "is written again"
            print(f"epoll-watchdog helper: ledger {self._path} {told}", file=sys.stderr, flush=True)
        self._error = ending.error
        for then in batch:
            then(ending.error)
        self.store()
