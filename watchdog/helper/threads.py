"""Which threads of a process can be nudged, and why one of them can't; all read from /proc, waking nobody.

Sources: proc_pid_stat(5), proc_pid_status(5); kernel-facts.md, section 3.
"""

from __future__ import annotations

from watchdog.evidence import rights
from watchdog.evidence.pinned import read, state, tracer
from watchdog.evidence.rights import Zombie
from watchdog.target import Gone, Refusal, stat_fields

PF_KTHREAD = 0x00200000


class AlreadyTraced(Refusal):
    """A debugger or strace holds the thread: there can be only one tracer."""

    hint = "end the other tracer; seizing the thread has very likely had the effect of a nudge already"


class KernelThread(Refusal):
    """A thread of the kernel: it has no system call to return from."""

    hint = "give the PID of a program"


class Uninterruptible(Refusal):
    """The thread is in state D: no signal and no stop reaches it."""

    hint = "it waits for a disk, a network file system, or is frozen by a cgroup: see /proc/PID/stack and dmesg"


class Stopped(Refusal):
    """The process was stopped by a signal."""

    hint = "find out who stopped it; `kill -CONT PID` lets it go on"


def check_nudgeable(process: int) -> None:
    """Raises a `Refusal` where no thread of the process (an open /proc/PID) can ever be nudged."""
    fields = stat_fields(read(process, "stat"))
    if int(fields[6]) & PF_KTHREAD:
        raise KernelThread("it is a kernel thread")
    # A leader may be a zombie while its other threads go on; field 20 counts them with it.
    if fields[0] in (b"Z", b"X") and int(fields[17]) < 2:
        raise Zombie("it is a zombie: it has ended, and its parent has not taken note")


def sleeps(task: int) -> bool:
    """Whether the thread sleeps so that a stop reaches it; False: it runs. Raises the `Refusal` that fits its state."""
    found = state(task)
    if found == "D":
        raise Uninterruptible("it sleeps uninterruptibly (state D)")
    if found == "T":
        raise Stopped("it was stopped by a signal (state T)")
    if found == "t":
        raise AlreadyTraced(f"it stands still before its tracer, process {tracer(task)}")
    if found in ("Z", "X"):
        raise Gone("it has ended")
    return found == "S"


def explain(task: int) -> Refusal:
    """Why the kernel forbade to seize the thread."""
    why = rights.explain(task, seizing=True)
    if isinstance(why, Gone | Zombie):
        return why
    try:
        other = tracer(task)
    except (Gone, FileNotFoundError):
        return Gone("it has ended")
    return AlreadyTraced(f"process {other} traces it already") if other else why
