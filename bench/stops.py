"""How long each thread of a program stood still before its tracer: the kernel's own record, the same for every tool.

A stop lasts from the switch that takes the thread off its CPU in state t or T (traced, stopped) until it has run again
and leaves its CPU the next time, to sleep or before its tracer. So the time is in it that it waited for a CPU, and some
10 us too much, for each tool alike. (When it was put back on a CPU is not known: kernel 6.18 does not record every
switch that ends a CPU's idling [measured].) The record is made by the tracepoint `sched_switch` in an instance of
tracefs of our own, filtered by the program's name; it adds about a microsecond to each switch of the program.

Documentation/trace/ftrace.rst (instances, trace_clock), events.rst (filters); proc_pid_stat(5) on t and T.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.needs import Missing

BUFFER_KIB = 4096  # for each CPU; a thousand threads under gdb need a tenth of it
SWITCH = re.compile(
    r" (?P<seconds>\d+)\.(?P<micros>\d{6}): sched_switch: .*prev_pid=(?P<tid>\d+) .*prev_state=(?P<state>\S+) "
)
WRITTEN = re.compile(r"entries-in-buffer/entries-written: (\d+)/(\d+)")


class Recorder:
    """Records the stops of the program's threads between `start` and `stops`."""

    def __init__(self, instance: Path) -> None:
        self._instance = instance

    def start(self) -> None:
        """Forget what was recorded, and begin."""
        (self._instance / "trace").write_text("")
        (self._instance / "tracing_on").write_text("1")

    def stops(self) -> Mapping[int, list[int]]:
        """The stops of each thread that had any, in microseconds, in order."""
        (self._instance / "tracing_on").write_text("0")
        return parse((self._instance / "trace").read_text())


def parse(trace: str) -> Mapping[int, list[int]]:
    """The stops in the text of a trace. Raises `ValueError` where the record is not whole."""
    written = WRITTEN.search(trace)
    if written is None or written[1] != written[2]:
        raise ValueError("the kernel's buffer was too small for the record")
    stopped: dict[int, int] = {}
    stops: dict[int, list[int]] = {}
    for switch in SWITCH.finditer(trace):
        at, tid = int(switch["seconds"]) * 1_000_000 + int(switch["micros"]), int(switch["tid"])
        if tid in stopped:
            stops.setdefault(tid, []).append(at - stopped.pop(tid))
        if switch["state"] in ("t", "T"):
            stopped[tid] = at
    return stops


@contextmanager
def recorder(comm: str) -> Iterator[Recorder]:
    """A record of all threads whose name is `comm`. Raises `Missing` where this kernel keeps none."""
    with _tracefs() as root:
        instance = root / "instances" / f"epoll-watchdog-bench-{os.getpid()}"
        try:
            instance.mkdir()
        except OSError as error:
            raise Missing(f"tracefs: {error}") from None
        switch = instance / "events" / "sched" / "sched_switch"
        try:
            (instance / "tracing_on").write_text("0")
            (instance / "trace_clock").write_text("mono")
            (instance / "buffer_size_kb").write_text(str(BUFFER_KIB))
            (switch / "filter").write_text(f'prev_comm == "{comm}"')
            (switch / "enable").write_text("1")
            yield Recorder(instance)
        finally:
            (switch / "enable").write_text("0")
            instance.rmdir()


@contextmanager
def _tracefs() -> Iterator[Path]:
    """Where it is mounted; else mounted for as long as this lasts."""
    mounted = Path("/sys/kernel/tracing")
    if (mounted / "instances").is_dir():
        yield mounted
        return
    with tempfile.TemporaryDirectory(prefix="epoll-watchdog-tracefs-") as directory:
        done = subprocess.run(
            ["mount", "-t", "tracefs", "none", directory], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Missing(f"stops are measured by the kernel's tracefs (CONFIG_FTRACE): {done.stderr.strip()}")
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)
