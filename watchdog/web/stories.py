"""What the page tells of an incident: a line of a list, or the whole story. Pure: views in, plain values out.

Rule of this file: what a record says stands as it says it, and nothing is concluded that no record says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watchdog.deeds import REMEDIES, deeds
from watchdog.web.cards import href
from watchdog.web.view import IncidentView
from watchdog.web.words import SHORT_ID, SYMBOLS, Tone, lasting, local, meaning, o_clock, offset, printable

ACTS, ACT = ("acting", *REMEDIES), "→"
TONES = {"critical": Tone.BAD, "warning": Tone.BAD, "info": Tone.WAIT}
WORDS = {
    "opened": "opened",
    "verdict": "verdict changed",
    "held": "waits",
    "passed": "passed over",
    "acting": "acts",
    "nudged": "nudge",
    "restarted": "restart",
    "captured": "capture",
    "answered": "answered",
    "escalated": "alert",
    "reminder": "reminder",
    "retrying": "tries again",
    "epoch": "new process",
    "belated": "told late",
    "resolved": "over",
}


@dataclass(frozen=True, slots=True)
class Line:
    """An incident in a list."""

    href: str
    short: str
    service: str
    service_href: str
    tone: str
    symbol: str
    verdict: str
    opened: str
    lasted: str
    done: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A row of the timeline."""

    offset: str
    at: str
    word: str
    tone: str
    symbol: str
    text: str
    more: Sequence[str]


@dataclass(frozen=True, slots=True)
class Chapter:
    """An incident with all that was recorded of it."""

    line: Line
    id: str
    means: str
    facts: Sequence[tuple[str, str]]  # what stands on top: a word and what it is
    reasons: Sequence[str]  # those of the newest verdict
    against: Sequence[str]
    timeline: Sequence[Fact]


def line(incident: IncidentView, now: float) -> Line:
    """An incident in a list. `now` is of the wall clock."""
    tone = Tone.BAD if incident.closed is None else Tone.GOOD
    return Line(
        href=f"/incidents/{incident.id}",
        short=incident.id[:SHORT_ID],
        service=incident.service,
        service_href=href(incident.service),
        tone=tone,
        symbol=SYMBOLS[tone],
        verdict=f"{incident.verdict} ({incident.certainty})",
        opened=local(incident.opened),
        lasted=_lasted(incident, now),
        done=done(incident) or "nothing",
    )


def chapter(incident: IncidentView, now: float) -> Chapter:
    """The whole story."""
    newest = next((each for each in reversed(incident.timeline) if each.detail.get("reasons")), None)
    detail = newest.detail if newest is not None else {}
    return Chapter(
        line=line(incident, now),
        id=incident.id,
        means=meaning(incident.verdict),
        facts=list(_facts(incident, now)),
        reasons=detail.get("reasons", ()),
        against=detail.get("against", ()),
        timeline=list(_timeline(incident, _reasons(detail))),
    )


def _lasted(incident: IncidentView, now: float) -> str:
    if incident.closed is None:
        return f"open for {lasting(max(0, round(now - incident.opened)))}"
    return lasting(incident.closed - incident.opened)


def _facts(incident: IncidentView, now: float) -> Iterator[tuple[str, str]]:
    yield "Opened", f"{local(incident.opened)}{_first_bad(incident)}"
    if incident.closed is None:
        yield "Over", f"not yet, {_lasted(incident, now)}"
    else:
        yield "Over", f"{local(incident.closed)}, after {_lasted(incident, now)}"
    yield "Done", done(incident) or "nothing"
    for record in incident.timeline:
        if record.kind == "answered":
            yield "Came back", record.text
    stops = [record.detail.get("longest_stop_seconds") or 0.0 for record in incident.timeline]
    if any(stops):
        yield "Longest stop", f"{lasting(max(stops))} of a thread, for the nudge"
    ending = next((record.text for record in reversed(incident.timeline) if record.kind == "resolved"), "")
    if ending:
        yield "Ended", ending


def _first_bad(incident: IncidentView) -> str:
    """How long before the opening the first bad round was."""
    since = next((each.detail["since"] for each in incident.timeline if "since" in each.detail), None)
    if since is None or incident.opened - since < 0.005:
        return ""
    return f", {lasting(round(incident.opened - since, 2))} after the first bad round"


def _reasons(detail: Mapping[str, Any]) -> tuple[object, ...]:
    """What speaks for a verdict, and against others."""
    return tuple(detail.get("reasons", ())), tuple(detail.get("against", ()))


def _timeline(incident: IncidentView, on_top: tuple[object, ...]) -> Iterator[Fact]:
    """Reasons stand once, until others come; those of the newest verdict stand above the timeline."""
    told: tuple[object, ...] = ()
    for record in incident.timeline:
        reasons = _reasons(record.detail)
        tone = Tone.GOOD if record.kind in ("resolved", "answered") else TONES.get(record.severity or "", Tone.REST)
        yield Fact(
            offset=offset(record.at - incident.opened),
            at=o_clock(record.at),
            word=WORDS.get(record.kind, record.kind),
            tone=tone,
            symbol=ACT if record.kind in ACTS else SYMBOLS[tone] if tone is not Tone.REST else "·",
            text=record.text,
            more=list(_more(record.detail, with_reasons=reasons not in (told, on_top))),
        )
        told = reasons if any(reasons) else told


def _more(detail: Mapping[str, Any], with_reasons: bool) -> Iterator[str]:
    """What of a record's detail its text does not tell."""
    if with_reasons:
        yield from detail.get("reasons", ())
        yield from (f"not {against}" for against in detail.get("against", ()))
    methods = detail.get("methods", ())
    if len(methods) > 1:
        yield from (f"by {each['method']}: {each['outcome']}, {each['reason']}" for each in methods)
    if hint := detail.get("hint"):
        yield printable(str(hint))


def done(incident: IncidentView) -> str:
    """What was done in it; empty: nothing."""
    return deeds((record.kind, record.detail) for record in incident.timeline)
