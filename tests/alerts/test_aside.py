"""What channels wait for in threads delays nobody else."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.alerts.letters import letter
from watchdog.alerts import CHANNELS, template
from watchdog.alerts.aside import Aside, connected
from watchdog.alerts.delivery import Failed

MANY = (os.cpu_count() or 1) + 8  # more than the executor of the loop has threads
HANGS = "hangs.example.org"


@dataclass(frozen=True, slots=True)
class Resolver:
    """One that does not answer before `answers` is set."""

    answers: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)  # the names for which a thread waits, or has waited


@pytest.fixture
async def hanging(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Resolver]:
    """The resolver of this process, which hangs."""
    resolver, real = Resolver(), socket.getaddrinfo

    def slow(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == HANGS:
            resolver.asked.append(host)
            resolver.answers.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield resolver
    resolver.answers.set()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("webhook", {"url": f"http://{HANGS}/"}),
        ("email", {"host": HANGS, "sender": "a@example.org", "recipients": ("b@example.org",)}),
    ],
)
async def test_names_that_hang_take_no_thread_of_the_loop(
    hanging: Resolver, kind: str, settings: dict[str, Any]
) -> None:
    settings = settings | {"timeout": 0.2}
    channels = [CHANNELS[kind].open(CHANNELS[kind].settings(**settings)) for _ in range(MANY)]
    results = await asyncio.gather(*(channel.send(letter()) for channel in channels))
    assert set(results) == {Failed(retry=True, error="no answer within 200ms")}
    async with asyncio.timeout(5):
        assert await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
        assert await asyncio.to_thread(lambda: "free") == "free"
    hanging.answers.set()
    for channel in channels:
        await channel.close()


async def test_the_names_of_one_channel_take_few_threads(hanging: Resolver) -> None:
    aside = Aside("one channel")
    asked = [asyncio.create_task(aside.look_up(HANGS, 80)) for _ in range(20)]
    await asyncio.sleep(0)
    assert sum(thread.name.startswith("one channel") for thread in threading.enumerate()) == 2
    async with asyncio.timeout(10):
        while len(hanging.asked) < 2:  # noqa: ASYNC110 (other threads' doing)
            await asyncio.sleep(0.01)
    aside.close()
    hanging.answers.set()
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, asyncio.CancelledError) for each in ended) == 18


async def test_templates_that_take_long_take_no_thread_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def slow(asked: object) -> dict[str, str]:
        ended.wait(30)
        return {"title": "late"}

    monkeypatch.setattr(template, "_child", slow)
    words = [asyncio.create_task(template.Wording(title="x").of(letter(), "host")) for _ in range(MANY)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert await asyncio.to_thread(lambda: "free") == "free"
    finally:
        ended.set()
    assert {each.title for each in await asyncio.gather(*words)} == {"late"}


async def test_the_next_address_is_tried_where_one_takes_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_server(("127.0.0.1", 0)) as closed:
        gone, here = closed.getsockname(), listening.getsockname()
        closed.close()
        kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(*kind, gone), (*kind, here)])
        aside = Aside("channel")
        with await connected(aside, "mail.example.org", 25) as made:
            assert made.getpeername() == here
        aside.close()
