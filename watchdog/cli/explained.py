"""Why an incident went as it did, from what the API tells of it. Pure: an incident in, plain values out.

Rules of this file. What a record says stands as it says it; beside it stands the rule it followed, which is the row of
the manual (`restraint.py`: a function's name is the reason's word, its docstring its row). Nothing is concluded that no
record says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from watchdog.cli.stored import Incident, Record, reasoned
from watchdog.cli.terminal import wall
from watchdog.deeds import REMEDIES
from watchdog.model import Verdict
from watchdog.restraint import ALERT_HOLDS, HOLDS, LAST_PASSES, PASSES
from watchdog.verdicts import VERDICTS

RULES: Mapping[str, str] = {
    **{rule.__name__: (rule.__doc__ or "").replace("`", "") for rule in (*PASSES, *LAST_PASSES, *HOLDS, *ALERT_HOLDS)},
    "observed": 'In mode "observe" nothing is done; what would be done is told.',
    "blind": "Nothing is done while the watchdog itself can't see.",
}
CAME = {"held": "waited", "passed": "passed over", "interrupted": "interrupted"}


@dataclass(frozen=True, slots=True)
class Change:
    """A verdict of the incident, since when (seconds after the opening), and the first reason for it."""

    at_s: float
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tried:
    """A rung, what came of it and why; `rule` is what it followed, where it waited or was passed over."""

    at_s: float
    rung: str
    came: str  # an outcome, "waited", "passed over", "not done", "interrupted", "under way", "told"
    why: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that the API tells of why."""

    verdict: str
    certainty: str
    means: str
    reasons: Sequence[str]
    against: Sequence[str]
    changes: Sequence[Change]  # all its verdicts, where there was more than one
    rungs: Sequence[Tried]
    ending: str  # empty while it is open


def explained(incident: Incident) -> Explanation:
    """What the records of the incident say."""
    newest = reasoned(incident)
    detail = newest["detail"] if newest is not None else {}
    changes = list(_changes(incident))
    return Explanation(
        verdict=incident["verdict"],
        certainty=incident["certainty"],
        means=meaning(incident["verdict"]),
        reasons=detail.get("reasons", ()),
        against=detail.get("against", ()),
        changes=changes if len(changes) > 1 else (),
        rungs=list(_rungs(incident)),
        ending=next((each["text"] for each in reversed(incident["timeline"]) if each["kind"] == "resolved"), ""),
    )


def meaning(verdict: str) -> str:
    """A verdict in a sentence; empty for one of a newer daemon."""
    return VERDICTS[Verdict(verdict)].text if verdict in set(Verdict) else ""


def _at(incident: Incident, record: Record) -> float:
    return round(wall(record["at"]) - wall(incident["opened"]), 3)


def _changes(incident: Incident) -> Iterator[Change]:
    for record in incident["timeline"]:
        detail = record["detail"]
        if record["kind"] in ("opened", "verdict") and "verdict" in detail:
            reasons = detail.get("reasons") or [""]
            yield Change(_at(incident, record), f"{detail['verdict']} ({detail['certainty']})", reasons[0])


def _rungs(incident: Incident) -> Iterator[Tried]:
    """Each rung that was taken, waited or was passed over, in the order in which it was told."""
    acting: Record | None = None
    for record in incident["timeline"]:
        kind = record["kind"]
        if kind == "acting":
            acting = record
        elif kind in REMEDIES or kind == "interrupted":
            acting = None
        if (tried := _tried(_at(incident, record), record)) is not None:
            yield tried
    if acting is not None:
        yield Tried(_at(incident, acting), acting["text"].partition(" ")[0], "under way", acting["text"])


def _tried(at: float, record: Record) -> Tried | None:
    kind, detail, text = record["kind"], record["detail"], record["text"]
    rung, reason = detail.get("rung", ""), detail.get("reason", "")
    _, _, why = text.partition(": ")
    if kind in REMEDIES:
        return Tried(at, REMEDIES[kind], detail.get("outcome", "?").replace("_", " "), why or text)
    if kind in ("held", "passed"):
        came = "not done" if reason == "observed" else CAME[kind]
        return Tried(at, rung, came, why or text, RULES.get(reason, ""))
    if kind == "interrupted":
        return Tried(at, rung, CAME[kind], text)
    if kind == "escalated":
        return Tried(at, "alert", "told", text)
    return Tried(at, "", "again", text) if kind == "retrying" else None
