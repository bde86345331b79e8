"""What is never touched, however it is named: what the host stands on, and the watchdog itself.

The one list of it, for the config's rules and for all that finds processes. Froze one of these, or stopped it for a
restart, nobody could be helped any more, we least of all: a frozen bus locks systemd out, and us with it.

Rules: a unit is known by its name; a process by its cgroup, in both trees, for that is where systemd puts what it
starts, and no process leaves it without root. A whole cgroup that holds one of them is refused too.
"""

from __future__ import annotations

import re

from watchdog.target.cgroups import cgroups_of
from watchdog.target.process import of_kernel, of_process, stat_fields
from watchdog.target.words import NeverATarget

UNTOUCHABLE = re.compile(r"init\.scope|(dbus|dbus-broker|epoll-watchdog(-helper)?|systemd-.*)\.service")
# Not systemd's own, though named so: the containers of `machinectl start`, and Prometheus' exporter. And our names are
# whole ones: what a restart command has started lives in the unit that it ran as, epoll-watchdog-restart-….service.
TOUCHABLE = re.compile(r"systemd-nspawn@.*\.service|systemd-exporter\.service")


def is_never_touched(unit: str) -> bool:
    """Whether a unit of that name is one that the host or the watchdog itself stands on."""
    return bool(UNTOUCHABLE.fullmatch(unit)) and not TOUCHABLE.fullmatch(unit)


def untouchable_part(path: str) -> str:
    """The first part of a cgroup's path that is such a unit's; empty where none is."""
    return next((part for part in path.split("/") if is_never_touched(part)), "")


def check_cgroup(path: str) -> None:
    """Raises `NeverATarget` where the path of a cgroup leads through such a unit's."""
    if part := untouchable_part(path):
        raise NeverATarget(f"cgroup {path} is of {part}, which is never touched")


def check_process(pid: int) -> None:
    """Raises `NeverATarget` for PID 1, a kernel thread, and every process of such a unit; `Gone`."""
    if pid == 1:
        raise NeverATarget("process 1 is never touched")
    if of_kernel(stat_fields(of_process(pid, "stat"))):
        raise NeverATarget(f"process {pid} is a kernel thread, which is never touched")
    for path in cgroups_of(pid).values():
        if part := untouchable_part(path):
            raise NeverATarget(f"process {pid} is of {part}, which is never touched")
