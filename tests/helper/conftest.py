"""The victim's program, and a way to start victims that none of them outlives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helper.victims import Victim, build, running

Start = Callable[..., Victim]


@pytest.fixture(scope="session")
def victim_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with the system's compiler."""
    return build(tmp_path_factory.mktemp("victim"))


@pytest.fixture
def start(victim_program: Path) -> Iterator[Start]:
    """`start("wait:3", "read:1")`: a victim with these threads."""
    with contextlib.ExitStack() as stack:
        yield lambda *kinds: stack.enter_context(running(victim_program, *kinds))
