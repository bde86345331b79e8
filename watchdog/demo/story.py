"""What the demo's audience is told: each thing once, when it was seen. No I/O.

Views are what the daemon's API answers (`watchdog.web.view`), times are CLOCK_MONOTONIC in seconds.
"""

from __future__ import annotations

import enum
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

View = Mapping[str, Any]
TOLD_BY_OTHERS = frozenset({"opened", "verdict", "acting", "resolved"})  # records that repeat a line of ours


class Tone(enum.StrEnum):
    """How a line is to sound."""

    PLAIN = "plain"
    BAD = "bad"
    ACT = "act"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Line:
    """One fact."""

    at: float
    tone: Tone
    text: str


@dataclass(slots=True)
class Stall:
    """One lost wake-up, and what came of it."""

    number: int
    lost: float
    healed: float | None = None
    incident: View | None = None
    resolved: bool = False  # the webhook said so

    @property
    def nudged(self) -> bool:
        """Whether the daemon nudged, and says that it worked."""
        return any(record["detail"].get("outcome") == "done" for record in self._records("nudged"))

    @property
    def restarted(self) -> bool:
        """Whether the daemon went further than a nudge."""
        return bool(self._records("restarted"))

    @property
    def closed(self) -> bool:
        """Whether the incident has ended."""
        return self.incident is not None and self.incident["closed"] is not None

    def _records(self, kind: str) -> list[View]:
        timeline = self.incident["timeline"] if self.incident is not None else []
        return [record for record in timeline if record["kind"] == kind]


class Story:
    """Turns what was seen into lines."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.lines: list[Line] = []
        self.service: View | None = None
        self.stalls: list[Stall] = []
        self._kinds: Mapping[str, str] = {}
        self._verdict = ""
        self._records_told = 0

    @property
    def stall(self) -> Stall:
        """The last one."""
        return self.stalls[-1]

    def lost(self, at: float) -> None:
        """The service lost a wake-up."""
        self.stalls.append(Stall(len(self.stalls) + 1, at))
        self._records_told = 0
        self._tell(
            at, Tone.BAD, f"stall {self.stall.number}: the loop's thread sleeps in epoll_wait, its wake-up is lost"
        )

    def answered(self, at: float) -> None:
        """The client that was connected all the time got the answer it waited for."""
        self.stall.healed = at
        took = (at - self.stall.lost) * 1000
        self._tell(at, Tone.GOOD, f"healed in {took:.0f} ms: a client that stayed connected has its answer")

    def looked(self, view: View, at: float) -> None:
        """What the daemon says of the service."""
        self.service = view
        kinds = {name: probe["kind"] for name, probe in view["probes"].items() if probe["kind"]}
        if kinds and kinds != self._kinds:
            self._kinds = kinds
            self._tell(at, Tone.PLAIN, _probes(kinds))
        if view["verdict"] != self._verdict:
            self._verdict = view["verdict"]
            healthy = self._verdict == "healthy"
            reason = "" if healthy or not view["reasons"] else f" ({view['certainty']}): {view['reasons'][0]}"
            self._tell(at, Tone.GOOD if healthy else Tone.BAD, f"verdict: {self._verdict}{reason}")

    def followed(self, incident: View, at: float) -> None:
        """What the daemon says of the incident."""
        was_open = not self.stall.closed
        self.stall.incident = incident
        timeline = incident["timeline"]
        for record in timeline[self._records_told :]:
            if record["kind"] not in TOLD_BY_OTHERS:
                self._tell(at, Tone.ACT, record["text"])
        self._records_told = len(timeline)
        if self.stall.closed and was_open:
            self._tell(at, Tone.GOOD, f"the daemon closed incident {incident['id']}: {timeline[-1]['text']}")

    def received(self, letter: View, at: float) -> None:
        """What the webhook brought."""
        self._tell(at, Tone.PLAIN, f"webhook: {letter['kind']}, severity {letter['severity']}")
        if letter["kind"] == "resolved" and self.stalls:
            self.stall.resolved = True

    def failed(self, why: str, at: float) -> None:
        """Why the story ends badly."""
        self._tell(at, Tone.BAD, why)

    def summary(self) -> str:
        """The end of the story."""
        times = sorted((stall.healed - stall.lost) * 1000 for stall in self.stalls if stall.healed is not None)
        if not self.stalls:
            return "no stall yet"
        told = f"{len(times)} of {len(self.stalls)} stalls healed"
        return f"{told}, in {statistics.median(times):.0f} ms in the median" if times else told

    def _tell(self, at: float, tone: Tone, text: str) -> None:
        self.lines.append(Line(at, tone, text))


def _probes(kinds: Mapping[str, str]) -> str:
    """ "alive: snmp; silent: http, tcp, unix" """

    def groups() -> Iterator[str]:
        for kind in sorted(set(kinds.values())):
            yield f"{kind}: {', '.join(name for name in sorted(kinds) if kinds[name] == kind)}"

    return "probes " + "; ".join(groups())
