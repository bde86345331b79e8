"""The lab's machine: a systemd that has booted on the lab's kernel, and commands run in it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel_lab import kernel, machine
from tests.kernel_lab.machine import Machine
from tests.systemd.machine import missing


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One machine for them all."""
    if lacking := ", ".join(filter(None, (missing(), kernel.missing()))):
        pytest.skip(f"needs {lacking}")
    with machine.booted(tmp_path_factory.mktemp("lab") / "machine") as booted:
        yield booted


def test_systemd_runs_and_no_unit_has_failed(lab: Machine) -> None:
    assert lab.systemctl("is-system-running", "--wait") == "running"


def test_it_is_the_kernel_that_loses_wake_ups(lab: Machine) -> None:
    lab.lose("nobody", 3)
    assert lab.run("cat", "/sys/module/eventpoll/parameters/lose_left").stdout == "3\n"
    assert lab.lost() == 0


def test_cgroups_are_the_unified_hierarchy(lab: Machine) -> None:
    assert {"memory", "pids"} <= set(lab.run("cat", "/sys/fs/cgroup/cgroup.controllers").stdout.split())


def test_a_megabyte_goes_in_and_comes_out(lab: Machine) -> None:
    text = "0123456789abcde\n" * 65536
    assert lab.run("cat", stdin=text).stdout == text


def test_the_repository_can_be_run_but_not_changed(lab: Machine) -> None:
    version = lab.run(f"{kernel.REPOSITORY}/.venv/bin/epoll-watchdog", "--version").stdout
    touch = lab.run("touch", f"{kernel.REPOSITORY}/touched", check=False)
    assert "epoll-watchdog" in version
    assert "Read-only file system" in touch.stderr


def test_what_is_written_inside_stays_inside(lab: Machine) -> None:
    lab.write_file("/etc/written-in-the-lab", "here\n")
    assert lab.run("cat", "/etc/written-in-the-lab").stdout == "here\n"
    assert not Path("/etc/written-in-the-lab").exists()


def test_a_command_that_fails_fails_the_test(lab: Machine) -> None:
    with pytest.raises(AssertionError, match="ended with 3:\nwhy"):
        lab.run("sh", "-c", "echo why; exit 3")


def test_a_command_that_takes_too_long_is_ended(lab: Machine) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        lab.run("sleep", "60", timeout=0.5)
    assert lab.run("true").returncode == 0
