"""What each thread of a process does, and how often it was switched and for how long it ran, from /proc/PID/task.

Rules: of each thread first its system call, then its status, which tells its context switches: where two readings tell
the same call and the same switches, it was in that call all the time between. Where the system call may not be read,
`wchan` may still tell of an epoll wait.

Sources: proc_pid_syscall(5), proc_pid_status(5), proc_pid_wchan(5), proc_pid_stat(5); Documentation/scheduler/
sched-stats.rst: the three numbers of schedstat are ns on a CPU, ns runnable without one, and time slices.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from watchdog.evidence.calls import BY_WCHAN, EPOLL_WCHANS, NAMES, NONE, Call, Unreadable, parse
from watchdog.evidence.pinned import open_directory, read
from watchdog.evidence.rights import explain
from watchdog.reading import Thread
from watchdog.target import TICKS, Gone, Refusal, stat_fields

ENDED = ("Z", "X")


@dataclass(slots=True)
class Tasks:
    """The threads of a process."""

    threads: list[Thread] = field(default_factory=list)
    omitted: int = 0  # beyond the bound
    late: bool = False  # the deadline came first
    refusal: Refusal | None = None  # why their system calls are not told

    @property
    def waited_on(self) -> set[int]:
        """The epolls that threads wait on."""
        return {thread.epfd for thread in self.threads if thread.epfd is not None}


def tasks(pid: int, process: int, most: int, until: float) -> Tasks:
    """Of an open /proc/PID: `most` threads, lowest TIDs first, until `until` (time.monotonic). Raises `OSError`."""
    listing = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)
    try:
        tids = sorted(map(int, os.listdir(listing)))
        found = Tasks(omitted=max(0, len(tids) - most))
        for tid in tids[:most]:
            if time.monotonic() >= until:
                found.late = True
                break
            try:
                task = open_directory(str(tid), listing)
            except FileNotFoundError:
                continue  # it ended since the threads were listed
            try:
                found.threads.append(_thread(pid, tid, task, found))
            except (FileNotFoundError, Gone):
                continue
            finally:
                os.close(task)
        return found
    finally:
        os.close(listing)


def _thread(pid: int, tid: int, task: int, found: Tasks) -> Thread:
    call, error = _call(task) if found.refusal is None else (NONE, None)
    status = read(task, "status")
    wchan = read(task, "wchan")
    stat = read(task, "stat")
    fields = stat_fields(stat)
    state = status_field(status, b"\nState:\t")[:1].decode()
    if error is not None and state not in ENDED:
        denied = isinstance(error, PermissionError)
        found.refusal = explain(task) if denied else Unreadable("the kernel does not tell them")
    if (found.refusal is not None or not NAMES) and state != "R" and wchan in EPOLL_WCHANS:
        call = BY_WCHAN
    cpu, delayed = _times(task, fields)
    return Thread(
        pid=pid,
        tid=tid,
        started=int(fields[19]),
        name=printable(stat[stat.index(b"(") + 1 : stat.rindex(b")")]),
        state=state,
        call=call.name,
        epfd=call.epfd,
        finite=call.finite,
        wchan="" if wchan == b"0" else wchan.decode(errors="replace"),
        switches=switches(status),
        cpu=cpu,
        delayed=delayed,
        tracer=int(status_field(status, b"\nTracerPid:\t")),
    )


def _call(task: int) -> tuple[Call, OSError | None]:
    try:
        return parse(read(task, "syscall")), None
    except (PermissionError, FileNotFoundError) as error:
        return NONE, error


def printable(name: bytes) -> str:
    """A thread's name, which it chose itself, as it can be shown."""
    text = name.decode(errors="ignore")
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def status_field(status: bytes, name: bytes) -> bytes:
    r"""What follows `name` in a `status` file; the kernel writes a newline in a thread's name as \n: none is faked."""
    begin = status.index(name) + len(name)
    return status[begin : status.index(b"\n", begin)]


def switches(status: bytes) -> int:
    """Context switches, voluntary and not."""
    voluntary, involuntary = b"\nvoluntary_ctxt_switches:\t", b"\nnonvoluntary_ctxt_switches:\t"
    return int(status_field(status, voluntary)) + int(status_field(status, involuntary))


def _times(task: int, stat: list[bytes]) -> tuple[float, float]:
    """Seconds on a CPU, and runnable without one."""
    try:
        ran, waited, slices = map(int, read(task, "schedstat").split())
    except FileNotFoundError:  # a kernel without CONFIG_SCHED_INFO
        slices = 0
    if slices:
        return ran / 1e9, waited / 1e9
    return (int(stat[11]) + int(stat[12])) / TICKS, 0.0
