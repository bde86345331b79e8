"""The page of a real daemon that guards a real service."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.page.browser import page_of
from tests.servers import free_port
from watchdog.demo import child
from watchdog.demo.config import COMMUNITY, write_config
from watchdog.demo.receiver import receiver


@pytest.fixture
def demo() -> Iterator[tuple[child.Service, str]]:
    """The demo's service and its daemon's URL."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiving = stack.enter_context(receiver())
        service = stack.enter_context(child.service(directory, "--community", COMMUNITY))
        listen = f"127.0.0.1:{free_port()}"
        config = write_config(directory, service.addresses, listen, receiving.url)
        daemon = stack.enter_context(child.daemon(config, listen, log=directory / "daemon.log"))
        yield service, f"http://{daemon.address}"


async def test_it_tells_the_story_of_a_lost_wake_up(browser: Browser, demo: tuple[child.Service, str]) -> None:
    service, url = demo
    async with page_of(browser, url) as seen:
        await seen.go("/")
        page = seen.page
        await expect(page.get_by_role("heading", level=1)).to_contain_text("The service is healthy")
        await page.evaluate("window.kept = true")
        service.lose_wakeup()
        past = page.get_by_role("table", name="Past incidents, newest first")
        await expect(past.get_by_text("epoll_stall (confirmed)")).to_be_visible()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("The service is healthy")
        strip = page.get_by_label("tcp, last 5m:")
        await expect(strip).to_have_attribute("aria-label", re.compile(r"^tcp, last 5m: (late|silent) \d+s, "))
        assert await page.evaluate("window.kept")
        await past.get_by_role("link").first.click()
        await expect(page.get_by_text("nudge done: 1 thread nudged")).to_be_visible()
        await expect(page.get_by_text("waits on epoll").first).to_be_visible()
        await expect(page.get_by_text("the first good answer came").first).to_be_visible()
        assert seen.complaints == []
