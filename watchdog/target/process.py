"""One process: which life of its PID is meant, whose it is, who descends from it. proc_pid_stat(5)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from watchdog.model import Epoch
from watchdog.target.words import Gone

TICKS = os.sysconf("SC_CLK_TCK")
PF_KTHREAD = 0x00200000  # include/linux/sched.h


def contents(path: str) -> bytes:
    """All of a file. Raises `OSError`."""
    with open(path, "rb") as file:
        return file.read()


def of_process(pid: int, name: str) -> bytes:
    """All of a file in /proc/PID. Raises `Gone`."""
    try:
        return contents(f"/proc/{pid}/{name}")
    except (FileNotFoundError, ProcessLookupError):
        raise Gone(f"there is no process {pid}") from None


def stat_fields(text: bytes) -> list[bytes]:
    """The fields of a `stat` file from the third (the state) on; the second may itself hold spaces and brackets."""
    return text[text.rindex(b")") + 2 :].split()


def start_time(pid: int) -> int:
    """When the process began, in clock ticks since boot (field 22 of /proc/PID/stat). Raises `Gone`."""
    return int(stat_fields(of_process(pid, "stat"))[19])


def ended(pid: int) -> bool:
    """Whether the process is a zombie: it runs no more, and its parent has not taken note. Raises `Gone`.

    A leader that has ended while its other threads go on is none: field 20, the number of threads, counts it with them.
    """
    return has_ended(stat_fields(of_process(pid, "stat")))


def has_ended(fields: list[bytes]) -> bool:
    """The same, by these `stat_fields`."""
    return fields[0] in (b"Z", b"X") and int(fields[17]) < 2


def of_kernel(fields: list[bytes]) -> bool:
    """Whether these `stat_fields` are a kernel thread's (field 9, flags)."""
    return bool(int(fields[6]) & PF_KTHREAD)


def parent(fields: list[bytes]) -> int:
    """The PID of the parent, by these `stat_fields` (field 4); 0 where it is in a PID namespace that we don't see."""
    return int(fields[1])


def age(epoch: Epoch, now_boottime: float) -> float:
    """How long the process has lived, in seconds, when CLOCK_BOOTTIME is `now_boottime`."""
    return now_boottime - epoch.start_time / TICKS


def check_alive(epoch: Epoch) -> None:
    """Raises `Gone` unless exactly this life of the process is there."""
    found = start_time(epoch.pid)
    if found != epoch.start_time:
        raise Gone(f"PID {epoch.pid} is another process' by now: it began at tick {found}, not {epoch.start_time}")


def owner(pid: int) -> int:
    """The effective uid of the process. Raises `Gone`."""
    return _effective(pid, b"Uid:")


def group(pid: int) -> int:
    """The effective gid of the process. Raises `Gone`."""
    return _effective(pid, b"Gid:")


def _effective(pid: int, field: bytes) -> int:
    status = of_process(pid, "status")
    return next(int(line.split()[2]) for line in status.splitlines() if line.startswith(field))


def lives(pids: Iterator[int]) -> dict[Epoch, list[bytes]]:
    """Those of them that are there, by their start time, with their `stat_fields`; no kernel threads.

    A cgroup may hold kernel threads: a virtual machine's vhost-PID.
    """
    found = {}
    for pid in pids:
        try:
            fields = stat_fields(of_process(pid, "stat"))
        except Gone:
            continue
        if not of_kernel(fields):
            found[Epoch(pid, int(fields[19]))] = fields
    return found


def descendants(pid: int) -> tuple[int, ...]:
    """The children of the process, theirs, and so on (proc_tid_children(5)); what came meanwhile may be missing."""
    found: list[int] = []
    ahead = [pid]
    while ahead:
        # A list made once: each process is met once, whatever its parent does meanwhile.
        new = [child for child in children(ahead.pop()) if child not in found]
        found += new
        ahead += new
    return tuple(found)


def children(pid: int) -> Iterator[int]:
    """The children of the process, of all its threads (proc_tid_children(5)); of one that has gone, none."""
    try:
        tids = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return
    for tid in tids:
        try:
            yield from map(int, contents(f"/proc/{pid}/task/{tid}/children").split())
        except (FileNotFoundError, ProcessLookupError):
            continue
