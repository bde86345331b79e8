"""`python -m bench.prober CONFIG`: probes as the daemon does, one line of orders at a time.

An order is "PROBE HOW COUNT INTERVAL": with that probe of the config's one service, so many times, one every INTERVAL
seconds (0: back to back). HOW is "round": whole rounds by `look.Look`, or "alone": the probe's function and nothing
around it. All on the daemon's kind of loop. The answer is how many of them found the service alive. It ends with its
standard input.
"""

from __future__ import annotations

import asyncio
import dataclasses
import selectors
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.simulated import NoHands
from watchdog.clock import Clock
from watchdog.config import Service, load
from watchdog.evidence.sockdiag import SockDiag
from watchdog.examiner import Examiner
from watchdog.look import Look
from watchdog.model import Kind
from watchdog.probes import PROBES
from watchdog.probes.deadline import Deadline
from watchdog.systemd import Units

Ask = Callable[[], Awaitable[bool]]  # whether the service was found alive


async def take(asking: Ask, count: int, interval: float) -> int:
    """Ask so many times; how many times the service was alive."""
    loop = asyncio.get_running_loop()
    alive, due = 0, loop.time()
    for _ in range(count):
        due += interval
        if (pause := due - loop.time()) > 0:
            await asyncio.sleep(pause)
        alive += await asking()
    return alive


def by_round(service: Service, name: str) -> Ask:
    """By a round of the service with this probe only."""
    one = dataclasses.replace(service, probes={name: service.probes[name]})
    look = Look(one, Units(), Examiner(name, (), NoHands(), SockDiag(), Clock()), Clock())

    async def ask() -> bool:
        observations = (await look.round()).round.observations
        return [observation.kind for observation in observations.values()] == [Kind.ALIVE]

    return ask


def alone(service: Service, name: str) -> Ask:
    """By the probe's function."""
    probe = service.probes[name]
    call = PROBES[probe.type].probe

    async def ask() -> bool:
        deadline = Deadline(asyncio.get_running_loop().time() + service.policy.timeout)
        return (await call(probe.settings, None, deadline)).kind is Kind.ALIVE

    return ask


def main() -> int:
    """Obey until the input ends."""
    [service] = load(Path(sys.argv[1])).services.values()
    for probe in service.probes.values():
        PROBES[probe.type].prepare(probe.settings)
    ways = {"round": by_round, "alone": alone}
    asking = {(name, how): way(service, name) for name in service.probes for how, way in ways.items()}
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.PollSelector())) as runner:
        print("ready", flush=True)
        for order in sys.stdin:
            name, how, count, interval = order.split()
            print(runner.run(take(asking[name, how], int(count), float(interval))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
