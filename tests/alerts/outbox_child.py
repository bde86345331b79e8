"""A daemon's outbox without its guards: events are committed as fast as they go and couriers deliver them, until all
is told or somebody kills it. `python -m tests.alerts.outbox_child DIRECTORY EVENTS URL...`

It imports once and forks for each life: a line on stdin begins one, its PID and later its wait status are answered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp  # noqa: F401  (what a life would import late)

from tests.simulated import SERVICE
from watchdog.alerts.delivery import Courier
from watchdog.alerts.webhook import Settings, Webhook
from watchdog.board import Board
from watchdog.clock import Clock
from watchdog.config import Channel, Config, Http, Service
from watchdog.metrics import Metrics
from watchdog.model import Certainty, Incident, Record, RecordKind, Severity, State, Verdict
from watchdog.store import Store

SERVICES = 10
STORY = (
    RecordKind.OPENED,
    RecordKind.VERDICT,
    RecordKind.NUDGED,
    RecordKind.NUDGED,
    RecordKind.PASSED,
    RecordKind.ESCALATED,
    RecordKind.REMINDER,
    RecordKind.ACKNOWLEDGED,
    RecordKind.REMINDER,
    RecordKind.RESOLVED,
)


def config(directory: Path, urls: list[str]) -> Config:
    """Three channels or so, all of which want everything."""
    return Config(
        files=(),
        services={},
        channels={f"c{n}": Channel(name=f"c{n}", type="webhook", settings=Settings(url=u)) for n, u in enumerate(urls)},
        http=Http(),
        state_directory=directory,
        max_sick=None,
        warnings=(),
    )


def steps(service: str, begin: int, events: int, clock: Clock) -> Iterator[tuple[State, Record]]:
    """What happens to a service, from its event number `begin` on. The state remembers which comes next."""
    for number in range(begin, events):
        name, now = f"{service}-{number // len(STORY)}", clock.now()
        kind = STORY[number % len(STORY)]
        incident = Incident(id=name, since=now, opened=now, verdict=Verdict.HUNG, certainty=Certainty.SUSPECTED)
        state = State(incident=None if kind is RecordKind.RESOLVED else incident, nudges=(number + 1,))
        detail = {"verdict": "hung", "certainty": "suspected", "since": now, "rung": "nudge", "outcome": "done"}
        detail |= {"recovery_s": 1.0, "reason": "because"}
        yield state, Record(kind, now, str(number), name, Severity.INFO, detail)


async def live(directory: Path, events: int, urls: list[str]) -> None:
    """One life, to its natural end."""
    clock = Clock()
    store = Store(directory, clock, deadline=30)
    board = Board(config(directory, urls), store, clock, Metrics(), lambda: True)
    couriers = [
        Courier(
            name=name,
            channel=Webhook(channel.settings),
            routing=channel.settings,
            outbox=store,
            notified=lambda _name, _ok: None,
            first_retry=0.02,
            longest_retry=0.1,
        )
        for name, channel in board.config.channels.items()
    ]

    def wake() -> None:
        for courier in couriers:
            courier.wake()

    board.wake_couriers = wake
    tasks = [asyncio.create_task(courier.run()) for courier in couriers]

    async def happen(service: Service) -> None:
        done = (await store.load(service.name)).nudges
        for state, record in steps(service.name, int(done[0]) if done else 0, events // SERVICES, clock):
            await store.commit(service.name, state, [record], None, board.letters(service, record))
            board.told(service, [record])

    await asyncio.gather(*(happen(replace(SERVICE, name=f"s{number}")) for number in range(SERVICES)))
    while await store.outbox_length():  # noqa: ASYNC110  (the receivers tell nobody here)
        await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()


def main(directory: str, events: str, *urls: str) -> None:
    """A life for each line."""
    logging.disable(logging.WARNING)  # that a channel fails is what is played here
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.PollSelector())) as runner:
                runner.run(live(Path(directory), int(events), list(urls)))
            os._exit(0)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
