"""(a) A nudge beside `strace -p` and `gdb -p -batch`: how long it takes, and how long a thread stands still for it.

Ours is asked as the daemon asks it (`Hands`, the helper, its worker). Every round of every tool must bring each thread
of the victim an EINTR. The stops are the kernel's record (`stops`), not what a tool says. strace is sent SIGINT as soon
as it says that it has attached; what it would print goes nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import needs
from bench.report import Bar, Section, at_most_a, below, spread, times
from bench.stops import Recorder, recorder
from bench.victim import COMM, Victim, build, victim
from watchdog.hands import Hands
from watchdog.model import Action, Epoch, Outcome, Rung
from watchdog.target import start_time

THREADS = (1, 10, 100, 1000)
ROUNDS = 15
ROUNDS_OF_OTHERS = 5
LONGEST_STOP_MS = 0.25
TOOLS = ("epoll-watchdog", "strace -f -p", "gdb -p -batch")

Nudge = Callable[[], None]

HOW = (
    "Wall time from asking to done, and the longest stop of any of the victim's threads by the kernel's record of "
    "switches (sched_switch: off its CPU in state t to on a CPU again): medians of the rounds, the worst in brackets.\n"
    "Each tool brought an EINTR to every thread in every round; ours stops one thread at a time, the others all at once."
)

CONFIG = """\
[service.victim]
pidfile = "{pidfile}"
budget = {{ nudge = {{ burst = 100000, interval = "1h" }} }}
[service.victim.probe.none]
type = "unix"
path = "/nowhere"
send = "never sent"
"""


@dataclass(slots=True)
class Found:
    """What the rounds of one tool came to, in ms."""

    wall: list[float] = field(default_factory=list)
    longest: list[float] = field(default_factory=list)

    @property
    def stop(self) -> float:
        """The longest stop of any thread, in the median of the rounds."""
        return statistics.median(self.longest)


class Useless(Exception):
    """A tool did not do its work; the text says which and what it said."""


def run(*, quick: bool) -> Section:
    """Measure. Raises `Missing`."""
    needs.programs(cc="gcc", strace="strace", gdb="gdb")
    needs.root("may trace any process and read the kernel's record of switches")
    found: dict[tuple[int, str], Found] = {}
    with tempfile.TemporaryDirectory(prefix="epoll-watchdog-bench-") as name, recorder(COMM) as record:
        directory = Path(name)
        program = build(directory)
        for threads in THREADS:
            with victim(program, directory, threads) as target, _ours(target, directory) as ours:
                nudges = dict(zip(TOOLS, (ours, lambda: _strace(target), lambda: _gdb(target)), strict=True))  # noqa: B023
                for number in range(5 if quick else ROUNDS):
                    for tool, nudge in nudges.items():
                        if tool == TOOLS[0] or number < (2 if quick else ROUNDS_OF_OTHERS):
                            _round(nudge, target, record, found.setdefault((threads, tool), Found()))
    return Section("(a) Nudge", HOW, _columns(), tuple(_rows(found)), tuple(_bars(found)))


def _round(nudge: Nudge, target: Victim, record: Recorder, found: Found) -> None:
    before = target.interrupts()
    record.start()
    began = time.perf_counter()
    nudge()
    found.wall.append((time.perf_counter() - began) * 1000)
    target.wait_interrupted(before)
    stops = record.stops()
    if len(stops) != target.threads:
        raise Useless(f"the kernel recorded stops of {len(stops)} of {target.threads} threads")
    found.longest.append(max(max(of_thread) for of_thread in stops.values()) / 1000)


# --- the tools --------------------------------------------------------------------------------------------------------


@contextmanager
def _ours(target: Victim, directory: Path) -> Iterator[Nudge]:
    """The helper as the daemon's child, which the daemon asks for a nudge."""
    config = directory / "config.toml"
    config.write_text(CONFIG.format(pidfile=target.pidfile))
    epoch = Epoch(target.pid, start_time(target.pid))
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.PollSelector())) as runner:
        hands = runner.run(Hands.spawn(config, directory / "ledger"))

        def nudge() -> None:
            performed = runner.run(hands.perform("victim", Action(Rung.NUDGE, "bench", epoch, 0.0)))
            if performed.outcome is not Outcome.DONE or performed.detail["nudged"] != target.threads:
                raise Useless(f"our nudge: {performed.outcome}: {performed.reason}")

        try:
            nudge()  # the helper has read its config by then
            target.wait_asleep()
            yield nudge
        finally:
            runner.run(hands.close())


def _strace(target: Victim) -> None:
    argv = ["strace", "-f", "-o", "/dev/null", "-p", str(target.pid)]
    with _tool(argv, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        if b"attached" not in said:
            raise Useless(f"strace: {said.decode()}")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def _gdb(target: Victim) -> None:
    argv = ["gdb", "-nx", "-p", str(target.pid), "-batch"]
    with _tool(argv, stderr=subprocess.STDOUT, stdout=subprocess.PIPE) as process:
        said, _ = process.communicate(timeout=120)
        if process.returncode != 0 or b"detached" not in said:
            raise Useless(f"gdb: {said.decode()}")


@contextmanager
def _tool(argv: list[str], *, stderr: int, stdout: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    quiet = {**os.environ, "DEBUGINFOD_URLS": "", "LC_ALL": "C"}
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=quiet) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


# --- the table --------------------------------------------------------------------------------------------------------


def _columns() -> tuple[str, ...]:
    return ("threads", "tool", "wall ms", "longest stop ms", "rounds", "wall, beside ours", "stop, beside ours")


def _rows(found: dict[tuple[int, str], Found]) -> Iterator[tuple[str, ...]]:
    for (threads, tool), of_tool in found.items():
        ours = found[threads, TOOLS[0]]
        wall = times(statistics.median(of_tool.wall), statistics.median(ours.wall))
        row = (f"{threads:,}", tool, spread(of_tool.wall), spread(of_tool.longest), str(len(of_tool.wall)))
        yield (*row, wall, times(of_tool.stop, ours.stop))


def _bars(found: dict[tuple[int, str], Found]) -> Iterator[Bar]:
    for threads in THREADS:
        stop = found[threads, TOOLS[0]].stop
        yield below(f"our longest stop, {threads:,} threads", stop, LONGEST_STOP_MS, "ms")
    most = max(THREADS)
    ours = found[most, TOOLS[0]].stop
    yield at_most_a(f"our longest stop beside strace's, {most:,} threads", ours, found[most, TOOLS[1]].stop, 50)
    yield at_most_a(f"our longest stop beside gdb's, {most:,} threads", ours, found[most, TOOLS[2]].stop, 500)
