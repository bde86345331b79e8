"""A page in Debian's Chromium, and what it complained of."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.web.test_web import Daemon
from watchdog.web.server import serve

CHROMIUM = Path(__file__).with_name("chromium.sh")
PHONE, DESK = 360, 1280
Scheme = Literal["light", "dark"]

expect.set_options(timeout=15_000)


@dataclass
class Seen:
    """A page that is open."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)  # errors of scripts, and what the policy forbade

    async def go(self, path: str) -> None:
        """Open that path; a page that updates itself does so by then."""
        await self.page.goto(self.base + path)
        if await self.page.locator("body[data-live]").count():
            await self.live()

    async def live(self) -> None:
        """Until it says that it is up to date."""
        await expect(self.page.locator("#connection")).to_have_text("Live.")

    def heard(self, message: ConsoleMessage) -> None:
        """Keep a complaint."""
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a window."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox is not for root
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def page_of(
    browser: Browser, base: str, width: int = DESK, scheme: Scheme = "light", **more: Any
) -> AsyncIterator[Seen]:
    """A page of its own, that is open nowhere yet."""
    context = await browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
    page = await context.new_page()
    seen = Seen(page, base)
    page.on("console", seen.heard)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    try:
        yield seen
    finally:
        await context.close()


@contextlib.asynccontextmanager
async def shown(
    browser: Browser, daemon: Daemon, width: int = DESK, scheme: Scheme = "light", **more: Any
) -> AsyncIterator[Seen]:
    """A page of a real server of this daemon."""
    server = await serve(daemon, "127.0.0.1:0")
    try:
        async with page_of(browser, server.url, width, scheme, **more) as seen:
            yield seen
    finally:
        await server.close()
