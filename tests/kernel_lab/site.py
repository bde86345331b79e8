"""The lab's machine with the package installed, and the programs and snmpd running in it, guarded by the daemon."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.installed.site import CONFIG
from tests.kernel_lab import losses
from tests.kernel_lab.losses import Dark, Healed
from tests.kernel_lab.machine import Machine, booted
from tests.kernel_lab.programs import HAPROXY_CONF, NGINX_CONF, PROGRAMS, SNMPD_CONF, Program
from tests.servers import NIO
from tests.systemd.inside import REPOSITORY
from tests.systemd.installed import DAEMON, HELPER, package

READY_S = 90.0  # s


@dataclass(frozen=True, slots=True)
class Site:
    """The machine with all that runs in it."""

    machine: Machine

    def heal(self, program: Program, times: int) -> list[Healed]:
        """So many losses, one after the other, while the daemon guards."""
        timeout = times * (losses.HEALED_S + losses.SETTLED_S)
        return [Healed(**told) for told in self._told("heal", program.name, str(times), timeout=timeout)]

    def dark(self, seconds: float, programs: tuple[Program, ...]) -> list[Dark]:
        """A loss in each program, for so long."""
        names = (program.name for program in programs)
        return [Dark(**told) for told in self._told("dark", str(seconds), *names, timeout=seconds + 120)]

    def spare(self, program: Program, seconds: float) -> dict[str, Any]:
        """What it lost while it was asked for so long."""
        [told] = self._told("spare", program.name, str(seconds), timeout=seconds + 30)
        return told

    def _told(self, *words: str, timeout: float) -> list[dict[str, Any]]:
        script = ["/usr/bin/python3", "-B", "-m", "tests.kernel_lab.losses", *words]
        done = self.machine.run(*script, env={"PYTHONPATH": str(REPOSITORY)}, timeout=timeout)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def life(self, program: Program) -> tuple[str, str]:
        """The InvocationID and the main PID of its unit."""
        return self.machine.show(program.unit, "InvocationID"), self.machine.show(program.unit, "MainPID")

    def restart_daemon(self) -> None:
        """It and its helper begin anew, and call all healthy."""
        self.machine.systemctl("stop", DAEMON, HELPER)
        if self.machine.run("systemctl", "start", DAEMON, check=False).returncode != 0:
            raise AssertionError(f"{DAEMON} does not start:\n{self.journal(DAEMON)}")
        self.wait_healthy(*PROGRAMS)

    def wait_healthy(self, *programs: Program) -> None:
        """Until the daemon calls each of them healthy, and no incident is open."""
        try:
            self._told("await", str(READY_S), *(program.name for program in programs), timeout=READY_S + 30)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.journal(DAEMON)}\n{self.journal(HELPER)}") from None

    def journal(self, unit: str) -> str:
        """The end of a unit's journal."""
        return self.machine.run("journalctl", "--no-pager", "-o", "cat", "-u", unit, "-n", "30").stdout


@contextmanager
def site(base: Path) -> Iterator[Site]:
    """All of it, but the daemon is stopped: `restart_daemon` starts it."""
    units = ["snmpd.service", *(program.unit for program in PROGRAMS)]
    with booted(base, package=package()) as machine:
        machine.systemctl("stop", DAEMON)
        _compile(base / "shared/classes")
        _configure(machine)
        machine.systemctl("unmask", *units)  # no unit of Debian's is started at the boot, before its configuration
        machine.systemctl("daemon-reload")
        machine.systemctl("start", *units)
        yield Site(machine)


def _compile(classes: Path) -> None:
    """Outside: inside, it takes ten seconds."""
    subprocess.run(["javac", "-d", classes, NIO], check=True)


def _configure(machine: Machine) -> None:
    machine.write_file("/etc/nginx/nginx.conf", NGINX_CONF)
    machine.write_file("/etc/haproxy/haproxy.cfg", HAPROXY_CONF)
    machine.write_file("/etc/snmp/snmpd.conf", SNMPD_CONF, 0o600)
    machine.write_file("/etc/epoll-watchdog/credentials/snmp-community", "lab\n", 0o600)
    for program in PROGRAMS:
        if program.command:
            machine.write_file(f"/etc/systemd/system/{program.unit}", program.unit_file)
    machine.write_file(CONFIG, "".join(program.service for program in PROGRAMS))
