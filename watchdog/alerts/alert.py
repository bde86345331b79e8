"""An incident as alerts in Alertmanager's sense: sets of labels, and what is said of them. Pure.

Rules of this file. An alert is known by its labels, so none of them may change while an incident lasts: the verdict,
what was done and what came of it are annotations. Hence a severity goes with an alert's name: an incident is
`EpollWatchdogIncident` from its opening on (warning), and from the moment when remedies failed or there are no more,
`EpollWatchdogUnhealed` too (critical). None of the names is one of packaging/prometheus.

prometheus.io/docs/alerting/latest: "Alerts API", "Webhook receiver"; github.com/prometheus/common, model/signature.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from watchdog.alerts.message import TEST, facts, message
from watchdog.model import RecordKind, Severity

if TYPE_CHECKING:
    from watchdog.store import Letter

INCIDENT = "EpollWatchdogIncident"
UNHEALED = "EpollWatchdogUnhealed"
TRIED = "EpollWatchdogTest"  # `alert-test`
SEVERITIES: Mapping[str, Severity] = {
    INCIDENT: Severity.WARNING,
    UNHEALED: Severity.CRITICAL,
    TRIED: Severity.INFO,
}
FNV_OFFSET, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3


def tells(letter: Letter) -> bool:
    """Whether it is of an incident (a pause of a service that is well is no alert), or a test."""
    return bool(letter.incident) or letter.kind == TEST


def is_critical(letter: Letter) -> bool:
    """Whether by now its incident needs a human."""
    worst = (letter.severity, letter.payload.get("worst"))
    return Severity.CRITICAL in worst and letter.kind != TEST


def is_resolved(letter: Letter) -> bool:
    """Whether its incident is over."""
    return letter.kind == RecordKind.RESOLVED


def began(letter: Letter) -> float:
    """The wall-clock time since when it is so."""
    since = letter.payload.get("since")
    return min(since, letter.created) if isinstance(since, int | float) else letter.created


def labels(letter: Letter, host: str, name: str) -> dict[str, str]:
    """What the alert of this name is known by."""
    own = {"alertname": name, "name": letter.service, "instance": host, "severity": str(SEVERITIES[name])}
    return {**_words(letter, "labels"), **own}


def notes(letter: Letter, host: str) -> dict[str, str]:
    """What is said of it. The user's own words have their names first."""
    known = facts(letter, host)
    said = message(known)
    words = {
        "summary": said.title,
        "description": said.text,
        "verdict": known.verdict,
        "certainty": known.certainty,
        "reasons": "; ".join(known.reasons),
        "done": "; ".join(map(str, reversed(known.done))),
        "event": known.kind,
        "incident": known.incident,
        "kernel": "; ".join(known.kernel),
        "evidence": "; ".join(known.commands),
    }
    return {name: word for name, word in words.items() if word} | _words(letter, "annotations")


def _words(letter: Letter, part: str) -> dict[str, str]:
    known = letter.payload.get(part)
    if not isinstance(known, Mapping):
        return {}
    return {name: word for name, word in known.items() if isinstance(name, str) and isinstance(word, str) and word}


def fingerprint(known_by: Mapping[str, str]) -> str:
    """As Alertmanager makes it: FNV-1a, 64 bits, of the sorted labels, each part followed by a byte 255."""
    value = FNV_OFFSET
    for name in sorted(known_by, key=str.encode):
        for byte in name.encode() + b"\xff" + known_by[name].encode() + b"\xff":
            value = (value ^ byte) * FNV_PRIME % 2**64
    return f"{value:016x}"
