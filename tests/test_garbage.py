"""What lives is out of the garbage collector's sight, and what died since is not kept by that."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from watchdog import garbage


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The collector of this process, as it was."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


class Ring:
    """Two of them, each of which keeps the other, are garbage that only the collector finds."""

    other: Ring


async def test_what_lives_is_spared_once_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LOOK_EVERY", 0.0)
    asked = asyncio.Event()
    answers = iter((False, False, True))

    def ready() -> bool:
        asked.set()
        return next(answers)

    work = asyncio.create_task(garbage.spare(ready))
    await asked.wait()
    assert gc.get_freeze_count() == 0
    await work
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold() == garbage.THRESHOLDS


async def test_what_died_since_it_was_spared_is_taken_away_by_the_next_call() -> None:
    one, other = Ring(), Ring()
    one.other, other.other = other, one
    seen = weakref.ref(one)
    await garbage.spare(lambda: True)
    del one, other
    gc.collect()
    assert seen() is not None  # nobody looks at what is spared
    await garbage.spare(lambda: True)
    assert seen() is None
