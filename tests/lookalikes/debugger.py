"""A debugger that holds a process: `python -m tests.lookalikes.debugger PID`; it lets go when it is killed.

PTRACE_SEIZE and PTRACE_INTERRUPT of each thread, as gdb's attach amounts to; a seized thread runs on when its tracer
ends. ptrace(2).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from watchdog.helper.ptrace import PTRACE_INTERRUPT, PTRACE_SEIZE, WALL, request


def main(pid: int) -> None:
    """Hold the process until this one is killed."""
    for tid in [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]:
        request(PTRACE_SEIZE, tid)
        request(PTRACE_INTERRUPT, tid)
        os.waitpid(tid, WALL)
    print("held", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]))
