"""What the page tells of a service: a card with everything, or a row of a table. Pure: views in, plain values out.

Rules of this file. Whoever is paged wants first what is ill: that comes on top, with cards; the rest is a table, a line
a service. Where all fit, all have cards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from markupsafe import Markup

from watchdog.history import HOURS, MINUTES, Backlog, Past, Span
from watchdog.reading import Queue
from watchdog.settings import format_duration
from watchdog.web import plots
from watchdog.web.view import ProbeView, ServiceView
from watchdog.web.words import (
    SYMBOLS,
    UNKNOWN,
    Tone,
    ago,
    kind_symbol,
    kind_tone,
    local,
    many,
    meaning,
    tone_of,
)

CARDS = 5  # services; where there are more, only so many of those that are not well have one
ROWS = (HOURS,)  # spans that a row of the table shows
ALL = (HOURS, MINUTES)
YOUNG = 10  # minutes; so long after the start, hours would be empty, and plots show minutes
MOST_QUEUES = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """A probe and what it found: lately, and in the last hours."""

    name: str
    what: str  # its type and plane
    tone: str
    symbol: str
    kind: str
    latency: str
    reason: str
    hours: Markup | str
    minutes: Markup | str = ""
    plot: Markup | str = ""
    top: str = ""
    bottom: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A service's accept queues."""

    now: str
    plot: Markup
    top: str


@dataclass(frozen=True, slots=True)
class Card:
    """A service."""

    name: str
    href: str
    tone: str
    symbol: str
    verdict: str
    means: str
    reasons: Sequence[str]
    notes: Sequence[str]  # in sentences
    facts: str  # in a line
    incident: str  # its id; empty: none is open
    asked: Sequence[Asked]
    waiting: Waiting | None = None
    plotted: str = ""  # how much of the past the plots show


def href(name: str) -> str:
    """The path of a service's page."""
    return f"/services/{quote(name, safe='')}"


def parted(services: Sequence[ServiceView]) -> tuple[list[ServiceView], list[ServiceView]]:
    """Those with cards and the others, in the order in which they are shown."""
    ordered = sorted(services, key=_need)
    cards = len(ordered) if len(ordered) <= CARDS else min(CARDS, sum(not each.healthy for each in ordered))
    return ordered[:cards], ordered[cards:]


def _need(service: ServiceView) -> int:
    """How much it needs somebody: the least first."""
    if service.healthy:
        return 4 if not service.incident else 3
    return {Tone.BAD: 0, Tone.WAIT: 1, Tone.GOOD: 2, Tone.REST: 2}[tone_of(service.verdict)]


def card(service: ServiceView, past: Past, now: float) -> Card:
    """All that is known of it. `now` is of the wall clock."""
    span = MINUTES if _is_young(past) else HOURS
    asked = [_asked(name, probe, past, now, span) for name, probe in service.probes.items()]
    made = _card(service, asked, _queue(past, span), now)
    return replace(made, plotted="5 minutes" if span is MINUTES else "6 hours")


def _is_young(past: Past) -> bool:
    return not any(any(tracks[HOURS].ranks[:-YOUNG]) for tracks in past.probes.values())


def row(service: ServiceView, past: Past, now: float) -> Card:
    """The same with less of the past."""
    return _card(service, [_briefly(name, probe, past) for name, probe in service.probes.items()], None, now)


def _card(service: ServiceView, asked: Sequence[Asked], waiting: Waiting | None, now: float) -> Card:
    unseen = service.last_round_at is None
    tone = Tone.WAIT if unseen else tone_of(service.verdict)
    certain = "" if tone is not Tone.BAD else f" ({service.certainty})"
    return Card(
        name=service.name,
        href=href(service.name),
        tone=tone,
        symbol=SYMBOLS[tone],
        verdict="not looked at yet" if unseen else f"{service.verdict}{certain}",
        means="" if unseen else meaning(service.verdict),
        reasons=() if service.healthy or unseen else service.reasons,
        notes=list(_notes(service)),
        facts=", ".join(_facts(service, now)),
        incident=service.incident or "",
        asked=asked,
        waiting=waiting,
    )


def _notes(service: ServiceView) -> Iterator[str]:
    """What keeps the daemon from acting, and what an operator said."""
    if service.restart_due:
        yield "A restart is due."
    if service.held_for and service.held_for != service.window:
        yield f"The next rung waits: {service.held_for}"
    yield from (f"Passed over: {passed}" for passed in service.passes)
    if service.paused:
        by = f" by {service.pause_by}" if service.pause_by else ""
        until = f" until {local(service.pause_until)}" if service.pause_until is not None else ""
        yield f"Paused{by}{until}{f': {service.pause_reason}' if service.pause_reason else ''}"
    if service.window:
        yield f"Maintenance: {service.window}"
    if service.acknowledged_by:
        yield f"Acknowledged by {service.acknowledged_by}"


def _facts(service: ServiceView, now: float) -> Iterator[str]:
    if service.last_round_at is not None:
        yield f"asked {ago(now - service.last_round_at)}"
    yield f"mode {service.mode}"
    if service.pid is not None:
        yield f"PID {service.pid}"
    if service.budgets:
        yield "left: " + " and ".join(many(count, str(rung)) for rung, count in service.budgets.items())


# --- probes and queues ------------------------------------------------------------------------------------------------


def _briefly(name: str, probe: ProbeView, past: Past, now: float | None = None) -> Asked:
    tone, symbol, kind = ("rest", UNKNOWN, "not asked yet")
    if probe.kind is not None:
        tone, symbol, kind = kind_tone(probe.kind), kind_symbol(probe.kind), probe.kind
    return Asked(
        name=name,
        what=f"{probe.type}, {probe.plane}" if probe.type != probe.plane else probe.type,
        tone=tone,
        symbol=symbol,
        kind=kind,
        latency=format_duration(probe.latency_s) if probe.latency_s is not None else "",
        reason=probe.reason,
        hours=_strip(name, past, HOURS, now),
    )


def _asked(name: str, probe: ProbeView, past: Past, now: float, span: Span) -> Asked:
    brief = replace(_briefly(name, probe, past, now), minutes=_strip(name, past, MINUTES, now))
    track = past.probes.get(name, {}).get(span)
    if track is None:
        return brief
    plot, top, bottom = plots.latency(name, track, span)
    return replace(brief, plot=plot, top=top, bottom=bottom)


def _strip(name: str, past: Past, span: Span, now: float | None) -> Markup | str:
    track = past.probes.get(name, {}).get(span)
    return "" if track is None else plots.strip(name, track, span, now)


def _queue(past: Past, span: Span) -> Waiting | None:
    """The fullest first; None where no listener was read."""
    found = past.queues.queues if past.queues is not None else ()
    if not found:
        return None
    fullest = sorted(found, key=_fullness, reverse=True)
    limits = {queue.limit for queue in found}
    plot, top = plots.queue(past.backlog.get(span, Backlog()), limits.pop() if len(limits) == 1 else None, span)
    more = f" and {len(found) - MOST_QUEUES} more" if len(found) > MOST_QUEUES else ""
    return Waiting("; ".join(map(_told, fullest[:MOST_QUEUES])) + more, plot, top)


def _fullness(queue: Queue) -> tuple[float, int]:
    return queue.length / queue.limit if queue.limit else 0.0, queue.length


def _told(queue: Queue) -> str:
    limit = f" of {queue.limit}" if queue.limit is not None else ""
    return f"{queue.length}{limit} at {queue.address}{', full' if queue.full else ''}"
