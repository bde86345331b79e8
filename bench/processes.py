"""What a process has cost so far: CPU time and memory, as the kernel counts them.

CPU time is read from the process' own CPU clock, in nanoseconds, with the time of threads that have ended in it
(clock_getcpuclockid(3); the number of that clock is made as glibc makes it, from CPUCLOCK_SCHED in posix-timers.h).
Memory comes from /proc/PID/smaps_rollup (proc_pid_smaps(5)): PSS counts a page that n processes share as 1/n.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

CPUCLOCK_SCHED = 2


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads so far. Raises `OSError` where there is no such process."""
    return time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED) / 1e9


def cpu_seconds_of_all(pid: int) -> float:
    """The same, with its children that have ended, in clock ticks (proc_pid_stat(5), fields 14 to 17)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory, in MiB."""

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    """Of a process, now."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return Memory(*(int(kib) / 1024 for kib in re.findall(r"^(?:Rss|Pss): +(\d+) kB$", text, re.MULTILINE)))
