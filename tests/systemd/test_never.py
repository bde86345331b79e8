"""What a booted host stands on, and that no naming leads to it: not to systemd, nor to the bus, nor to its daemons."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.systemd.machine import Machine

ASK = """
import json, sys
from watchdog.model import Epoch
from watchdog.target import Match, Refusal, Target, find, processes, start_time
named, pid = json.loads(sys.argv[1]), int(sys.argv[2])
if "process" in named:
    named["process"] = Match(**named["process"])
told = []
for ask in (lambda: find(Target(**named)), lambda: processes(Target(**named), Epoch(pid, start_time(pid)))):
    try:
        told.append(repr(ask()))
    except Refusal as refusal:
        told.append(type(refusal).__name__)
print(json.dumps(told))
"""


def asked(machine: Machine, pid: str, **named: Any) -> list[str]:
    """What comes of looking for it, and of asking for the processes of PID by that name."""
    return json.loads(machine.python(ASK, json.dumps(named), pid))  # type: ignore[no-any-return]


@pytest.mark.parametrize("unit", ["dbus.service", "systemd-journald.service", "init.scope"])
def test_no_naming_leads_to_what_the_host_stands_on(machine: Machine, unit: str) -> None:
    pid = "1" if unit == "init.scope" else machine.show(unit, "MainPID")
    machine.write_file("/run/never.pid", pid)
    exe = machine.run("readlink", f"/proc/{pid}/exe").stdout.strip()
    path = machine.run("cat", f"/proc/{pid}/cgroup").stdout.strip().removeprefix("0::")
    never = ["NeverATarget"] * 2

    assert asked(machine, pid, unit=unit) == never
    assert asked(machine, pid, pidfile="/run/never.pid") == never
    assert asked(machine, pid, cgroup=path) == never
    assert asked(machine, pid, process={"exe": exe})[1] == "NeverATarget"


@pytest.mark.parametrize("unit", ["dbus.service", "systemd-journald.service"])
def test_what_only_such_a_unit_runs_is_not_found_by_what_it_runs(machine: Machine, unit: str) -> None:
    exe = machine.run("readlink", f"/proc/{machine.show(unit, 'MainPID')}/exe").stdout.strip()
    assert asked(machine, "1", process={"exe": exe})[0] == "NeverATarget"


def test_a_slice_that_holds_them_is_no_service_but_one_of_its_services_is(machine: Machine) -> None:
    unit = machine.add_unit("named.service", "[Service]\nExecStart=/bin/sleep 317\n", start=True)
    pid = machine.show(unit, "MainPID")
    assert asked(machine, pid, cgroup="/system.slice") == ["NeverATarget"] * 2
    by_cgroup = asked(machine, pid, cgroup=f"/system.slice/{unit}")
    by_process = asked(machine, pid, process={"exe": "/bin/sleep", "args": ["317"]})
    assert [f"(pid={pid}," in told for told in (*by_cgroup, *by_process)] == [True] * 4
    machine.systemctl("stop", unit)
