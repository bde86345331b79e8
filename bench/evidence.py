"""(g) What evidence costs: one sample by the helper, one whole reading, and one look at all accept queues.

The brain is this process, with the parts and on the kind of loop of the daemon (`Hands`, `Examiner`, `SockDiag`); the
helper is the real one, as its child. Its time is that of its workers too. A reading is the longest there is: nothing is
proven and the program is asleep, so copies of its epolls are polled each time.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from bench import needs
from bench.processes import cpu_seconds_of_all
from bench.report import Bar, Section, below, spread
from bench.victim import build, victim
from tests.servers import nginx
from watchdog.clock import Clock
from watchdog.evidence.sockdiag import SockDiag
from watchdog.examiner import Examiner
from watchdog.hands import Hands
from watchdog.model import Epoch
from watchdog.reading import Sample
from watchdog.target import start_time

THREADS = 100
SOCKETS = 1000
TCP_LISTENERS = 40
UNIX_LISTENERS = 10
TIMES = {"samples": 50, "readings": 20, "looks": 1000}
QUICK_TIMES = {"samples": 10, "readings": 4, "looks": 100}
SAMPLE_MS = 50
LOOK_MS = 1

HOW = (
    "ms each. Wall: the median and, in brackets, the worst, from the brain's request to the answer that it can use. "
    "CPU: the mean,\nuser and system, the helper's with that of its workers. A reading takes 8 samples, over a time "
    "that is fixed: so its wall time\nis no cost."
)
COLUMNS = ("what", "of", "times", "wall", "CPU of the brain", "CPU of the helper")

SERVICE = """\
[service.{name}]
pidfile = "{pidfile}"
[service.{name}.probe.none]
type = "unix"
path = "/nowhere"
send = "never sent"
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What something came to, in ms."""

    what: str
    of: str
    wall: list[float]
    brain: float
    helper: float | None

    @property
    def row(self) -> tuple[str, ...]:
        """Of the table."""
        helper = "–" if self.helper is None else f"{self.helper:.3g}"
        return (self.what, self.of, str(len(self.wall)), spread(self.wall), f"{self.brain:.3g}", helper)


class Unread(Exception):
    """What should have been read was not; the text says what was."""


def run(*, quick: bool) -> Section:
    """Measure. Raises `Missing`."""
    needs.programs(cc="gcc", nginx="nginx-light")
    needs.root("may read what threads of other programs do")
    times = QUICK_TIMES if quick else TIMES
    with tempfile.TemporaryDirectory(prefix="epoll-watchdog-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        crowd = stack.enter_context(victim(build(directory), directory, THREADS, SOCKETS))
        web = stack.enter_context(nginx(directory))
        pids = {"crowd": crowd.pid, "nginx": web.pid}
        pidfiles = {"crowd": crowd.pidfile, "nginx": web.pidfile}
        config = directory / "config.toml"
        config.write_text("".join(SERVICE.format(name=name, pidfile=path) for name, path in pidfiles.items()))
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.PollSelector())) as runner:
            epochs = {name: Epoch(pid, start_time(pid)) for name, pid in pids.items()}
            costs = runner.run(_by_helper(config, epochs, times))
        costs.append(_looks(directory, times["looks"]))
    rows = tuple(cost.row for cost in costs)
    return Section("(g) What evidence costs", HOW, COLUMNS, rows, tuple(_bars(costs)))


async def _by_helper(config: Path, epochs: dict[str, Epoch], times: dict[str, int]) -> list[Cost]:
    hands = await Hands.spawn(config, config.with_name("ledger"))
    try:
        for _ in range(2):  # a config younger than 0.1 s is read again
            await hands.ready()
        costs = []
        for copy in (False, True):
            what = "a sample, with copies of its epolls" if copy else "a sample"
            costs.append(await _cost(hands, what, CROWD, times["samples"], _sampling(hands, epochs["crowd"], copy)))
        for name, of in (("crowd", CROWD), ("nginx", "nginx, one worker")):
            costs.append(await _cost(hands, "a reading", of, times["readings"], _reading(hands, name, epochs[name])))
        return costs
    finally:
        await hands.close()


CROWD = f"{THREADS} threads, {SOCKETS:,} descriptors"


async def _cost(hands: Hands, what: str, of: str, times: int, do: Callable[[], Awaitable[None]]) -> Cost:
    """Do it so often, and once before."""
    await do()
    pid = hands.pid
    if pid is None:
        raise Unread("there is no helper")
    wall = []
    brain, helper = time.process_time(), cpu_seconds_of_all(pid)
    for _ in range(times):
        began = time.perf_counter()
        await do()
        wall.append((time.perf_counter() - began) * 1000)
    brain, helper = time.process_time() - brain, cpu_seconds_of_all(pid) - helper
    return Cost(what, of, wall, brain / times * 1000, helper / times * 1000)


def _sampling(hands: Hands, epoch: Epoch, copy: bool) -> Callable[[], Awaitable[None]]:
    async def sample() -> None:
        found = await hands.examine("crowd", epoch, copy=copy)
        if not isinstance(found, Sample) or len(found.threads) != THREADS or (found.processes[0].fds or 0) < SOCKETS:
            raise Unread(str(found)[:1000])

    return sample


def _reading(hands: Hands, name: str, epoch: Epoch) -> Callable[[], Awaitable[None]]:
    examiner = Examiner(name, (), hands, SockDiag(), Clock(), touch_every=0.0)

    async def read() -> None:
        found = await examiner.read(epoch, lambda _queue: 0)
        if found.lacks or len(found.samples) != len(found.touched):
            raise Unread(f"{len(found.samples)} and {len(found.touched)} samples; {found.lacks}")

    return read


def _looks(directory: Path, times: int) -> Cost:
    """At every accept queue of this host, of which at least 50 are ours."""
    with ExitStack() as stack, closing(SockDiag()) as diag:
        for _ in range(TCP_LISTENERS):
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for number in range(UNIX_LISTENERS):
            made = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            made.bind(str(directory / f"listener-{number}"))
            made.listen()
        found = diag.listeners()
        if found.lacks or len(found.queues) < TCP_LISTENERS + UNIX_LISTENERS:
            raise Unread(f"{len(found.queues)} listeners; {found.lacks}")
        wall = []
        spent = time.process_time()
        for _ in range(times):
            began = time.perf_counter()
            diag.listeners()
            wall.append((time.perf_counter() - began) * 1000)
        spent = time.process_time() - spent
    return Cost("a look at the accept queues", f"{len(found.queues)} listeners", wall, spent / times * 1000, None)


def _bars(costs: list[Cost]) -> Iterator[Bar]:
    sample, look = costs[0], costs[-1]
    yield below(f"wall time of a sample of {sample.of}", statistics.median(sample.wall), SAMPLE_MS, "ms")
    yield below(f"CPU of the helper for a sample of {sample.of}", sample.helper or 0.0, SAMPLE_MS, "ms")
    yield below(f"wall time of a look at the accept queues of {look.of}", statistics.median(look.wall), LOOK_MS, "ms")
