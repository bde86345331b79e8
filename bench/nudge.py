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

Nudge = Callable[[], float | None]  # the longest stop in ms as the tool itself says, where it does

HOW = (
    "Medians of the rounds, the worst in brackets. A stop is measured by the kernel's record of switches, for each "
    "tool alike:\nfrom a thread's switch off its CPU in state t (traced) until it sleeps again; here the longest of "
    "any thread. In every\nround every thread had its EINTR. Ours stops one thread at a time; strace and gdb stop them "
    "all at once. Our wall time\nhas the daemon's request, the ledger's fsync and the worker's start in it."
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
    said: list[float] = field(default_factory=list)

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
            with victim(program, directory, threads) as target:
                for tool, of_tool in _rounds(target, directory, record, quick=quick).items():
                    found[threads, tool] = of_tool
    return Section("(a) Nudge", HOW, COLUMNS, tuple(_rows(found)), tuple(_bars(found)))


def _rounds(target: Victim, directory: Path, record: Recorder, *, quick: bool) -> dict[str, Found]:
    """All tools in turn, ours in more rounds than the others."""
    found = {tool: Found() for tool in TOOLS}
    with _ours(target, directory) as ours:
        nudges: tuple[Nudge, ...] = (ours, lambda: _strace(target), lambda: _gdb(target))
        for number in range(5 if quick else ROUNDS):
            others = number < (2 if quick else ROUNDS_OF_OTHERS)
            for tool, nudge in zip(TOOLS if others else TOOLS[:1], nudges, strict=False):
                _round(nudge, target, record, found[tool])
    return found


def _round(nudge: Nudge, target: Victim, record: Recorder, found: Found) -> None:
    before = target.interrupts()
    record.start()
    began = time.perf_counter()
    said = nudge()
    found.wall.append((time.perf_counter() - began) * 1000)
    target.wait_interrupted(before)
    stops = record.stops()
    if len(stops) != target.threads:
        raise Useless(f"the kernel recorded stops of {len(stops)} of {target.threads} threads")
    found.longest.append(max(max(of_thread) for of_thread in stops.values()) / 1000)
    if said is not None:
        found.said.append(said)


# --- the tools --------------------------------------------------------------------------------------------------------


@contextmanager
def _ours(target: Victim, directory: Path) -> Iterator[Nudge]:
    """The helper as the daemon's child, which the daemon asks for a nudge."""
    config = directory / "config.toml"
    config.write_text(CONFIG.format(pidfile=target.pidfile))
    epoch = Epoch(target.pid, start_time(target.pid))
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.PollSelector())) as runner:
        hands = runner.run(Hands.spawn(config, directory / "ledger"))

        def nudge() -> float:
            performed = runner.run(hands.perform("victim", Action(Rung.NUDGE, "bench", epoch, 0.0)))
            if performed.outcome is not Outcome.DONE or performed.detail["nudged"] != target.threads:
                raise Useless(f"our nudge: {performed.outcome}: {performed.reason}")
            return float(performed.detail["longest_stop_seconds"]) * 1000

        try:
            for _ in range(2):  # a config younger than 0.1 s is read again by the second
                nudge()
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


COLUMNS = ("threads", "tool", "rounds", "wall ms", "to ours", "longest stop ms", "to ours", "as it says itself")


def _rows(found: dict[tuple[int, str], Found]) -> Iterator[tuple[str, ...]]:
    for (threads, tool), of_tool in found.items():
        ours = found[threads, TOOLS[0]]
        wall = times(statistics.median(of_tool.wall), statistics.median(ours.wall))
        said = spread(of_tool.said) if of_tool.said else "–"
        row = (f"{threads:,}", tool, str(len(of_tool.wall)), spread(of_tool.wall), wall)
        yield (*row, spread(of_tool.longest), times(of_tool.stop, ours.stop), said)


def _bars(found: dict[tuple[int, str], Found]) -> Iterator[Bar]:
    for threads in THREADS:
        stop = found[threads, TOOLS[0]].stop
        yield below(f"our longest stop, threads: {threads:,}", stop, LONGEST_STOP_MS, "ms")
    most = max(THREADS)
    ours = found[most, TOOLS[0]].stop
    yield at_most_a(f"our longest stop beside strace's, threads: {most:,}", ours, found[most, TOOLS[1]].stop, 50)
    yield at_most_a(f"our longest stop beside gdb's, threads: {most:,}", ours, found[most, TOOLS[2]].stop, 500)
