"""The units: how closed they are, and that systemd understands every line of them."""

from __future__ import annotations

import subprocess

import pytest

from tests.systemd.machine import REPOSITORY, Machine

UNITS = ("epoll-watchdog.service", "epoll-watchdog-helper.service", "epoll-watchdog-helper.socket")


@pytest.mark.parametrize(("unit", "tenths"), [("epoll-watchdog.service", 16), ("epoll-watchdog-helper.service", 20)])
def test_a_unit_is_as_closed_as_was_promised(unit: str, tenths: int) -> None:
    command = ["systemd-analyze", "security", "--no-pager", "--offline=yes", f"--threshold={tenths}"]
    done = subprocess.run([*command, REPOSITORY / "systemd" / unit], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_systemd_understands_every_line(installed: Machine) -> None:
    done = installed.run("systemd-analyze", "verify", *UNITS, check=False)
    ours = [line for line in done.stderr.splitlines() if "epoll-watchdog" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("unit", UNITS[:2])
def test_a_command_that_the_kernel_ends_for_lack_of_memory_does_not_take_the_unit_with_it(
    installed: Machine, unit: str
) -> None:
    assert (installed.show(unit, "OOMScoreAdjust"), installed.show(unit, "OOMPolicy")) == ("-900", "continue")
