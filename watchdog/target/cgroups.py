"""The two trees of cgroups in which services are found: cgroup v2's, and the one of v1 that systemd keeps units in.

Sources: proc_pid_cgroup(5), proc_pid_mountinfo(5), cgroups(7); Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from watchdog.target.process import contents, of_process

SYSTEMD = "name=systemd"  # the hierarchy of cgroup v1 that systemd keeps units in


def cgroups_of(pid: int) -> dict[str, str]:
    """The cgroups of a process, as `cgroup_paths`. Raises `Gone`."""
    return cgroup_paths(os.fsdecode(of_process(pid, "cgroup")))


def cgroup_paths(text: str, controller: str = SYSTEMD) -> dict[str, str]:
    """The paths in a `cgroup` file: of cgroup v2 (written as "") and of the v1 hierarchy with that controller."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found[""] = path
        elif controller in controllers.split(","):
            found[controller] = path
    return found


def cgroup_mounts(controller: str = SYSTEMD) -> Iterator[tuple[str, str, str]]:
    """Where those are mounted: (hierarchy, the part of it that is mounted, mount point), as seen by this process."""
    for line in os.fsdecode(contents("/proc/self/mountinfo")).splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        root, mount = left.split()[3:5]
        if kind == "cgroup2":
            yield "", root, mount
        elif kind == "cgroup" and controller in options.split(","):
            yield controller, root, mount


def cgroup_directory(path: str, root: str, mount: str) -> str:
    """Where the cgroup `path` is, of which hierarchy the part `root` is mounted at `mount`."""
    return mount + ("/" if path == root else path.removeprefix(root.rstrip("/")))


def tree(cgroup: str) -> Iterator[tuple[str, list[int]]]:
    """The directory of each cgroup from this one on downwards, with the processes in it."""
    for directory, _, _ in os.walk(cgroup):
        try:
            pids = contents(os.path.join(directory, "cgroup.procs")).split()
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            if error.errno == errno.ENODEV:  # the same
                continue
            if error.errno != errno.EOPNOTSUPP:  # a threaded cgroup: its processes are listed further up
                raise
            pids = []
        yield directory, [int(pid) for pid in pids if pid != b"0"]  # 0: in a PID namespace that we don't see
