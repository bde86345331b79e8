"""The reading commands against the real daemon, after it has healed the demo's service."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.asking import words
from tests.integration.guarding import ENVIRONMENT, Guarding, demo_table, guarding
from watchdog.demo import child


@pytest.fixture(scope="module")
def healed() -> Iterator[Guarding]:
    """It has an incident that is over."""
    with (
        tempfile.TemporaryDirectory() as name,
        child.service(Path(name)) as service,
        guarding(Path(name), demo_table(service), env=ENVIRONMENT) as running,
    ):
        running.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        running.wait_record("demo", "resolved", within_s=30.0)
        yield running


def ask(running: Guarding, *arguments: str) -> str:
    url = f"http://{running.daemon.address}"
    command = [sys.executable, "-P", "-m", "watchdog", *arguments, "--url", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"COLUMNS": "80"})
    assert (done.returncode in (0, 1), done.stderr) == (True, "")
    return done.stdout


def test_the_incident_is_listed_and_shown(healed: Guarding) -> None:
    [incident] = healed.incidents("demo")
    assert incident["id"][:8] in ask(healed, "incidents")
    shown = words(ask(healed, "incidents", incident["id"][:6]))
    assert "the longest stop of a thread was" in shown
    assert "nudged nudge done: 1 thread nudged" in shown


def test_the_incident_is_explained(healed: Guarding) -> None:
    [incident] = healed.incidents("demo")
    shown = words(ask(healed, "explain", incident["id"]))
    assert "nudge done 1 thread nudged" in shown
    assert "evidence goes out only over a private Unix socket" in shown


def test_the_status_knows_the_accept_queues(healed: Guarding) -> None:
    [demo] = json.loads(ask(healed, "status", "--json"))["services"]
    queues: dict[str, Any] = demo["accept_queues"]
    assert len(queues) == 2
    assert all(queue["limit"] > 0 for queue in queues.values())
