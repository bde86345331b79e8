"""`python -m bench.prober CONFIG`: takes rounds as the daemon does, one line of orders at a time.

An order is "PROBE COUNT INTERVAL": take so many rounds with that probe of the config's one service, one every INTERVAL
seconds (0: back to back), through `look.Look`, on the daemon's kind of loop. The answer is how many of them found it
alive. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import dataclasses
import selectors
import sys
from pathlib import Path

from watchdog.clock import Clock
from watchdog.config import Service, load
from watchdog.look import Look
from watchdog.model import Kind
from watchdog.probes import PROBES
from watchdog.systemd import Units


async def take(look: Look, count: int, interval: float) -> int:
    """Take the rounds; how many of them found the service alive."""
    loop = asyncio.get_running_loop()
    alive, due = 0, loop.time()
    for _ in range(count):
        due += interval
        if (pause := due - loop.time()) > 0:
            await asyncio.sleep(pause)
        observations = (await look.round()).round.observations
        alive += all(observation.kind is Kind.ALIVE for observation in observations.values())
    return alive


def alone(service: Service, name: str) -> Look:
    """A look at the service by one of its probes."""
    probe = service.probes[name]
    PROBES[probe.type].prepare(probe.settings)
    return Look(dataclasses.replace(service, probes={name: probe}), Units(), Clock())


def main() -> int:
    """Obey until the input ends."""
    [service] = load(Path(sys.argv[1])).services.values()
    looks = {name: alone(service, name) for name in service.probes}
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.PollSelector())) as runner:
        print("ready", flush=True)
        for order in sys.stdin:
            name, count, interval = order.split()
            print(runner.run(take(looks[name], int(count), float(interval))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
