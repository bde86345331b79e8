"""The real daemon heals a stall, and Debian's Alertmanager tells of it, over a restart of the daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.alerts.am import alertmanager
from tests.alerts.receiver import receiver
from tests.integration.guarding import ENVIRONMENT, Guarding, demo_table, guarding
from watchdog.demo import child

CHANNEL = """\
[channel.alertmanager]
type = "alertmanager"
urls = ["{url}"]
interval = "1s"
firing_at_least = "12s"
"""  # the first daemon must heal and end within it


def healed(directory: Path, tables: str, service: child.Service) -> None:
    """A stall is healed by a daemon that ends soon after."""
    with guarding(directory, tables, env=ENVIRONMENT) as guard:
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        guard.wait_record("demo", "resolved")


def told(guard: Guarding) -> float:
    """How often this daemon told; the letters that the first one left are fewer than four."""
    return guard.metric("notifications_total", channel="alertmanager") or 0.0


async def test_a_stall_that_was_healed_at_once_fires_over_a_restart_of_the_daemon_and_ends(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    async with receiver() as hook, alertmanager(tmp_path, hook.url) as real:
        with child.service(tmp_path / "service") as service:
            tables = demo_table(service, 'mode = "nudge"\n') + CHANNEL.format(url=real.url)
            await asyncio.to_thread(healed, tmp_path, tables, service)
            [shown] = await real.shows(bool)
            with guarding(tmp_path, tables, env=ENVIRONMENT) as guard:
                first, last = await hook.received(2, within_s=40.0)
                await asyncio.to_thread(guard.wait, lambda: told(guard) > 3, "what stands told again and again")
    assert shown["labels"]["name"] == "demo"
    assert "nudge done" in last.json["commonAnnotations"]["done"]
    assert (first.json["status"], last.json["status"]) == ("firing", "resolved")
