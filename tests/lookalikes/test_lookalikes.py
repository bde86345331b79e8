"""Each condition gets its right verdict, and no remedy that the ladder of that verdict does not have."""

from __future__ import annotations

import os
import re

import pytest

from tests.lookalikes.condition import Condition
from tests.lookalikes.suite import Suite
from tests.lookalikes.table import CONDITIONS

REPEAT = int(os.environ.get("REPEAT") or 1)
ORDERED = sorted(CONDITIONS, key=lambda condition: condition.alone)


@pytest.mark.parametrize("repetition", range(REPEAT))
@pytest.mark.parametrize("condition", ORDERED, ids=[re.sub("[^a-zA-Z0-9]+", "-", one.name) for one in ORDERED])
def test_the_right_verdict_and_no_wrong_remedy(suite: Suite, condition: Condition, repetition: int) -> None:
    row = suite.row(condition, repetition)
    print(row.story())
    assert row.ok, "; ".join(row.complaints)
