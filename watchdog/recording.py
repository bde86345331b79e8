"""A recorded incident: what the daemon knew and decided, entry by entry, in memory and as a file. `replay` reads it.

Rules of this file. A file is one object of JSON (RFC 8259) that needs nothing else: the service, its policy and roads,
the incident, and its entries, each with the state before, the event, what was decided, and the case that was diagnosed,
where it was kept. Every field is written, also where it is a default: the next version may have another one. A case
says only what differs from the file's own policy and roads. JSON knows no infinity, so the age of a process that
nobody knows is null. What is no Unicode (a thread's name may be any bytes) is spelled out and never an error: no fact
is lost for its spelling.

Neither the configuration of a probe nor a command line is in a case, so there is no secret in the file. Addresses of
clients are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from watchdog.model import (
    Case,
    Certainty,
    Event,
    Looked,
    Performed,
    Policy,
    RecordKind,
    Resumed,
    Road,
    Rung,
    State,
    Told,
    Verdict,
)

VERSION = 1
WIDTH = 120  # of a line in a file; what fits into one is in one
EVENTS: Mapping[str, type[Event]] = {kind.__name__.lower(): kind for kind in (Looked, Performed, Told, Resumed)}


class NotRecorded(Exception):
    """What was given is no recorded incident of this version; the text says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One call of `step`: the time (CLOCK_BOOTTIME), the state before, the event."""

    now: float
    state: State
    event: Event


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of an entry: the diagnosis, where it was a round; the remedy asked for; the kinds of what was told."""

    verdict: Verdict | None
    certainty: Certainty | None
    action: Rung | None
    records: tuple[RecordKind, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry as it was kept. `decided` is what came of it then; None where that was not recorded (schema 1)."""

    at: datetime  # for people
    entry: Entry
    decided: Decision | None
    case: Case | None = None  # what the diagnosis rests on, where it was kept


@dataclass(frozen=True, slots=True)
class Summary:
    """Which incident it is. `closed` is None while it is open."""

    id: str
    opened: datetime
    closed: datetime | None
    verdict: Verdict
    certainty: Certainty


@dataclass(frozen=True, slots=True)
class Recording:
    """An incident with its entries, oldest first. `policy` and `roads` are those it was opened with, where known."""

    service: str
    incident: Summary
    policy: Policy | None
    roads: Mapping[str, Road]
    entries: Sequence[Recorded]


def decision(event: Event, action: Rung | None, records: Iterable[RecordKind]) -> Decision:
    """What came of an event: with the diagnosis that it carries."""
    if not isinstance(event, Looked):
        return Decision(None, None, action, tuple(records))
    return Decision(event.diagnosis.verdict, event.diagnosis.certainty, action, tuple(records))


# --- JSON -------------------------------------------------------------------------------------------------------------


def encode(value: object) -> bytes:
    """A value of the model as JSON."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_spelled(msgspec.to_builtins(value)))


def spelled(text: str) -> str:
    """The text with what is no Unicode spelled out: `\\udcff`."""
    return text.encode(errors="backslashreplace").decode()


def _spelled(value: Any) -> Any:
    match value:
        case str():
            return spelled(value)
        case list() | tuple():
            return [_spelled(item) for item in value]
        case dict():
            return {_spelled(key): _spelled(item) for key, item in value.items()}
    return value


def decode_case(raw: bytes) -> Case:
    """A case that `encode` wrote. Raises `NotRecorded`."""
    try:
        return _case(msgspec.json.decode(raw, type=dict[str, Any]))
    except msgspec.DecodeError as error:
        raise NotRecorded(f"a case can't be understood: {error}") from error


def _case(body: Mapping[str, Any]) -> Case:
    age = body.get("age")
    return msgspec.convert({**body, "age": math.inf if age is None else age}, Case)


# --- the file ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """An entry in a file. `event` has one key, which tells what it was."""

    at: datetime
    now: float
    state: State
    event: dict[str, Any]
    decided: Decision | None = None
    case: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """The file."""

    version: int
    service: str
    incident: Summary
    policy: dict[str, Any] | None = None
    roads: dict[str, Any] = field(default_factory=dict)
    entries: list[_Item]


def dump(recording: Recording) -> str:
    """The recording as a file's text."""
    shared: dict[str, Any] = {
        "policy": msgspec.to_builtins(recording.policy),
        "roads": msgspec.to_builtins(recording.roads),
    }
    head = {"version": VERSION, "service": recording.service, "incident": msgspec.to_builtins(recording.incident)}
    entries = [_item(recorded, shared) for recorded in recording.entries]
    return _lines(_spelled({**head, **shared, "entries": entries}), 0) + "\n"


def _item(recorded: Recorded, shared: Mapping[str, Any]) -> dict[str, Any]:
    entry = recorded.entry
    item = _Item(
        at=recorded.at,
        now=entry.now,
        state=entry.state,
        event={type(entry.event).__name__.lower(): entry.event},
        decided=recorded.decided,
        case=_own(recorded.case, shared) if recorded.case is not None else None,
    )
    body: dict[str, Any] = msgspec.to_builtins(item)
    return body


def _own(case: Case, shared: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(case)
    if math.isinf(case.age):
        body["age"] = None
    return {key: value for key, value in body.items() if key not in shared or value != shared[key]}


def _lines(value: Any, indent: int) -> str:
    """JSON for people: what fits into a line is in one, and a list of bare numbers always is."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner, outer = " " * (indent + 1), " " * indent
    if isinstance(value, dict) and indent + len(flat) > WIDTH:
        rows = [f"{inner}{json.dumps(key)}: {_lines(item, indent + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{outer}}}"
    nested = isinstance(value, list) and any(isinstance(item, dict | list) for item in value)
    if nested and indent + len(flat) > WIDTH:
        return "[\n" + ",\n".join(inner + _lines(item, indent + 1) for item in value) + f"\n{outer}]"
    return flat


def load(text: str | bytes) -> Recording:
    """The recording in a file's text. Raises `NotRecorded`."""
    try:
        head = msgspec.json.decode(text, type=dict[str, Any])
        version = head.get("version")
        if type(version) is int and version > VERSION:
            raise NotRecorded(f"written by a newer epoll-watchdog (version {version}, this one knows {VERSION})")
        file = msgspec.convert(head, _File)
        policy = msgspec.convert(file.policy, Policy | None)
        roads = msgspec.convert(file.roads, dict[str, Road])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotRecorded(f"no recorded incident: {error}") from error
    shared = {"policy": file.policy, "roads": file.roads}
    entries = [_recorded(number, item, shared) for number, item in enumerate(file.entries)]
    return Recording(file.service, file.incident, policy, roads, entries)


def _recorded(number: int, item: _Item, shared: Mapping[str, Any]) -> Recorded:
    try:
        kind = next(iter(item.event), "nothing")
        if kind not in EVENTS:
            raise ValueError(f"{kind} is no event")
        entry = Entry(item.now, item.state, msgspec.convert(item.event[kind], EVENTS[kind]))
        case = _case({**shared, **item.case}) if item.case is not None else None
    except ValueError as error:  # msgspec's are such
        raise NotRecorded(f"no recorded incident: entry {number}: {error}") from error
    return Recorded(item.at, entry, item.decided, case)
