"""Whether a process is frozen by its cgroup: then it neither runs nor stops, and looks as if it slept.

A process that cgroup v2 froze shows state S and the system call that it was in (kernel-facts.md, section 0); one that
v1's freezer froze shows D.

Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup.events; cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import errno
import os

from watchdog.evidence.pinned import read
from watchdog.target import Refusal, cgroup_directory, cgroup_mounts, cgroup_paths, contents

CONTROLLER = "freezer"


class NoHierarchy(Refusal):
    """The process' cgroup can't be looked at."""

    hint = "mount cgroup v2, or v1's freezer, where the helper sees it"


class Freezer:
    """The cgroups as they are mounted now; each is read once."""

    def __init__(self) -> None:
        self._mounts = tuple(cgroup_mounts(CONTROLLER))
        self._known: dict[str, bool] = {}

    def freezes(self, process: int) -> bool:
        """Whether it froze the process (an open /proc/PID). Raises `OSError`, `Gone`, `NoHierarchy`."""
        paths = cgroup_paths(os.fsdecode(read(process, "cgroup")), CONTROLLER)
        directories = [
            (hierarchy, cgroup_directory(paths[hierarchy], root, mount))
            for hierarchy, root, mount in self._mounts
            if hierarchy in paths
        ]
        if not directories:
            raise NoHierarchy("no hierarchy of cgroups that can freeze it is mounted here")
        return any(self._frozen(*where) for where in directories)

    def _frozen(self, hierarchy: str, directory: str) -> bool:
        if directory not in self._known:
            self._known[directory] = _v1(directory) if hierarchy else _v2(directory)
        return self._known[directory]


def _v2(directory: str) -> bool:
    return b"frozen 1\n" in _contents(f"{directory}/cgroup.events")


def _v1(directory: str) -> bool:
    return _contents(f"{directory}/freezer.state") not in (b"THAWED\n", b"")


def _contents(path: str) -> bytes:
    try:
        return contents(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # a root, which can't be frozen; or removed meanwhile
            return b""
        raise NoHierarchy(f"{path} can't be read: {error.strerror}") from None
