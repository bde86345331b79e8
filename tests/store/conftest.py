from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.store.make import Time
from watchdog.store import Store


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def store(tmp_path: Path, time: Time) -> AsyncIterator[Store]:
    store = Store(tmp_path, time.clock, deadline=30)
    yield store
    await store.close()
