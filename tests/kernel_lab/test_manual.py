"""The manual's table of kernels has every bug that the daemon knows, in its words."""

from __future__ import annotations

import re

from tests.kernel_lab.kernel import REPOSITORY
from watchdog.evidence.kernel import BUGS

MANUAL = REPOSITORY / "docs/kernel-lab.md"


def test_the_table_of_kernels_is_what_the_daemon_knows() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*) \| from (.*) \| (.*) \| (.*) \|$", MANUAL.read_text(), re.MULTILINE)
    known = [
        (bug.advisory.id, bug.advisory.text, _level(bug.ranges[0][0]), bug.advisory.fixed_in, bug.advisory.source)
        for bug in BUGS
    ]
    assert rows == known


def _level(level: tuple[int, int, int]) -> str:
    major, minor, patch = level
    return f"{major}.{minor}.{patch}" if patch > 0 else f"{major}.{minor}"
