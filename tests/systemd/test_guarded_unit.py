"""The whole daemon beside a unit, in a booted systemd: what a nudge does not heal, a restart does, by D-Bus."""

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
LISTEN = "127.0.0.1:19797"

GUARDED = """
[Service]
RuntimeDirectory={name}
ExecStart={python} -m watchdog.demo.service --dir /run/{name} --port {port} --snmp-port {port} --stubborn {stubborn}
WorkingDirectory={root}
"""
DAEMON = """
[Service]
Type=notify
ExecStart={python} -m watchdog run --config /run/guarding/{name}.toml
WorkingDirectory={root}
"""
CONFIG = """
state_directory = "/run/guarding/{name}"
http = {{ listen = "{listen}" }}
[service.{name}]
unit = "{name}.service"
interval = "200ms"
timeout = "200ms"
settle = "{settle}"
dark_for = "2s"
[service.{name}.probe.tcp]
type = "tcp"
address = "127.0.0.1:{port}"
send = "ping\\n"
expect = "pong"
[service.{name}.probe.snmp]
type = "snmp"
address = "127.0.0.1:{port}"
oid = "1.3.6.1.2.1.1.3.0"
strength = "inside"
community = {{ file = "/run/guarding/community" }}
"""


class Beside:
    """A unit and the daemon that guards it, inside the machine."""

    def __init__(self, machine: Machine, name: str, port: int, stubborn: int, settle: str = "400ms") -> None:
        self.machine, self.unit, self.daemon = machine, f"{name}.service", f"guarding-{name}.service"
        values = {"name": name, "port": port, "stubborn": stubborn, "python": sys.executable, "root": ROOT}
        machine.run("mkdir", "-p", "-m", "700", "/run/guarding")
        machine.write_file("/run/guarding/community", "public\n", 0o600)
        machine.write_file(f"/run/guarding/{name}.toml", CONFIG.format(**values, settle=settle, listen=LISTEN), 0o600)
        machine.add_unit(self.unit, GUARDED.format(**values), start=True)
        machine.add_unit(self.daemon, DAEMON.format(**values), start=True)

    def api(self, what: str) -> list[dict[str, Any]]:
        """What the daemon's API says."""
        code = f"import urllib.request as u; print(u.urlopen('http://{LISTEN}/api/v1/{what}').read().decode())"
        answer: list[dict[str, Any]] = json.loads(self.machine.python(code))[what]
        return answer

    def wait_verdict(self, verdict: str) -> None:
        until(lambda: self.api("services")[0]["verdict"] == verdict, 20, f"the verdict {verdict}")

    def lose_wakeup(self) -> None:
        self.machine.systemctl("kill", "--signal=SIGUSR1", "--kill-whom=main", self.unit)

    def told(self) -> list[str]:
        """The kinds of all records of the newest incident."""
        incidents = self.api("incidents")
        return [record["kind"] for record in incidents[0]["timeline"]] if incidents else []

    def stop(self) -> None:
        self.machine.systemctl("stop", self.daemon, self.unit, check=False)


@pytest.fixture
def mild(machine: Machine) -> Iterator[Beside]:
    """A unit that a nudge heals."""
    beside = Beside(machine, "mild", 17001, 0)
    yield beside
    beside.stop()


@pytest.fixture
def stubborn(machine: Machine) -> Iterator[Beside]:
    """A unit whose stall outlives every nudge."""
    beside = Beside(machine, "stubborn", 17002, -1)
    yield beside
    beside.stop()


@pytest.fixture
def doomed(machine: Machine) -> Iterator[Beside]:
    """The same, for its operator to stop: long before its restart is due."""
    beside = Beside(machine, "doomed", 17003, -1, settle="20s")
    yield beside
    beside.stop()


@pytest.fixture
def grounded(machine: Machine) -> Iterator[Beside]:
    """The same, for another unit to stand on."""
    beside = Beside(machine, "grounded", 17004, -1)
    yield beside
    beside.stop()


def test_a_unit_that_lost_a_wakeup_is_nudged_in_its_cgroup_and_not_restarted(mild: Beside) -> None:
    mild.wait_verdict("healthy")
    before = mild.machine.show(mild.unit, "InvocationID")
    mild.lose_wakeup()
    until(lambda: "resolved" in mild.told(), 20, "the incident's end")
    assert mild.told().count("nudged") == 1
    assert mild.machine.show(mild.unit, "InvocationID") == before


def test_a_unit_that_nudges_do_not_heal_is_restarted_once_and_answers_again(stubborn: Beside) -> None:
    stubborn.wait_verdict("healthy")
    before = stubborn.machine.show(stubborn.unit, "InvocationID")
    stubborn.lose_wakeup()
    until(lambda: "resolved" in stubborn.told(), 30, "the incident's end")
    assert [kind for kind in stubborn.told() if kind in ("nudged", "restarted")] == ["nudged", "restarted"]
    assert stubborn.machine.show(stubborn.unit, "InvocationID") != before
    stubborn.wait_verdict("healthy")


def test_a_unit_that_others_stand_on_is_not_restarted_and_status_says_why(grounded: Beside) -> None:
    machine = grounded.machine
    above = f"[Unit]\nRequires={grounded.unit}\nAfter={grounded.unit}\n[Service]\nExecStart=/bin/sleep infinity\n"
    machine.add_unit("stands-on-it.service", above, start=True)
    grounded.wait_verdict("healthy")
    before = machine.show(grounded.unit, "InvocationID")
    grounded.lose_wakeup()
    until(lambda: "escalated" in grounded.told(), 30, "the alert")
    passes = grounded.api("services")[0]["passes"]
    machine.systemctl("stop", "stands-on-it.service")
    assert "restart: blast_radius" in passes
    assert "restarted" not in grounded.told()
    assert machine.show(grounded.unit, "InvocationID") == before


def test_a_dark_unit_that_its_operator_stops_stays_stopped(doomed: Beside) -> None:
    doomed.wait_verdict("healthy")
    doomed.lose_wakeup()
    until(lambda: "nudged" in doomed.told(), 20, "the first nudge")
    doomed.machine.systemctl("stop", doomed.unit)
    until(lambda: "resolved" in doomed.told(), 20, "the incident's end")
    assert "restarted" not in doomed.told()
    assert doomed.machine.show(doomed.unit, "ActiveState") == "inactive"
