"""Processes that do nothing, and cgroups to put them in."""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.servers import until

UNIFIED = next(
    Path(words[1])
    for words in (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    if words[2] == "cgroup2" and "rw" in words[3].split(",")
)


@contextlib.contextmanager
def sleeping(
    *words: str, user: int | None = None, group: int | None = None, program: str | Path = "sleep"
) -> Iterator[int]:
    """The PID of a process that does nothing; `words` are added to its command line, as further seconds of it."""
    process = subprocess.Popen([program, "300", *words], user=user, group=user if group is None else group)
    try:
        # Popen returns within execve(2), before the kernel has written the command line down.
        until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes() != b"", 10, "its command line")
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def inside(cgroup: Path, *words: str) -> Iterator[int]:
    """A process in that cgroup, which is made where there is none."""
    cgroup.mkdir(parents=True, exist_ok=True)
    with sleeping(*words) as pid:
        (cgroup / "cgroup.procs").write_text(str(pid))
        yield pid


@contextlib.contextmanager
def own_cgroup(name: str = "epoll-watchdog-test-{}.slice") -> Iterator[Path]:
    """A cgroup of ours at the root of cgroup v2; it is removed at the end."""
    top = UNIFIED / name.format(uuid.uuid4().hex[:8])
    top.mkdir()
    try:
        yield top
    finally:
        until(lambda: _empty(top), 5, f"no process in {top}")
        for directory, _, _ in os.walk(top, topdown=False):
            Path(directory).rmdir()


def _empty(cgroup: Path) -> bool:
    return "populated 0" in (cgroup / "cgroup.events").read_text()
