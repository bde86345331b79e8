"""SIGTERM, SIGHUP, and what systemd is told (sd_notify(3))."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.guarding import ENVIRONMENT, Guarding, demo_table, guarding
from watchdog.demo import child


@pytest.fixture
def service(tmp_path: Path) -> Iterator[child.Service]:
    with child.service(tmp_path, "--stubborn", "-1") as running:
        yield running


@pytest.fixture
def notify_socket(tmp_path: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(30)
        yield sock


def words_until(notify_socket: socket.socket, last: str) -> list[str]:
    words: list[str] = []
    while last not in words:
        words += notify_socket.recv(4096).decode().splitlines()
    return words


def modes(guard: Guarding) -> list[str]:
    """Of all services."""
    return [view["mode"] for view in guard.daemon.get("/api/v1/services")["services"]]


def terminate(guard: Guarding) -> float:
    """How long SIGTERM takes, in seconds."""
    began = time.monotonic()
    guard.daemon.process.terminate()
    guard.daemon.process.wait(timeout=10)
    return time.monotonic() - began


def test_sigterm_ends_it_within_a_second_while_clients_are_connected(service: child.Service, tmp_path: Path) -> None:
    with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        host, port = guard.daemon.address.rsplit(":", 1)
        with closing(http.client.HTTPConnection(guard.daemon.address)) as idle:
            idle.request("GET", "/-/healthy")
            assert idle.getresponse().read() == b"healthy\n"
            with closing(socket.create_connection((host, int(port)))) as halfway:
                halfway.sendall(b"GET /metrics HTTP/1.1\r\nHost:")
                assert terminate(guard) < 1.0
        assert guard.daemon.process.returncode == 0
        assert "Traceback" not in guard.daemon.said()


def test_sigterm_ends_it_within_a_second_in_the_middle_of_an_incident(service: child.Service, tmp_path: Path) -> None:
    with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        guard.wait_record("demo", "nudged")
        assert terminate(guard) < 1.0
        assert guard.daemon.process.returncode == 0


def test_a_reload_takes_a_new_config_and_keeps_the_state(service: child.Service, tmp_path: Path) -> None:
    with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        incident = guard.wait_record("demo", "nudged")
        other = demo_table(service).replace("service.demo", "service.other")
        guard.config.write_text(guard.config.read_text() + other)
        os.kill(guard.pid, signal.SIGHUP)
        guard.wait(lambda: len(modes(guard)) == 2, "the second service")
        assert guard.metric("config_last_reload_successful") == 1
        assert guard.service("demo")["incident"] == incident["id"]


def test_a_changed_service_keeps_its_open_incident_over_a_reload(service: child.Service, tmp_path: Path) -> None:
    with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        incident = guard.wait_record("demo", "nudged")
        changed = guard.config.read_text().replace("[service.demo]\n", '[service.demo]\nmode = "nudge"\n')
        guard.config.write_text(changed)
        os.kill(guard.pid, signal.SIGHUP)
        guard.wait(lambda: modes(guard) == ["nudge"], "the new mode")
        assert guard.service("demo")["incident"] == incident["id"]


def test_a_bad_config_is_told_and_the_old_one_stays_in_force(service: child.Service, tmp_path: Path) -> None:
    with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        guard.wait_verdict("demo", "healthy")
        guard.config.write_text(guard.config.read_text() + "[service.demo.probe.extra]\ntype = 'tpc'\n")
        os.kill(guard.pid, signal.SIGHUP)
        guard.wait(lambda: guard.metric("config_last_reload_successful") == 0, "the metric of a failed reload")
        guard.wait(lambda: "service.demo.probe.extra" in guard.daemon.said(), "what is bad is told")
        assert list(guard.service("demo")["probes"]) == ["tcp", "unix", "snmp"]
        guard.wait_verdict("demo", "healthy")


def test_nothing_starts_with_a_bad_config(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[service.x]\npidfile = "relative"\ninterval = 5\n')
    argv = [sys.executable, "-m", "watchdog", "run", "--config", str(config)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78  # systemd does not try again
    assert f"{config}: service.x.interval: " in done.stderr
    assert f"{config}: service.x.pidfile: " in done.stderr
    assert "Traceback" not in done.stderr


def test_systemd_hears_ready_and_ticks_and_stopping(
    service: child.Service, tmp_path: Path, notify_socket: socket.socket
) -> None:
    systemd = {"NOTIFY_SOCKET": notify_socket.getsockname(), "WATCHDOG_USEC": "600000"}
    with guarding(tmp_path, demo_table(service), env={**ENVIRONMENT, **systemd}) as guard:
        words = words_until(notify_socket, "READY=1")
        words += words_until(notify_socket, "WATCHDOG=1")
        words += words_until(notify_socket, "WATCHDOG=1")
        guard.config.touch()
        os.kill(guard.pid, signal.SIGHUP)
        assert "RELOADING=1" in words_until(notify_socket, "READY=1")
        guard.daemon.process.terminate()
        words += words_until(notify_socket, "STOPPING=1")
    assert any(word.startswith("STATUS=") for word in words)


def test_systemd_hears_no_tick_of_a_loop_that_stands_still(
    service: child.Service, tmp_path: Path, notify_socket: socket.socket
) -> None:
    systemd = {"NOTIFY_SOCKET": notify_socket.getsockname(), "WATCHDOG_USEC": "600000"}
    with guarding(tmp_path, demo_table(service), env={**ENVIRONMENT, **systemd}) as guard:
        words_until(notify_socket, "WATCHDOG=1")
        os.kill(guard.pid, signal.SIGSTOP)
        notify_socket.settimeout(0.7)
        with pytest.raises(TimeoutError):
            words_until(notify_socket, "never said")
        os.kill(guard.pid, signal.SIGCONT)
