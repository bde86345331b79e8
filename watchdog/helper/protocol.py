"""What brain and helper say to each other: one line of JSON a request, one a reply, and nothing else.

Rules: a line has a limit, and what is longer is dropped as it comes; a request is valid as a whole or it is nonsense,
which gets a reply of one line; the helper believes none of it beyond its form. Replies may come in another order than
their requests: the id joins them.

    {"id": 1, "verb": "nudge", "service": "ravendb", "pid": 912, "start_time": 5123, "invocation_id": ""}
    {"id": 1, "outcome": "done", "reason": "1 thread nudged, longest stop 0.08 ms", "detail": {…}}

A frozen value in a detail goes as an object of its fields, a tuple as an array; `hands` knows what it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from watchdog.model import Epoch, Outcome

MAX_REQUEST = 4096  # bytes
MAX_REPLY = 1 << 20  # the largest is a sample at its limits (`evidence.procfs.Limits`): 0.8 MiB
MAX_NUMBER = 1 << 62


class Nonsense(Exception):
    """A line that is no request or reply. `id` is what it may have been about."""

    def __init__(self, reason: str, id: int | None = None) -> None:  # noqa: A002 - the protocol's word
        super().__init__(reason)
        self.id = id


@dataclass(frozen=True, slots=True)
class Request:
    """What the brain asks for. Without a `pid` (0) the service has no process that it knows of."""

    id: int
    verb: str
    service: str = ""
    pid: int = 0
    start_time: int = 0
    invocation_id: str = ""
    copy: int = 0  # 1: examine polls copies of the epolls too
    at_most: int = 0  # ms that a drill lasts at most

    @property
    def epoch(self) -> Epoch | None:
        """The life of the process that is meant."""
        return Epoch(self.pid, self.start_time, self.invocation_id) if self.pid else None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request; `id` is None where the request had none."""

    id: int | None
    outcome: Outcome
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)


class Lines:
    """Cuts a stream into lines. One longer than `limit` bytes comes as None, once, when it ends."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()  # appended to, never copied: what comes in small pieces costs no more
        self._dropping = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """The lines that `data` completes."""
        *ended, rest = data.split(b"\n")
        lines = [self._end(part) for part in ended]
        self._add(rest)
        return lines

    def _add(self, part: bytes) -> None:
        if self._dropping or len(self._rest) + len(part) > self._limit:
            self._dropping = True
            self._rest = bytearray()
        else:
            self._rest += part

    def _end(self, part: bytes) -> bytes | None:
        self._add(part)
        line = None if self._dropping else bytes(self._rest)
        self._dropping = False
        self._rest = bytearray()
        return line


def parse_request(line: bytes | None) -> Request:
    """A request. Raises `Nonsense`."""
    fields = _object(line, MAX_REQUEST)
    number = fields.get("id")
    if not _is_number(number):
        raise Nonsense("id must be a number, 0 or more")
    for key, value in fields.items():
        wanted = Request.__annotations__.get(key)
        if wanted is None:
            raise Nonsense(f"unknown key {key[:40]!r}", number)
        if wanted == "int" and not _is_number(value):
            raise Nonsense(f"{key} must be a number, 0 or more", number)
        if wanted == "str" and not isinstance(value, str):
            raise Nonsense(f"{key} must be a string", number)
    if "verb" not in fields:
        raise Nonsense("verb is missing", number)
    return Request(**fields)


def parse_reply(line: bytes | None) -> Reply:
    """A reply. Raises `Nonsense`."""
    fields = _object(line, MAX_REPLY)
    try:
        number, reason, detail = fields["id"], fields["reason"], fields["detail"]
        outcome = Outcome(fields["outcome"])
    except (KeyError, ValueError, TypeError):
        raise Nonsense("no reply: id, outcome, reason or detail is missing or wrong") from None
    if not (number is None or _is_number(number)) or not isinstance(reason, str) or not isinstance(detail, dict):
        raise Nonsense("no reply: id, reason or detail has the wrong type")
    return Reply(number, outcome, reason, detail)


def encode_request(request: Request) -> bytes:
    """The request as a line."""
    return _line({name: getattr(request, name) for name in Request.__annotations__})


def encode_reply(reply: Reply) -> bytes:
    """The reply as a line; a detail that would be too long for one is left out, and that is told."""
    fields = {"id": reply.id, "outcome": reply.outcome, "reason": " ".join(reply.reason.split())[:1000]}
    line = _line({**fields, "detail": dict(reply.detail)})
    return line if len(line) <= MAX_REPLY else _line({**fields, "detail": {"omitted_bytes": len(line)}})


def _object(line: bytes | None, limit: int) -> dict[str, Any]:
    if line is None:
        raise Nonsense(f"the line is longer than {limit} bytes")
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise Nonsense("the line is no JSON") from None
    if not isinstance(fields, dict):
        raise Nonsense("the line is no JSON object")
    return fields


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_NUMBER


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), default=plain).encode() + b"\n"


def plain(value: Any) -> dict[str, Any]:
    """The fields of a slotted dataclass."""
    return {name: getattr(value, name) for name in value.__slots__}
