"""Whose a unit is: the system's own, and not one of the same name below it, nor of another systemd."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.servers import until
from tests.systemd.machine import PYTHON, REPOSITORY, Machine
from tests.target.sleepers import UNIFIED
from watchdog.target import NotOfUnit, unit_pids

SLEEPER = "[Service]\nExecStart=/bin/sleep infinity\n"
# What a user's systemd and a container do with what is delegated to them: slices and services by names of their own.
BOX = r"""
[Service]
Delegate=yes
ExecStart=/bin/sh -c 'cd /sys/fs/cgroup/system.slice/box.service && mkdir -p app.slice/owned.service && \
    echo 0 >app.slice/owned.service/cgroup.procs && exec sleep infinity'
"""
ASK = """
import sys
from watchdog.target import Refusal, unit_pids
try:
    print(*unit_pids(sys.argv[1], int(sys.argv[2])))
except Refusal as refusal:
    print(refusal)
"""


def test_a_unit_in_what_another_one_was_delegated_is_not_the_system_s(machine: Machine) -> None:
    unit = machine.add_unit("owned.service", SLEEPER, start=True)
    box = machine.add_unit("box.service", BOX, start=True)
    own, other = machine.show(unit, "MainPID"), machine.show(box, "MainPID")
    boxed = "/system.slice/box.service/app.slice/owned.service"
    until(lambda: boxed in machine.run("cat", f"/proc/{other}/cgroup").stdout, 5, "the process in its cgroup")

    told = [machine.python(ASK, name, pid).strip() for name, pid in ((unit, own), (unit, other), (box, other))]
    machine.systemctl("stop", unit, box)
    assert told == [own, f"process {other} is not of owned.service: its cgroup is {boxed}", other]


def test_a_unit_of_a_container_s_systemd_is_not_the_host_s(machine: Machine) -> None:
    unit = machine.add_unit("contained.service", SLEEPER, start=True)
    paths = Path(f"/proc/{machine.leader}/cgroup").read_text().splitlines()
    top = next(path for path in paths if path.startswith("0::")).removeprefix("0::").removesuffix("/init.scope")
    main = int((UNIFIED / f"{top}/system.slice/{unit}/cgroup.procs".lstrip("/")).read_text())
    with pytest.raises(NotOfUnit, match=f"its cgroup is {top}/system.slice/{unit}$"):
        unit_pids(unit, main)
    machine.systemctl("stop", unit)


def test_a_unit_is_known_wherever_its_systemd_has_its_root(machine: Machine) -> None:
    """As where a container shares the cgroup namespace of its host: PID 1 is in /…/payload/init.scope."""
    unit = machine.add_unit("rooted.service", SLEEPER, start=True)
    main = machine.show(unit, "MainPID")
    inside = ["nsenter", f"--target={machine.leader}", "--mount", "--pid", "--", str(PYTHON), "-c", ASK, unit, main]
    done = subprocess.run(inside, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=True)
    machine.systemctl("stop", unit)
    assert done.stdout.strip() == main
