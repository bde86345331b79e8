"""The processes of a systemd unit: those of its cgroup.

Sources: systemd.unit(5), unit load path and Alias=; cg_escape() in systemd's src/basic/cgroup-util.c.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from watchdog.target.cgroups import SYSTEMD, cgroup_directory, cgroup_mounts, cgroups_of, tree
from watchdog.target.never import check_cgroup
from watchdog.target.words import NotOfUnit

UNIT_PATH = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")


def unit_pids(unit: str, main: int) -> tuple[int, ...]:
    """All PIDs in the cgroup of the unit, which `main` is a process of; sub-cgroups included.

    Raises `NotOfUnit`, `Gone`, and `NeverATarget` where a unit that is never touched has its cgroup in there, as in a
    container with a systemd of its own.
    """
    paths = cgroups_of(main)
    for _, directory in _unit_directories(unit, paths):
        pids: set[int] = set()
        for below, found in tree(directory):
            check_cgroup(below)
            pids.update(found)
        return tuple(sorted(pids))
    shown = paths.get("", "") or paths.get(SYSTEMD, "")
    raise NotOfUnit(f"process {main} is not of {unit}: its cgroup is {shown}")


def unit_cgroup(unit: str, main: int) -> str | None:
    """Where the cgroup of the unit, which `main` is a process of, is in cgroup v2; None where it is not. `Gone`."""
    return dict(_unit_directories(unit, cgroups_of(main))).get("")


def _unit_directories(unit: str, paths: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Each hierarchy that has the unit's own cgroup, and where that is."""
    for hierarchy, root, mount in cgroup_mounts():
        if hierarchy in paths and (cgroup := _unit_part(paths[hierarchy], unit)):
            yield hierarchy, cgroup_directory(cgroup, root, mount)


def _unit_part(path: str, unit: str) -> str:
    """The path as far as the unit's own cgroup; empty where it does not lead through it."""
    names = {unit, resolved(unit)}
    names |= {"_" + name for name in names}  # systemd's escape for what would clash with a cgroup's own files
    parts = path.split("/")
    for index, part in enumerate(parts):
        if part in names:
            return "/".join(parts[: index + 1])
    return ""


def resolved(unit: str) -> str:
    """The unit's own name where `unit` is an alias, a link on the unit load path (Debian's redis.service is one)."""
    for directory in UNIT_PATH:
        link = os.path.join(directory, unit)
        if os.path.islink(link):
            name = os.path.basename(os.path.realpath(link))
            return unit if name == "null" else name  # a link to /dev/null: masked
    return unit
