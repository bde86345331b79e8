"""How the page looks, and for whom it works: phones, dark rooms, keyboards, screen readers, no JavaScript."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from tests.page.browser import DESK, PHONE, Scheme, Seen, chromium, shown
from tests.page.scene import OPEN, dark, healthy, hundred, three
from tests.web.test_pages import EVIL
from tests.web.test_web import Daemon

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES = ("/", "/services/ravendb", "/incidents", f"/incidents/{OPEN}", "/incidents/7e4b7d02-77aa", "/incidents/none")
LONG = "a-service-with-a-name-that-is-as-long-as-any-administrator-would-ever-give-to-one.example"


async def overflow(seen: Seen) -> int:
    """How many pixels stick out to the right."""
    found = await seen.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return int(found)


def crash_handlers() -> set[int]:
    """Those of all browsers of this host."""
    found = set()
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it has gone
            if comm.read_text().startswith("chrome_crashpad"):
                found.add(int(comm.parts[2]))
    return found


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("width", [PHONE, DESK])
async def test_it_fits_and_no_browser_complains(browser: Browser, path: str, width: int) -> None:
    async with shown(browser, three(), width) as seen:
        await seen.go(path)
        assert await overflow(seen) == 0
        assert [each for each in seen.complaints if "404 (Not Found)" not in each] == []


async def test_what_is_too_long_is_broken(browser: Browser) -> None:
    evil = replace(dark(OPEN), name=LONG, reasons=(EVIL, "x" * 300), held_for="y" * 300)
    async with shown(browser, Daemon(guarded=(evil, healthy("z" * 64, "tcp"))), PHONE) as seen:
        await seen.go("/")
        assert await overflow(seen) == 0
        assert seen.complaints == []


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(DESK, "light"), (DESK, "dark"), (PHONE, "light"), (PHONE, "dark")])
async def test_axe_finds_no_barrier(browser: Browser, path: str, width: int, scheme: Scheme) -> None:
    async with shown(browser, three(), width, scheme) as seen:
        await seen.go(path)
        found = await Axe().run(seen.page)
        assert found.violations_count == 0, found.generate_report()


async def test_axe_finds_no_barrier_among_a_hundred_services(browser: Browser) -> None:
    async with shown(browser, hundred()) as seen:
        await seen.go("/")
        found = await Axe().run(seen.page)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 26)")])
async def test_it_is_dark_where_that_is_preferred(browser: Browser, scheme: Scheme, ground: str) -> None:
    async with shown(browser, three(), scheme=scheme) as seen:
        await seen.go("/")
        await expect(seen.page.locator("body")).to_have_css("background-color", ground)


async def test_the_keyboard_reaches_everything_and_shows_where_it_is(browser: Browser) -> None:
    async with shown(browser, three()) as seen:
        await seen.go("/")
        page = seen.page
        await page.keyboard.press("Tab")
        skip = page.get_by_text("Skip to the content")
        await expect(skip).to_be_focused()
        await expect(skip).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        link = page.get_by_role("link", name="ravendb").first
        await expect(link).to_be_focused()
        await expect(link).to_have_css("outline-style", "solid")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{seen.base}/incidents/{OPEN}")


async def test_without_javascript_all_of_it_is_there(browser: Browser) -> None:
    async with shown(browser, three(), PHONE, java_script_enabled=False) as seen:
        await seen.page.goto(f"{seen.base}/")
        await expect(seen.page.get_by_role("heading", level=1)).to_contain_text("1 of 3 services not healthy: ravendb")
        await expect(seen.page.locator('meta[http-equiv="refresh"]')).to_have_count(1)
        await seen.page.get_by_role("link", name="Open incident 5c1f7a20").click()
        await expect(seen.page.get_by_text("nudge done: 1 thread nudged")).to_be_visible()


# --- it updates itself ------------------------------------------------------------------------------------------------


async def test_it_shows_what_changed_without_a_reload(browser: Browser) -> None:
    daemon = three()
    daemon.guarded = [healthy("ravendb", "https", "tcp", "snmp"), *daemon.guarded[1:]]
    async with shown(browser, daemon) as seen:
        await seen.go("/")
        await seen.page.evaluate("window.kept = true")
        heading = seen.page.get_by_role("heading", level=1)
        await expect(heading).to_contain_text("All 3 services are healthy")
        daemon.guarded = [dark(OPEN), *daemon.guarded[1:]]
        daemon.bell.ring()
        await expect(heading).to_contain_text("1 of 3 services not healthy: ravendb")
        await expect(seen.page).to_have_title("✕ 1 of 3 services not healthy: ravendb · epoll-watchdog")
        assert await seen.page.evaluate("window.kept")
        assert seen.complaints == []


async def test_what_has_the_focus_keeps_it(browser: Browser) -> None:
    daemon = three()
    async with shown(browser, daemon) as seen:
        await seen.go("/")
        link = seen.page.get_by_role("link", name="redis")
        await link.focus()
        daemon.guarded = [healthy("ravendb", "https", "tcp", "snmp"), *daemon.guarded[1:]]
        daemon.bell.ring()
        await expect(seen.page.get_by_role("heading", level=1)).to_contain_text("All 3 services are healthy")
        await expect(link).to_be_focused()


async def test_an_incident_that_ends_is_told_and_then_left_alone(browser: Browser) -> None:
    daemon = three()
    async with shown(browser, daemon) as seen:
        await seen.go(f"/incidents/{OPEN}")
        await expect(seen.page.get_by_text("not yet, open for")).to_be_visible()
        daemon.stored = [replace(each, closed=each.closed or each.opened + 9) for each in daemon.stored]
        daemon.bell.ring()
        await expect(seen.page.get_by_text(", after 9s")).to_be_visible()
        await expect(seen.page.locator("body")).not_to_have_attribute("data-live", "/events")


async def test_a_daemon_that_is_gone_is_told(browser: Browser) -> None:
    async with shown(browser, three()) as seen:
        await seen.go("/")
        await seen.page.context.set_offline(True)
        await seen.page.evaluate("update()")
        await expect(seen.page.locator("#connection")).to_have_text("Not connected: what you see is old.")
        await seen.page.context.set_offline(False)
        await seen.page.evaluate("update()")
        await seen.live()


def send(process: int, number: int) -> None:
    """Send a signal by a pidfd, to whoever is there still."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)


async def test_a_crash_handler_that_lives_on_keeps_no_browser_from_closing() -> None:
    others = crash_handlers()
    with contextlib.ExitStack() as ending:
        async with asyncio.timeout(60), chromium():
            handlers = crash_handlers() - others
            for pid in handlers:
                with contextlib.suppress(ProcessLookupError):  # it only started another
                    handler = os.pidfd_open(pid)
                    ending.callback(os.close, handler)
                    ending.callback(send, handler, signal.SIGKILL)
                    send(handler, signal.SIGSTOP)
        assert handlers
