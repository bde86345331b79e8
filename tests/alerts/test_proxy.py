"""Through an HTTP proxy, by the channel `webhook`: what it is asked for, and that its password shows nowhere."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.letters import letter
from tests.alerts.receiver import answer, receiver
from watchdog.alerts.delivery import Delivered, Failed
from watchdog.alerts.webhook import Settings, Webhook
from watchdog.settings import Secret

PASSWORD = "password-that-nobody-may-see"
HOOK = "http://alerts.invalid/hook"  # a name that only a proxy could resolve (RFC 6761, 6.4)


async def send(**settings: Any) -> Delivered | Failed:
    """One attempt."""
    hook = Webhook(Settings(**{"url": HOOK} | settings))
    try:
        return await hook.send(letter())
    finally:
        await hook.close()


async def test_the_proxy_is_asked_for_the_url_with_its_password(tmp_path: Path) -> None:
    async with receiver() as proxy:
        address = proxy.url.removeprefix("http://").partition("/")[0]
        (tmp_path / "proxy").write_text(f"http://watchdog:{PASSWORD}@{address}\n")
        assert await send(proxy=Secret(file=str(tmp_path / "proxy"))) == Delivered()
        [request] = await proxy.received(1)
    assert request.target == HOOK
    assert request.headers["host"] == "alerts.invalid"
    told = base64.b64decode(request.headers["proxy-authorization"].removeprefix("Basic ")).decode()
    assert told == f"watchdog:{PASSWORD}"


async def test_a_proxy_that_refuses_a_tunnel_is_told() -> None:
    async with receiver(answer(407)) as proxy:
        result = await send(url="https://alerts.invalid/hook", proxy=proxy.url)
    assert result == Failed(retry=True, error="the proxy answered 407")


async def test_no_fault_of_a_proxy_shows_its_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with receiver() as gone:
        address = gone.url.removeprefix("http://").partition("/")[0]
    result = await send(proxy=f"http://watchdog:{PASSWORD}@{address}")
    assert result == Failed(retry=True, error="connection to the proxy failed: Connection refused")
    assert PASSWORD not in caplog.text + repr(Settings(url=HOOK, proxy=f"http://watchdog:{PASSWORD}@{address}"))


async def test_a_proxy_in_a_secret_that_is_no_url_is_told_without_it(tmp_path: Path) -> None:
    (tmp_path / "proxy").write_text(f"watchdog:{PASSWORD}")
    result = await send(proxy=Secret(file=str(tmp_path / "proxy")))
    assert isinstance(result, Failed)
    assert result.retry
    assert result.error.startswith("proxy: must be like")
    assert PASSWORD not in result.error


async def test_no_environment_variable_is_asked_for_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as proxy, receiver() as place:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert await send(url=place.url) == Delivered()
    assert proxy.requests == []
