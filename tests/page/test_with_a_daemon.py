"""The page of a real daemon that guards a real service."""

from __future__ import annotations

import re
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import bcrypt
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from tests.page.browser import PHONE, page_of
from tests.servers import free_port, until
from watchdog.demo import child
from watchdog.demo.config import COMMUNITY, write_config
from watchdog.demo.receiver import receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

Running = tuple[child.Service, child.Daemon]


def url_of(daemon: child.Daemon) -> str:
    """Where its page is."""
    return f"http://{daemon.address}"


@contextmanager
def demo_of(http: str = "") -> Iterator[Running]:
    """The demo's service and its daemon; `http` is one more line of that table of the config."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiving = stack.enter_context(receiver())
        service = stack.enter_context(child.service(directory, "--community", COMMUNITY))
        listen = f"127.0.0.1:{free_port()}"
        config = write_config(directory, service.addresses, listen, receiving.url)
        config.write_text(config.read_text().replace("[http]\n", f"[http]\n{http}\n"))
        daemon = stack.enter_context(child.daemon(config, listen, log=directory / "daemon.log"))
        yield service, daemon


@pytest.fixture
def demo() -> Iterator[Running]:
    """The demo, as it is."""
    with demo_of() as running:
        yield running


USER, PASSWORD = "ann", "secret"


@pytest.fixture
def known(tmp_path: Path) -> Iterator[Running]:
    """The same, and the daemon asks for a password from some time on: whoever waits for it to be ready has none."""
    web = tmp_path / "web.yml"
    web.write_text("{}\n")
    with demo_of(f'web_config = "{web}"') as (service, daemon):
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        web.write_text(f"basic_auth_users:\n  {USER}: {hashed}\n")
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: "the config was read again" in daemon.said(), 10, "the reload")
        yield service, daemon


async def test_whom_is_known_sees_where_each_thread_slept(browser: Browser, known: Running) -> None:
    service, daemon = known
    credentials = {"username": USER, "password": PASSWORD}
    async with page_of(browser, url_of(daemon), PHONE, http_credentials=credentials) as seen:
        await seen.go("/")
        page = seen.page
        service.lose_wakeup()
        past = page.get_by_role("table", name="Past incidents, newest first")
        await past.get_by_role("link").first.click()
        await page.get_by_role("link", name="What the probes and the kernel said").click()
        thread = page.get_by_role("row").filter(has_text="(loop)").first
        await expect(thread).to_contain_text(re.compile(r"epoll_p?wait on epoll \d+, without a time-out"))
        await expect(page.get_by_role("row").filter(has_text="snmp").first).to_contain_text("alive")
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert await page.evaluate("document.documentElement.scrollWidth") == PHONE
        assert seen.complaints == []


async def test_it_tells_the_story_of_a_lost_wake_up(browser: Browser, demo: Running) -> None:
    service, daemon = demo
    async with page_of(browser, url_of(daemon)) as seen:
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
