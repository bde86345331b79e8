"""Each condition gets its right verdict, and no remedy that the ladder of that verdict does not have.

REPEAT=5 runs each five times. Those that scarce CPU could confuse most are run once more with every core kept busy by
other work; with BUSY=1 all are, and only so.
"""

from __future__ import annotations

import os

import pytest

from tests.lookalikes.suite import Run, Suite
from tests.lookalikes.table import CONDITIONS

REPEAT = int(os.environ.get("REPEAT") or 1)
BUSY = os.environ.get("BUSY", "") not in ("", "0")
RUNS = [
    Run(condition.kept_busy() if busy else condition, repetition, busy)
    for condition in CONDITIONS
    for repetition in range(REPEAT)
    for busy in (False, True)
    if (busy if BUSY else not busy or condition.delicate)
]
RUNS.sort(key=lambda one: one.phase)


@pytest.mark.parametrize("wanted", RUNS, ids=[one.id for one in RUNS])
def test_the_right_verdict_and_no_wrong_remedy(suite: Suite, wanted: Run) -> None:
    row = suite.row(wanted)
    print(row.story())
    assert row.ok, "; ".join(row.complaints)
