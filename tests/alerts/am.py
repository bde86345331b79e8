"""Debian's prometheus-alertmanager on loopback, with one route to a webhook, and what a test asks of it.

Alertmanager's HTTP API: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.servers import free_port, running, wait_ready

CONFIG = """\
route:
  receiver: hook
  group_by: [alertname, name]
  group_wait: {wait}
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: hook
    webhook_configs:
      - url: {hook}
        send_resolved: true
"""
WITHIN_S = 40.0


class Real:
    """A running Alertmanager."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def alerts(self) -> list[dict[str, Any]]:
        """Those that fire, as its API shows them."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=5) as response:
            shown: list[dict[str, Any]] = json.load(response)
        return shown

    async def shows(self, holds: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Its alerts once this holds of them."""
        async with asyncio.timeout(WITHIN_S):
            while not holds(  # noqa: ASYNC110 (it announces nothing)
                shown := await asyncio.to_thread(self.alerts)
            ):
                await asyncio.sleep(0.05)
        return shown


@contextlib.asynccontextmanager
async def alertmanager(directory: Path, hook: str, wait: str = "1s") -> AsyncIterator[Real]:
    """One on its own, without a cluster."""
    port = free_port()
    home = directory / f"alertmanager-{port}"
    home.mkdir()
    (home / "config.yml").write_text(CONFIG.format(hook=hook, wait=wait))
    argv = ["/usr/bin/prometheus-alertmanager", f"--config.file={home}/config.yml", f"--storage.path={home}/data"]
    argv += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=warn"]
    with running(argv, home) as server:
        real = Real(port)
        await asyncio.to_thread(wait_ready, server, lambda: _answers(real))
        yield real


def _answers(real: Real) -> bool:
    try:
        real.alerts()
    except (OSError, ValueError):
        return False
    return True
