"""`epoll-watchdog diagnose` beside a booted systemd: it knows the unit of a process, and the process of a unit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import until
from tests.systemd.machine import Machine

ROOT = Path(__file__).parent.parent.parent
CONFIG = """
[service.seen]
unit = "diagnosed.service"
[service.seen.probe.tcp]
type = "tcp"
address = "127.0.0.1:17011"
send = "ping\\n"
expect = "pong"
"""


@pytest.fixture
def unit(machine: Machine) -> Iterator[str]:
    """A unit that answers pings."""
    machine.write_file("/run/diagnosed.toml", CONFIG, 0o600)
    service = f"{sys.executable} -m watchdog.demo.service --dir /run/diagnosed --port 17011 --snmp-port 17011"
    text = f"[Service]\nRuntimeDirectory=diagnosed\nWorkingDirectory={ROOT}\nExecStart={service}\n"
    started = machine.add_unit("diagnosed.service", text, start=True)
    pidfile = Path(f"/proc/{machine.leader}/root/run/diagnosed/service.pid")
    until(pidfile.exists, 30.0, "that it listens")  # written after all its sockets are there
    yield started
    machine.systemctl("stop", "diagnosed.service")


def diagnose(machine: Machine, *arguments: str) -> dict[str, Any]:
    command = (sys.executable, "-P", "-m", "watchdog", "diagnose", "--json", *arguments)
    answer: dict[str, Any] = json.loads(machine.run(*command, env={"PYTHONPATH": str(ROOT)}, check=False).stdout)
    return answer


def test_the_unit_of_a_main_process_is_named(machine: Machine, unit: str) -> None:
    pid = machine.show(unit, "MainPID")
    answer = diagnose(machine, "--pid", pid)
    assert (answer["pid"], answer["unit"], answer["result"]) == (int(pid), unit, "nothing_found")


def test_a_service_that_is_a_unit_is_read_by_its_cgroup(machine: Machine, unit: str) -> None:
    answer = diagnose(machine, "seen", "--config", "/run/diagnosed.toml")
    assert (answer["unit"], answer["result"]) == (unit, "healthy")
    assert answer["case"]["unit"]["active_state"] == "active"
    assert answer["case"]["reading"]["samples"][-1]["processes"][0]["pid"] == int(machine.show(unit, "MainPID"))


def test_a_unit_that_its_operator_stopped_is_not_asked(machine: Machine, unit: str) -> None:
    machine.systemctl("stop", unit)
    answer = diagnose(machine, "seen", "--config", "/run/diagnosed.toml")
    assert (answer["diagnosis"]["verdict"], answer["ladder"], answer["result"]) == ("stopped", [], "sick")
    assert answer["case"]["round"]["observations"] == {}
