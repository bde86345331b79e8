"""The processes of a systemd unit: those of its cgroup.

Rules: a unit is one of the system's, of the systemd that is PID 1 here. Its cgroup lies in slices only, from that
systemd's own root on: below a unit of another kind begins what a user's systemd or a container's names as it likes,
/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service.

Sources: systemd.unit(5), unit load path and Alias=; systemd.slice(5); cg_escape() and cg_get_root_path() in systemd's
src/basic/cgroup-util.c; cgroup_namespaces(7).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from watchdog.target.cgroups import SYSTEMD, cgroup_directory, cgroup_mounts, cgroups_of, tree
from watchdog.target.never import check_cgroup
from watchdog.target.words import Gone, NotOfUnit

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
    tops = _tops()
    for hierarchy, root, mount in cgroup_mounts():
        if hierarchy in paths and (cgroup := unit_part(paths[hierarchy], unit, tops.get(hierarchy, ""))):
            yield hierarchy, cgroup_directory(cgroup, root, mount)


def _tops() -> dict[str, str]:
    """Of each hierarchy the cgroup that systemd has all units in, as seen here; the root itself is the empty path.

    Where PID 1 is hidden from us (ProtectProc=), it is the root of our own cgroup namespace.
    """
    try:
        paths = cgroups_of(1)
    except Gone:
        return {}
    return {hierarchy: path.removesuffix("/init.scope").rstrip("/") for hierarchy, path in paths.items()}


def unit_part(path: str, unit: str, top: str = "") -> str:
    """The path as far as the unit's own cgroup; empty where it does not lead there through slices only, from `top` on.

    So `/system.slice/web.service/workers` gives `/system.slice/web.service`.
    """
    names = {unit, resolved(unit)}
    names |= {"_" + name for name in names}  # systemd's escape for what would clash with a cgroup's own files
    if not path.startswith(f"{top}/"):
        return ""
    above = top
    for part in path[len(top) + 1 :].split("/"):
        above = f"{above}/{part}"
        if part in names:
            return above
        if not part.endswith(".slice"):
            return ""
    return ""


def unit_of(pid: int) -> str:
    """The system's unit that the process is in; empty where it is in none. Raises `Gone`."""
    tops = _tops()
    for hierarchy, path in cgroups_of(pid).items():
        top = tops.get(hierarchy, "")
        if path.startswith(f"{top}/") and (unit := first_unit(path[len(top) + 1 :])):
            return unit
    return ""


def first_unit(path: str) -> str:
    """The first part of a cgroup's path that is no slice: `system.slice/web.service/workers` gives `web.service`."""
    part = next((part for part in path.split("/") if not part.endswith(".slice")), "")
    return part.removeprefix("_")  # systemd's escape, which `unit_part` tells of


def resolved(unit: str) -> str:
    """The unit's own name where `unit` is an alias, a link on the unit load path (Debian's redis.service is one)."""
    for directory in UNIT_PATH:
        link = os.path.join(directory, unit)
        if os.path.islink(link):
            name = os.path.basename(os.path.realpath(link))
            return unit if name == "null" else name  # a link to /dev/null: masked
    return unit
