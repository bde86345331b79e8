"""No false proof of healthy programs: `python -m tests.lookalikes.false_proofs --readings 10000` prints the counts.

Each program (`healthy.py`) is read under load, again and again, by several of the daemon's own readers at once, as the
daemon reads a service that it suspects: with connections of the reading's own, and with copies of the epolls, which are
polled whenever a thread sleeps and not only once a second. Every other reader has no baseline. The samples are taken in
this process, not in the helper.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import os
import selectors
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.lookalikes.healthy import LOADS, PROGRAMS, Healthy
from tests.lookalikes.programs import hogs
from watchdog.clock import Clock
from watchdog.evidence.epollfd import with_copies
from watchdog.evidence.procfs import sample
from watchdog.evidence.sockdiag import SockDiag
from watchdog.examiner import Examiner
from watchdog.model import Epoch
from watchdog.reading import Lack, Proof, Sample
from watchdog.target import Target, pidfile_epoch, processes

READERS = 6  # at once, of one program
LEARN = 3  # readings of the baseline


@dataclass(slots=True)
class Count:
    """What the readings of a program came to."""

    program: str
    readings: int = 0
    copies: int = 0
    samples: int = 0
    lacks: set[str] = field(default_factory=set)
    proofs: list[Proof] = field(default_factory=list)

    def line(self) -> str:
        """For the report."""
        text = f"{self.program}: {len(self.proofs)} proofs in {self.readings} readings"
        text += f" ({self.samples} samples, copies polled in {self.copies})"
        told = [f"  FALSE: {proof.form}: {proof.text}" for proof in self.proofs]
        return "\n".join([text, *told, *(f"  lacks: {lack}" for lack in sorted(self.lacks))])


@dataclass(frozen=True, slots=True)
class Here:
    """Who reads the threads: this process, instead of the helper."""

    target: Target

    async def examine(self, _service: str, epoch: Epoch, *, copy: bool = False) -> Sample | Lack:
        """As the helper does."""
        found = sample(processes(self.target, epoch))
        return with_copies(found) if copy else found


async def count(program: str, running: Healthy, readings: int) -> Count:
    """Read it so often."""
    counted = Count(program)
    epoch = pidfile_epoch(str(running.pidfile))
    assert epoch is not None
    hands = Here(Target(pidfile=str(running.pidfile)))
    with closing(SockDiag()) as diag:

        async def reader(learns: bool) -> None:
            examiner = Examiner(program, (), hands, diag, Clock(), touch_every=0.0)
            for _ in range(LEARN if learns else 0):
                await examiner.learn(epoch)
            while counted.readings < readings:
                counted.readings += 1
                reading = await examiner.read(epoch, lambda _queue: 0)
                counted.samples += len(reading.samples) + len(reading.touched)
                counted.copies += bool(reading.touched)
                counted.lacks |= {f"{lack.what}: {lack.reason}" for lack in reading.lacks}
                counted.proofs += examiner.proofs

        await asyncio.gather(*(reader(number % 2 == 0) for number in range(READERS)))
    return counted


def run(readings: int, *, busy: bool = False) -> list[Count]:
    """All programs under all loads, one after the other, `readings` in all or a few more."""
    counted = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="false-proofs-")))
        if busy:
            stack.enter_context(hogs(os.cpu_count() or 1, cpu_s=3600))
        for (program, running), (load, loads) in itertools.product(PROGRAMS.items(), LOADS.items()):
            with running(directory, loads) as healthy, asyncio.Runner(loop_factory=_on_poll) as runner:
                each = math.ceil(readings / len(PROGRAMS) / len(LOADS))
                counted.append(runner.run(count(f"{program}, {load} load", healthy, each)))
    return counted


def _on_poll() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.PollSelector())


def report(counted: Sequence[Count]) -> str:
    """A line for each program and load, and the sum."""
    false = sum(len(one.proofs) for one in counted)
    total = f"{false} false proofs in {sum(one.readings for one in counted)} readings"
    return "\n".join([*(one.line() for one in counted), total])


def main() -> int:
    """Print the counts; 1 where a proof was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.lookalikes.false_proofs")
    parser.add_argument("--readings", type=int, default=10_000)
    parser.add_argument("--busy", action="store_true", help="keep every core busy by other work")
    options = parser.parse_args()
    counted = run(options.readings, busy=options.busy)
    print(report(counted))
    return 1 if any(one.proofs for one in counted) else 0


if __name__ == "__main__":
    raise SystemExit(main())
