"""All runs of a session: several at once where they don't disturb each other; then those that must be alone; then, with
every core kept busy, the same again.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

from tests.lookalikes.condition import Condition, Row, Stage, run
from tests.lookalikes.programs import hogs

AT_ONCE = 4
LONGEST_S = 3600  # of CPU, that keeps a core busy


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a condition."""

    condition: Condition
    repetition: int
    busy: bool

    @property
    def id(self) -> str:
        """For pytest's -k."""
        word = re.sub("[^a-z0-9]+", "-", self.condition.name.lower())
        return "-".join([word, *(["busy"] if self.busy else []), *([str(self.repetition)] if self.repetition else [])])

    @property
    def phase(self) -> tuple[bool, bool]:
        """Phases come in this order; a run waits for all runs of the phases before its own."""
        return self.busy, self.condition.alone


class Suite:
    """The runs that were `chosen`; they are asked for in the order of their phases."""

    def __init__(self, stage: Stage, chosen: Collection[Run]) -> None:
        self.rows: list[Row] = []
        self._stage = stage
        self._chosen = chosen
        self._phase: tuple[bool, bool] | None = None
        self._pool = ThreadPoolExecutor(AT_ONCE, "lookalike")
        self._futures: dict[Run, Future[Row]] = {}
        self._busy = ExitStack()
        self._hogging = False
        self._numbers = itertools.count()

    def row(self, wanted: Run) -> Row:
        """What came of it."""
        if wanted.phase != self._phase:
            self._enter(wanted.phase)
        row = self._run(wanted) if wanted.condition.alone else self._futures[wanted].result()
        self.rows.append(row)
        return row

    def end(self) -> None:
        """Whatever runs is run to its end; what has not begun is not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._busy.close()

    def _enter(self, phase: tuple[bool, bool]) -> None:
        for future in self._futures.values():
            future.exception()
        busy, alone = phase
        if busy and not self._hogging:
            self._hogging = True
            self._busy.enter_context(hogs(os.cpu_count() or 1, cpu_s=LONGEST_S))
        if not alone:
            self._futures |= {one: self._pool.submit(self._run, one) for one in self._chosen if one.phase == phase}
        self._phase = phase

    def _run(self, wanted: Run) -> Row:
        name = f"{wanted.id[:24]}-{next(self._numbers)}"  # the path of a Unix socket has 108 bytes
        directory = self._stage.directory / name
        directory.mkdir()
        return run(wanted.condition, replace(self._stage, directory=directory), busy=wanted.busy)
