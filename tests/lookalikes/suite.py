"""All runs of a session: several at once where they don't disturb each other, the others one by one at the end."""

from __future__ import annotations

import itertools
import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from tests.lookalikes.condition import Condition, Row, Stage, run

AT_ONCE = 3


class Suite:
    """All runs of this session."""

    def __init__(self, stage: Stage, rows: list[Row], *, busy: bool) -> None:
        self._stage = stage
        self._rows = rows
        self._busy = busy
        self._numbers = itertools.count()
        self._pool = ThreadPoolExecutor(AT_ONCE, "lookalike")
        self._runs: dict[tuple[str, int], Future[Row]] = {}

    def begin(self, condition: Condition, repetition: int) -> None:
        """Run it as soon as there is room."""
        self._runs[condition.name, repetition] = self._pool.submit(self._run, condition)

    def row(self, condition: Condition, repetition: int) -> Row:
        """What came of it."""
        if condition.alone:
            for other in self._runs.values():
                other.exception()
            row = self._run(condition)
        else:
            row = self._runs[condition.name, repetition].result()
        self._rows.append(row)
        return row

    def end(self) -> None:
        """Whatever runs is run to its end; what has not begun is not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, condition: Condition) -> Row:
        name = re.sub("[^a-z0-9]+", "-", condition.name.lower())[:24]  # the path of a Unix socket has 108 bytes
        directory = self._stage.directory / f"{name}-{next(self._numbers)}"
        directory.mkdir()
        return run(condition, replace(self._stage, directory=directory), busy=self._busy)
