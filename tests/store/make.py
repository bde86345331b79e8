"""Values for the tests of the store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tests.core.make import EPOCH, case, seen
from watchdog.clock import Clock
from watchdog.model import (
    Action,
    Certainty,
    Incident,
    Kind,
    Pause,
    Record,
    RecordKind,
    Rung,
    Severity,
    State,
    Verdict,
)
from watchdog.store import Entry, Letter, Store


@dataclass
class Time:
    """A clock that a test sets."""

    now: float = 1000.0
    wall: float = 1e9
    boot: str = "boot-1"

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.wall, lambda: self.boot)


STATE = State(
    epoch=EPOCH,
    seen_healthy=True,
    pause=Pause("root", "maintenance", 2000.0),
    incident=Incident(
        id="i",
        since=900.0,
        opened=901.0,
        verdict=Verdict.EPOLL_STALL,
        certainty=Certainty.SUSPECTED,
        tried=(Rung.NUDGE,),
        settle_until=903.0,
        told=902.0,
        exhausted=904.0,
    ),
    pending=Action(Rung.RESTART, "i", EPOCH, 950.0),
    nudges=(901.0,),
    restarts=(950.0,),
)
OPENED = Record(
    RecordKind.OPENED,
    990.0,
    "it is dark",
    "i",
    Severity.WARNING,
    {"verdict": "epoll_stall", "certainty": "suspected", "since": 980.0, "reasons": ["because"]},
)
RESOLVED = Record(RecordKind.RESOLVED, 1000.0, "healed", "i", Severity.INFO, {"since": 980.0})
CASE = case(tcp=Kind.SILENT, snmp=Kind.ALIVE)


def letter(number: int = 0, channel: str = "ops", incident: str = "i", **changed: Any) -> Letter:
    """A letter of an incident of web's."""
    return replace(Letter(0, channel, incident, "web", "opened", "warning", 1e9, {"number": number}), **changed)


async def leaving(store: Store, channel: str = "ops") -> list[Letter]:
    """All letters that wait for a channel, in the order in which they leave when each is delivered at once."""
    left: list[Letter] = []
    while waiting := await store.outbox(channel, 1000):
        for letter in waiting:
            await store.delivered(letter.key)
        left += waiting
    return left


def sick(incident: str) -> State:
    """A state with that incident open."""
    found = Incident(id=incident, since=900.0, opened=901.0, verdict=Verdict.HUNG, certainty=Certainty.SUSPECTED)
    return State(incident=found)


def about(record: Record, incident: str, at: float) -> Record:
    """The record, of another incident."""
    return replace(record, incident=incident, at=at)


async def happened(
    store: Store, incident: str, entries: int, *, at: float = 1000.0, closed: bool = True, service: str = "web"
) -> None:
    """An incident of so many entries, each with a case; the last one resolves it, unless it stays open."""
    state = sick(incident)
    for number in range(entries):
        records = (about(OPENED, incident, at),) if not number else ()
        last = closed and number == entries - 1
        await store.commit(
            service,
            State() if last else state,
            (*records, about(RESOLVED, incident, at)) if last else records,
            Entry(at + number, state, seen(Verdict.HUNG)),
            case=replace(CASE, now=at + number),
        )
