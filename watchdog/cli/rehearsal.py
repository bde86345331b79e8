"""A drill from its request to its end: what the helper did, when the threads woke, what the daemon made of it.

It looks at the threads itself, by their own /proc: who woke them shows in the daemon's incident.
"""

from __future__ import annotations

import contextlib
import datetime
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from watchdog.cli.api import Daemon
from watchdog.helper import worker
from watchdog.helper.limits import BEFORE, TIMEOUTS
from watchdog.helper.nudge import nudge
from watchdog.helper.protocol import MAX_REPLY, Lines, Nonsense, Reply, Request, encode_request, parse_reply
from watchdog.helper.stall import parked
from watchdog.link import Link, Unreachable
from watchdog.model import Epoch
from watchdog.target import Refusal

ENDING = (signal.SIGINT, signal.SIGTERM)
LOOK = 0.02  # s between two looks at the threads, of which nothing tells
ASK = 0.2  # s between two questions to the daemon
UNDONE_WITHIN = 25.0  # s past its end that the helper tries to undo it
RESOLVED_WITHIN = 60.0  # s from the waking to the incident's end
OPENED_WITHIN = 10.0  # s from the waking until there is no incident to come
NUDGED_WITHIN = 5.0  # s; the worker of our own nudge
REMEDIES = {"nudged": "a nudge", "restarted": "a restart"}

Record = Mapping[str, Any]


class HelperLost(Exception):
    """The helper can't be asked, or gave no answer that can be understood; the text says why."""


@contextlib.contextmanager
def asked(link: Link, request: Request) -> Iterator[Reply]:
    """The helper's reply; it is connected for as long as the context lasts. Raises `HelperLost`.

    From the request on, SIGINT and SIGTERM are blocked: what was begun has to be known before it can be undone.
    """
    try:
        connection = link.open()
    except Unreachable as error:
        raise HelperLost(f"the helper can't be asked: {error}") from None
    with connection:
        connection.settimeout(BEFORE + TIMEOUTS[request.verb])
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            connection.sendall(encode_request(request))
            reply = parse_reply(_line(connection))
        except (OSError, Nonsense) as error:
            raise HelperLost(f"the helper gave no answer: {error}") from None
        yield reply


def _line(connection: socket.socket) -> bytes | None:
    lines = Lines(MAX_REPLY)
    while data := connection.recv(65536):
        if found := lines.feed(data):
            return found[0]
    raise ConnectionResetError("it closed the connection")


@dataclass(slots=True)
class Rehearsal:
    """What became of a drill. Times are in seconds since its beginning; None: it has not come."""

    service: str
    at_most: float
    earlier: frozenset[str]  # the incidents that it had before
    processes: tuple[Epoch, ...]
    begun: float = 0.0  # how long ago, when this is made
    began: float = field(init=False)  # time.monotonic
    began_wall: float = field(init=False)
    woken: float | None = None
    resolved: float | None = None
    healed_by: str | None = None  # the daemon's remedy
    incident: str | None = None
    timeline: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began, self.began_wall = time.monotonic() - self.begun, time.time() - self.begun

    @property
    def passed(self) -> float:
        """Since its beginning."""
        return time.monotonic() - self.began

    def since(self, record: Record) -> float:
        """When the daemon made this record."""
        return _wall(record["at"]) - self.began_wall

    @property
    def healed(self) -> bool:
        """Whether the daemon has woken them, and not the end of the drill."""
        return self.healed_by is not None and self.woken is not None and self.woken < self.at_most

    def follow(self, daemon: Daemon, tell: Callable[[Record], None], woke: Callable[[], None]) -> None:
        """To its end. `tell` gets each record of the incident, `woke` is called when no thread is dark any more.

        Raises `Unanswered` where the daemon does not answer.
        """
        asked_at = 0.0
        while not self._over():
            if self.woken is None and not self.dark():
                self.woken = self.passed
                self._hear(daemon, tell)  # first what led to it
                woke()
            if time.monotonic() - asked_at >= ASK:
                asked_at = time.monotonic()
                self._hear(daemon, tell)
            time.sleep(LOOK)

    def dark(self) -> int:
        """How many threads sleep where the drill sent them."""
        count = 0
        for epoch in self.processes:
            with contextlib.suppress(Refusal):  # it has ended, or is ending
                count += len(parked(epoch))
        return count

    def undo(self) -> bool:
        """Wake them, at once: nobody wants to wait for the helper's end of it. Whether all are awake."""
        worker.run(lambda: nudge(self.processes).outcome(), NUDGED_WITHIN)
        return not self.dark()

    def _over(self) -> bool:
        if self.woken is None:
            return self.passed > self.at_most + UNDONE_WITHIN
        within = RESOLVED_WITHIN if self.incident is not None else OPENED_WITHIN
        return self.resolved is not None or self.passed > self.woken + within

    def _hear(self, daemon: Daemon, tell: Callable[[Record], None]) -> None:
        """Take over what is new of the incident that was opened since."""
        incidents = daemon.get(f"/api/v1/incidents?service={self.service}")["incidents"]
        ours = [incident for incident in incidents if incident["id"] not in self.earlier]
        if not ours:
            return
        incident = ours[-1]  # the first: they come newest first
        self.incident = incident["id"]
        for record in incident["timeline"][len(self.timeline) :]:
            self.timeline.append(record)
            remedy = REMEDIES.get(record["kind"])
            if remedy and record["detail"].get("outcome") == "done" and self.since(record) < self.at_most:
                self.healed_by = remedy
            tell(record)
        if incident["closed"] is not None:
            self.resolved = _wall(incident["closed"]) - self.began_wall


def _wall(text: str) -> float:
    """Seconds of a time as the API tells it (RFC 3339)."""
    return datetime.datetime.fromisoformat(text).timestamp()
