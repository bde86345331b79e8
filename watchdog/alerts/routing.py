"""Which letters a channel wants, and how fast: the keys that every channel has, and those of every channel over HTTP.

A channel's Settings inherit `Routing` or `HttpRouting`; a default of theirs may differ (a pager's `min_severity`). What
a channel does not want is never written into its outbox, so it takes no room there and wakes nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from watchdog.alerts.outgoing import PROXY, Unusable, check_url
from watchdog.model import RecordKind, Severity
from watchdog.settings import Seconds, Secret, check_above_zero

TOLD = (
    RecordKind.OPENED,
    RecordKind.BELATED,
    RecordKind.VERDICT,
    RecordKind.HELD,
    RecordKind.PASSED,
    RecordKind.NUDGED,
    RecordKind.CAPTURED,
    RecordKind.RESTARTED,
    RecordKind.ESCALATED,
    RecordKind.REMINDER,
    RecordKind.ACKNOWLEDGED,
    RecordKind.PAUSED,
    RecordKind.RESUMED,
    RecordKind.RESOLVED,
)
"""The kinds that have a severity, and so may be told."""

OWN_HEADERS = re.compile(
    r"(?i)content-(type|length|encoding)|transfer-encoding|host|connection|idempotency-key|webhook-.*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `burst` letters in any `interval`; those beyond it wait."""

    burst: int
    interval: Seconds

    def __post_init__(self) -> None:
        if self.burst < 1:
            raise Unusable(f"burst: {self.burst} would let nothing through; give 1 or more")
        check_above_zero("interval", self.interval, "1h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The keys of every `[channel.NAME]` table, but `type`.

    Where a subclass has a `__post_init__`, it calls `Routing.__post_init__(self)` (with slots, `super()` fails).
    """

    timeout: Seconds = 10.0  # of one attempt
    min_severity: Severity = Severity.INFO
    services: tuple[str, ...] = ()  # empty: all
    events: tuple[RecordKind, ...] = ()  # empty: all
    send_resolved: bool = True
    rate_limit: Rate | None = None
    give_up_after: Seconds = 3 * 86400.0  # the age at which a letter that can't be delivered is let go of

    def __post_init__(self) -> None:
        check_above_zero("timeout", self.timeout, "10s")
        check_above_zero("give_up_after", self.give_up_after, "3d")
        for event in self.events:
            if event not in TOLD:
                known = ", ".join(f'"{kind}"' for kind in TOLD)
                raise Unusable(f'events: "{event}" is kept in the timeline and told to nobody; write some of {known}')

    def wants(self, service: str, kind: RecordKind, severity: Severity) -> bool:
        """Whether it is for this channel. An end also goes to whoever was told of its incident: `wants_end`."""
        if self.services and service not in self.services:
            return False
        if kind is RecordKind.RESOLVED and not self.send_resolved:
            return False
        return severity.rank >= self.min_severity.rank and self._lists(kind)

    def wants_end(self, service: str, kind: RecordKind) -> bool:
        """Whether it is the end of an incident, which this channel wants if it was told of that incident."""
        mine = not self.services or service in self.services
        return mine and kind is RecordKind.RESOLVED and self.send_resolved

    def _lists(self, kind: RecordKind) -> bool:
        """Who wants to hear of openings wants those that were held back too."""
        opening = kind is RecordKind.BELATED and RecordKind.OPENED in self.events
        return not self.events or kind in self.events or opening


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRouting(Routing):
    """The same, and the keys of every channel that speaks HTTP."""

    headers: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    ca_file: str | None = None  # PEM; the receiver's certificate must come from it, not from the host's CAs
    proxy: str | Secret | None = field(default=None, repr=False)  # it may hold a password

    def __post_init__(self) -> None:
        Routing.__post_init__(self)
        if isinstance(self.proxy, str):
            check_url(self.proxy, PROXY, "proxy")
        for name, value in self.headers.items():
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise Unusable(f"headers: {name!r} is no name of a header (RFC 9110, 5.1)")
            if OWN_HEADERS.fullmatch(name):
                raise Unusable(f"headers: {name} is set by epoll-watchdog itself; leave it out")
            if isinstance(value, str) and not _is_header_value(value):
                raise Unusable(f"headers: the value of {name} has a line break or another control character")


def _is_header_value(value: str) -> bool:
    return not any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in value)
