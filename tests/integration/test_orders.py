"""An operator pauses a service of the real daemon, resumes it, acknowledges an incident; and a maintenance window."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.guarding import ENVIRONMENT, Guarding, demo_table, guarding, kinds
from watchdog.demo import child

ONLY_ALERT = "ladder = { epoll_stall = [] }\n"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[child.Service]:
    with child.service(tmp_path) as running:
        yield running


def environment(directory: Path) -> Mapping[str, str]:
    """As systemd gives it to the unit."""
    (directory / "control").mkdir(exist_ok=True)
    return {**ENVIRONMENT, "RUNTIME_DIRECTORY": f"{directory}/another:{directory}/control"}


def order(directory: Path, *words: str, code: int = 0) -> str:
    """What `epoll-watchdog` says to an order over the daemon's own socket."""
    command = [sys.executable, "-P", "-m", "watchdog", *words, "--socket", str(directory / "control/control.sock")]
    env = {"COLUMNS": "80", "SUDO_USER": "alice", "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def status(guard: Guarding) -> str:
    return " ".join(_run("status", "--url", f"http://{guard.daemon.address}").stdout.split())


def test_a_paused_service_is_not_healed_until_it_is_resumed_and_a_restart_of_the_daemon_forgets_nothing(
    service: child.Service, tmp_path: Path
) -> None:
    table, env = demo_table(service), environment(tmp_path)
    with guarding(tmp_path, table, env=env) as guard:
        guard.wait_verdict("demo", "healthy")
        told = order(tmp_path, "pause", "demo", "--for", "2h", "--reason", "new disk")
        assert told.startswith("demo: paused until ")
        assert guard.metric("paused", name="demo") == 1
    with guarding(tmp_path, table, env=env) as guard:
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        view = guard.wait_held("demo", "paused")
        assert view["pause_by"] == "root (for alice, as it says)"
        assert view["held_for"] == "paused by root (for alice, as it says): new disk"
        assert "demo: paused by root (for alice, as it says) until" in status(guard)
        assert order(tmp_path, "resume", "--all") == "demo: resumed\n"
        incident = guard.wait_record("demo", "resolved")
        assert [kind for kind in kinds(incident) if kind in ("paused", "resumed", "nudged")] == ["resumed", "nudged"]
        assert order(tmp_path, "resume", "demo") == "demo: was not paused\n"


def test_evidence_is_handed_out_over_the_control_socket(service: child.Service, tmp_path: Path) -> None:
    with guarding(tmp_path, demo_table(service), env=environment(tmp_path)) as guard:
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        incident = guard.wait_record("demo", "resolved")["id"]
        shown = [
            _run("explain", incident, "--url", url).stdout
            for url in (f"unix:{tmp_path}/control/control.sock", f"http://{guard.daemon.address}")
        ]
    assert ["did not hand out" in told for told in shown] == [False, True]
    assert "(loop)" in shown[0]


def completed(line: str) -> str:
    """What a shell offers for the last word of a line."""
    asking = {"_EPOLL_WATCHDOG_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    command = [sys.executable, "-P", "-m", "watchdog"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=asking)
    return done.stdout.strip().removeprefix("plain,")


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "watchdog", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={"COLUMNS": "80"})


def test_a_pause_ends_by_itself(service: child.Service, tmp_path: Path) -> None:
    with guarding(tmp_path, demo_table(service), env=environment(tmp_path)) as guard:
        guard.wait_verdict("demo", "healthy")
        order(tmp_path, "pause", "--all", "--for", "5s")
        assert guard.service("demo")["paused"]
        guard.wait(lambda: not guard.service("demo")["paused"], "the end of the pause")


def test_an_incident_is_acknowledged_by_the_first_letters_of_its_id(service: child.Service, tmp_path: Path) -> None:
    with guarding(tmp_path, demo_table(service, ONLY_ALERT), env=environment(tmp_path)) as guard:
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        incident = guard.wait_record("demo", "opened")
        assert order(tmp_path, "ack", incident["id"][:8]) == "demo: acknowledged\n"
        letter = guard.letters_until("acknowledged")[-1]
        assert letter["text"] == "acknowledged by root (for alice, as it says)"
        assert guard.service("demo")["acknowledged_by"] == "root (for alice, as it says)"
        again = json.loads(order(tmp_path, "ack", incident["id"], "--json"))
        assert again["services"][0]["changed"] is False
        assert "no open incident begins with 'ffffffff'" in order(tmp_path, "ack", "ffffffff", code=1)


def test_an_order_that_can_not_be_given_says_why(service: child.Service, tmp_path: Path) -> None:
    with guarding(tmp_path, demo_table(service), env=environment(tmp_path)):
        assert completed(f"epoll-watchdog pause --socket {tmp_path}/control/control.sock de") == "demo"
        told = order(tmp_path, "pause", "demo", "nginx", code=1)
        assert "no such service is guarded: nginx; there are: demo" in told
    assert "the daemon can't be asked" in order(tmp_path, "pause", "demo", code=3)


def test_in_a_maintenance_window_nothing_is_done_and_nobody_told_until_it_is_over(
    service: child.Service, tmp_path: Path
) -> None:
    start = time.strftime("%H:%M", time.gmtime(time.time() - 3600))
    window = f'[window.night]\nstart = "{start}"\nduration = "2h"\nlocation = "UTC"\nreason = "backup"\n'
    table = demo_table(service)
    with guarding(tmp_path, table + window, env=environment(tmp_path)) as guard:
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        guard.wait_held("demo", "maintenance")
        assert guard.metric("maintenance_open", name="demo") == 1
        assert "maintenance window night until" in status(guard)
        guard.config.write_text(guard.config.read_text().replace(window, ""))
        os.kill(guard.pid, signal.SIGHUP)
        incident = guard.wait_record("demo", "resolved")
        assert kinds(incident)[0] == "opened"
        told = [letter["kind"] for letter in guard.letters_until("resolved")]
        assert "opened" not in told
        assert "nudged" in told
