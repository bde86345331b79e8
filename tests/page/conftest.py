"""Fixtures: a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser

from tests.page.browser import chromium


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium, one for the tests of a file, which all run on one loop: playwright's objects belong to it."""
    async with chromium() as made:
        yield made
