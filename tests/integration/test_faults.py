"""What is broken around the daemon: each time a clear message and a metric, and nothing else is harmed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests import servers
from tests.integration.guarding import ENVIRONMENT, Guarding, demo_table, guarding, kinds
from tests.servers import free_port
from watchdog.demo import child


@pytest.fixture
def service(tmp_path: Path) -> Iterator[child.Service]:
    with child.service(tmp_path) as running:
        yield running


@contextmanager
def small_disk(path: Path, options: str) -> Iterator[Path]:
    """A tmpfs of 1 MiB at `path`."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=1M,{options}", "none", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(directory: Path) -> Path:
    """Take all the space that is left."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 512)
    assert os.statvfs(directory).f_bavail == 0
    return path


def failed_attempts(guard: Guarding) -> float:
    """To deliver a letter."""
    return guard.metric("notifications_failed_total", channel="hook") or 0


def test_a_webhook_that_hangs_keeps_nobody_waiting(service: child.Service, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        hook = f"http://127.0.0.1:{mute.getsockname()[1]}/secret-part"
        with guarding(tmp_path, demo_table(service), hook=hook, env=ENVIRONMENT) as guard:
            guard.wait_verdict("demo", "healthy")
            service.lose_wakeup()
            guard.wait_record("demo", "resolved")
            guard.wait(lambda: failed_attempts(guard) > 0, "a failed attempt")
            assert (guard.metric("outbox_length") or 0) >= 2
            guard.wait(lambda: "channel hook" in guard.daemon.said(), "it is told")
            assert "secret-part" not in guard.daemon.said()


def test_letters_that_could_not_go_out_go_out_after_a_restart(service: child.Service, tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{free_port()}/hook"
    with guarding(tmp_path, demo_table(service), hook=dead, env=ENVIRONMENT) as guard:
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        incident = guard.wait_record("demo", "resolved")
        guard.wait(lambda: failed_attempts(guard) > 0, "a failed attempt")
    with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        letters = guard.letters_until("resolved")
        assert letters[0]["kind"] == "opened"
        assert {letter["incident"] for letter in letters} == {incident["id"]}
        guard.wait(lambda: guard.metric("outbox_length") == 0, "an empty outbox")


def test_an_unreachable_agent_is_told_and_nothing_is_nudged(service: child.Service, tmp_path: Path) -> None:
    with ExitStack() as rest:
        agent = rest.enter_context(servers.snmpd(tmp_path))
        table = demo_table(service, snmp=agent.address)
        guard = rest.enter_context(guarding(tmp_path, table, env=ENVIRONMENT))
        guard.wait_verdict("demo", "healthy")
        servers.kill(agent.process)
        incident = guard.wait_record("demo", "opened")
        assert incident["verdict"] == "witness_lost"
        assert any("snmp" in reason for reason in guard.service("demo")["reasons"])
        assert guard.metric("probe_success", name="demo", probe="snmp") == 0
        assert guard.metric("probe_success", name="demo", probe="tcp") == 1
        guard.wait_record("demo", "escalated")
        assert guard.metric("actions_total", name="demo", rung="nudge", outcome="done") in (0, None)


def test_with_a_full_disk_a_nudge_still_heals_and_recovery_is_told(service: child.Service, tmp_path: Path) -> None:
    disk = small_disk(tmp_path / "state", "mode=0700")
    with disk as state, guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        guard.wait_verdict("demo", "healthy")
        filler = fill(state)
        service.lose_wakeup()
        assert [service.next_event(within_s=10).name for _ in range(2)] == ["lost", "woken"]
        guard.wait(lambda: guard.metric("store_writable") == 0, "the metric of a full disk")
        guard.wait(lambda: "cannot be written" in guard.daemon.said(), "it is told")
        guard.wait_verdict("demo", "healthy")
        filler.unlink()
        service.lose_wakeup()
        guard.wait_record("demo", "resolved")
        assert guard.metric("store_writable") == 1
        guard.wait(lambda: "can be written again" in guard.daemon.said(), "it is told")


def test_with_a_read_only_state_directory_a_nudge_still_heals(service: child.Service, tmp_path: Path) -> None:
    with small_disk(tmp_path / "state", "ro"), guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        assert [service.next_event(within_s=10).name for _ in range(2)] == ["lost", "woken"]
        guard.wait(lambda: guard.metric("store_writable") == 0, "the metric of a store that is not written")
        guard.wait(lambda: "cannot be written" in guard.daemon.said(), "it is told")


def test_a_process_that_vanishes_is_dead_and_its_successor_is_taken_over(tmp_path: Path) -> None:
    with child.service(tmp_path) as first:
        table = demo_table(first)
        ports = [address.rsplit(":", 1)[1] for address in (first.addresses.tcp, first.addresses.snmp)]
        with guarding(tmp_path, table, env=ENVIRONMENT) as guard:
            guard.wait_verdict("demo", "healthy")
            os.kill(first.pid, signal.SIGKILL)
            incident = guard.wait_record("demo", "opened")
            assert incident["verdict"] == "dead"
            assert guard.metric("healthy", name="demo") == 0
            with child.service(tmp_path, "--port", ports[0], "--snmp-port", ports[1], "--community", "public"):
                resolved = guard.wait_record("demo", "resolved")
                assert "epoch" in kinds(resolved)
                assert "nudged" not in kinds(resolved)
