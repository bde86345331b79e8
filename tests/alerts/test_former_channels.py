"""Letters to a channel that was taken out of the config: not counted as waiting, and given up when they are old."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.alerts.letters import letter
from watchdog import config, daemon
from watchdog.model import State

CONFIG = """
state_directory = "{}"
[http]
listen = "127.0.0.1:0"
[service.web]
pidfile = "/run/web.pid"
[service.web.probe.tcp]
type = "tcp"
address = "127.0.0.1:1"
connect_only = true
[channel.ops]
type = "webhook"
url = "http://127.0.0.1:1/"
"""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[daemon.Daemon]:
    """A daemon with the channel "ops"; none of its parts is started."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(tmp_path))
    made = daemon.Daemon(path, config.load(path))
    yield made
    made._diag.close()
    await made._store.close()


async def test_what_waits_for_a_channel_that_is_gone_is_not_counted(running: daemon.Daemon) -> None:
    letters = [letter(key="", channel=channel, created=time.time()) for channel in ("ops", "gone", "gone")]
    await running._store.commit("web", State(), [], None, letters)
    await running._count_outbox()
    assert running._metrics._outbox._value.get() == 1


async def test_letters_grow_old_while_the_daemon_runs(
    running: daemon.Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(daemon, "SWEEP", 0.02)
    sweeping = asyncio.create_task(running._sweep())
    await asyncio.sleep(0.1)  # the looks have begun
    await running._store.commit("web", State(), [], None, [letter(key="", channel="gone", created=1.0)])
    async with asyncio.timeout(10):
        while await running._store.outbox_length():  # noqa: ASYNC110 (another thread's doing)
            await asyncio.sleep(0.02)
    sweeping.cancel()
    await asyncio.wait({sweeping})
    assert "GAVE UP 1 messages: it is configured no more" in caplog.text
