"""Healthy programs with several loops, under load, are never proven to have lost a wake-up. READINGS says how often."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.lookalikes import false_proofs

READINGS = int(os.environ.get("READINGS") or 240)


@pytest.mark.timeout(3600)
def test_no_reading_of_a_healthy_program_proves_a_lost_wake_up(tell: Callable[[str, str], None]) -> None:
    counted = false_proofs.run(READINGS)
    tell("false proofs of healthy programs", false_proofs.report(counted))
    assert [proof for one in counted for proof in one.proofs] == []
