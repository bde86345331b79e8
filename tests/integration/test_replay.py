"""What the real daemon recorded is replayed, while it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.guarding import ENVIRONMENT, Guarding, demo_table, guarding
from tests.integration.test_climb import killed_at_the_end, restart_command
from watchdog.demo import child
from watchdog.recording import Recording, load


def replay(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "watchdog", "replay", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[child.Service]:
    with child.service(tmp_path) as running:
        yield running


@pytest.fixture
def guard(service: child.Service, tmp_path: Path) -> Iterator[Guarding]:
    """The daemon, after it healed a stall."""
    with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as running:
        running.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        running.wait_record("demo", "resolved")
        yield running


def extracted(guard: Guarding) -> tuple[Path, Recording]:
    """The one incident, from the database of the running daemon."""
    directory = guard.config.parent
    done = replay(directory / "state/state.db", "--extract", directory / "incidents")
    assert done.returncode == 0, done.stderr
    [file] = [Path(line) for line in done.stdout.splitlines()]
    return file, load(file.read_text())


def test_a_healed_stall_would_be_decided_as_it_was(guard: Guarding) -> None:
    done = replay("--json", guard.config.parent / "state/state.db")
    told = json.loads(done.stdout)
    [incident] = told["incidents"]
    assert (done.returncode, told["differs"]) == (0, False)
    actions = [entry["then"]["action"] for entry in incident["entries"]]
    assert [action for action in actions if action is not None] == ["nudge"]
    looks = [entry for entry in incident["entries"] if entry["event"] == "looked"]
    assert all(entry["rediagnosed"] for entry in looks)


def test_a_nudge_is_recorded_with_the_evidence_it_destroys(guard: Guarding) -> None:
    _, recording = extracted(guard)
    [opening] = [kept for kept in recording.entries if kept.decided is not None and kept.decided.action is not None]
    assert opening.case is not None
    assert opening.case.reading is not None
    assert opening.case.reading.samples


def test_an_extracted_incident_needs_nothing_else_and_is_for_its_owner_only(guard: Guarding) -> None:
    file, recording = extracted(guard)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    (guard.config.parent / "state/state.db").rename(guard.config.parent / "elsewhere.db")
    done = replay(file)
    assert done.returncode == 0
    assert f"demo {recording.incident.id[:8]}" in done.stdout


def test_no_secret_and_no_command_line_is_recorded(tmp_path: Path) -> None:
    with child.service(tmp_path, "--stubborn", "-1") as service, killed_at_the_end(tmp_path / "service.pid"):
        keys = f'dark_for = "1s"\n{restart_command(service, tmp_path)}'
        with guarding(tmp_path, demo_table(service, keys), env={"SNMP_COMMUNITY": "public"}) as guard:
            guard.wait_verdict("demo", "healthy")
            service.lose_wakeup()
            guard.wait_record("demo", "resolved", within_s=20)
            file, recording = extracted(guard)
    assert [kept.decided.action for kept in recording.entries if kept.decided and kept.decided.action][-1] == "restart"
    text = file.read_text()
    assert "public" not in text
    assert "restart.py" not in text
    assert sys.executable not in text
