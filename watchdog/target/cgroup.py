"""The processes of a container, or of whatever else has a cgroup of its own that its operator can name.

Rules: a path may hold `*`, `?` and `[…]`, none of which reaches over a `/`, for a container's name has a new number in
it with each of its lives. So one cgroup must fit, among those with processes. Only cgroup v2 is looked at: it alone has
one tree for all. The main process is the oldest whose parent is outside: what `docker exec` adds is younger, and what
the container starts itself has its parent inside.

Sources: Documentation/admin-guide/cgroup-v2.rst (cgroup.events, cgroup.procs), fnmatch(3).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase

from watchdog.model import Epoch
from watchdog.target.cgroups import cgroup_directory, cgroup_mounts, cgroups_of, tree
from watchdog.target.never import check_cgroup
from watchdog.target.process import contents, has_ended, lives, parent
from watchdog.target.words import CantLook, NeverATarget, NotOfService, SeveralCgroups

TOLD = 4  # paths in a refusal


def cgroup_epoch(pattern: str) -> Epoch | None:
    """The main process of the cgroup; None where there is none. Raises what `cgroup_pids` raises."""
    directory = named_cgroup(pattern)
    found = lives(iter(_pids(directory))) if directory is not None else {}
    pids = {epoch.pid for epoch in found}
    heads = [epoch for epoch, fields in found.items() if parent(fields) not in pids and not has_ended(fields)]
    return min(heads, key=lambda epoch: (epoch.start_time, epoch.pid), default=None)


def cgroup_pids(pattern: str, main: int) -> tuple[int, ...]:
    """All PIDs in the cgroup and below, where `main` is one of them.

    Raises `NotOfService`; `SeveralCgroups`; `NeverATarget` where the host or the watchdog itself stands on anything in
    there; `CantLook` where no cgroup v2 is mounted; `Gone`.
    """
    directory = named_cgroup(pattern)
    pids = _pids(directory) if directory is not None else ()
    if main not in pids:
        shown = cgroups_of(main).get("", "none of cgroup v2")
        raise NotOfService(f"process {main} is not in cgroup {pattern}: its own is {shown}")
    return pids


def named_cgroup(pattern: str) -> str | None:
    """The directory of the one cgroup with processes that fits; None where none does. Raises as `cgroup_pids`."""
    mounts = [(root, mount) for hierarchy, root, mount in cgroup_mounts() if not hierarchy]
    if not mounts:
        raise CantLook("no cgroup v2 is mounted here, so no service can be named by its cgroup")
    root, mount = mounts[0]
    found = sorted(directory for directory in _fitting(pattern, root, mount) if _populated(directory))
    if len(found) > 1:
        shown = ", ".join(directory.removeprefix(mount) for directory in found[:TOLD])
        more = f" and {len(found) - TOLD} more" if len(found) > TOLD else ""
        raise SeveralCgroups(f"{len(found)} cgroups fit {pattern}: {shown}{more}")
    if not found:
        return None
    _check_not_ours(found[0], root, mount)
    return found[0]


def _fitting(pattern: str, root: str, mount: str) -> Iterator[str]:
    """Where the cgroups are that fit, of which the part `root` is mounted at `mount`."""
    parts = pattern.strip("/").split("/")
    above = [part for part in root.split("/") if part]
    if len(above) >= len(parts) or not all(map(fnmatchcase, above, parts)):
        return iter(())
    return _below(mount, parts[len(above) :])


def _below(directory: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        yield directory
        return
    try:
        with os.scandir(directory) as entries:
            names = sorted(e.name for e in entries if fnmatchcase(e.name, parts[0]) and e.is_dir(follow_symlinks=False))
    except FileNotFoundError:  # removed meanwhile
        return
    for name in names:
        yield from _below(os.path.join(directory, name), parts[1:])


def _populated(directory: str) -> bool:
    """Whether a living process is in it or below."""
    try:
        return b"populated 1" in contents(os.path.join(directory, "cgroup.events"))
    except OSError:  # removed meanwhile
        return False


def _check_not_ours(directory: str, root: str, mount: str) -> None:
    own = cgroups_of(os.getpid()).get("", "")
    if f"{cgroup_directory(own, root, mount)}/".startswith(f"{directory}/"):
        raise NeverATarget(f"the watchdog itself is in cgroup {directory.removeprefix(mount)}")


def _pids(directory: str) -> tuple[int, ...]:
    pids: set[int] = set()
    for below, found in tree(directory):
        check_cgroup(below)
        pids.update(found)
    if 1 in pids:
        raise NeverATarget(f"process 1 is in {directory}, and is never touched")
    return tuple(sorted(pids))
