"""Fixtures: a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from tests.page.browser import chromium


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium; playwright's objects belong to the loop of one test."""
    async with chromium() as made:
        yield made
