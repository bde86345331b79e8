"""What a letter says to people: its facts, and the title and text that they are told in by default. Pure.

Rules of this file. Whatever a letter holds, words come of it: a payload may be of an older version, and parts of it are
what a service, its config or a command said. So each fact is looked at before it is believed, is one line without
control characters (a title becomes a mail's subject), and bounded; what is newest stands first, and is cut last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from watchdog.model import RecordKind, Verdict
from watchdog.settings import format_duration
from watchdog.verdicts import VERDICTS

if TYPE_CHECKING:
    from watchdog.store import Letter

DATABASE = "/var/lib/epoll-watchdog/state.db"
TITLE = 200  # characters
LINE = 500  # characters of one fact
TEXT = 4000  # characters
ITEMS = 10  # reasons, advisories, labels, annotations
REMEDIES = 20
LATEST = 253402300799.0  # s since 1970; the end of the year 9999
TEST = "test"  # the kind of a letter that only tests its channel
INDENT = 11


@dataclass(frozen=True, slots=True)
class Message:
    """A title of one line, and a text of some."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Remedy:
    """What was tried, and what came of it. `at` is a time of day, as people read it."""

    at: str
    rung: str
    outcome: str
    reason: str

    def __str__(self) -> str:
        return f"{self.at}  {self.rung} {self.outcome}" + (f": {self.reason}" if self.reason else "")


class Words(dict[str, str]):
    """A service's labels or annotations. One that it has not is empty: a template serves many services."""

    def __missing__(self, key: str) -> str:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known, as templates see it. Texts are one line; empty: not known, or there is none."""

    service: str
    host: str
    kind: str
    severity: str
    incident: str
    event: str  # what happened, in a sentence
    time: str
    verdict: str
    certainty: str
    meaning: str  # of the verdict
    reasons: tuple[str, ...]
    since: str
    lasted: str  # from then to this event
    done: tuple[Remedy, ...]  # newest first
    times_30d: int | None  # incidents of this service, this one included
    kernel: tuple[str, ...]  # what is known of the running kernel's faults
    runbook_url: str
    commands: tuple[str, ...]  # that show the evidence
    labels: Words
    annotations: Words
    merged: int  # earlier messages that this one stands for, too

    @property
    def resolved(self) -> bool:
        """Whether it is over."""
        return self.kind == RecordKind.RESOLVED


def facts(letter: Letter, host: str) -> Facts:
    """What a letter holds, as far as it can be believed."""
    told = letter.payload
    verdict = one_line(told.get("verdict"))
    annotations = _words(told.get("annotations"))
    since = _moment(told.get("since"))
    return Facts(
        service=one_line(letter.service),
        host=one_line(host),
        kind=one_line(letter.kind),
        severity=one_line(letter.severity),
        incident=one_line(letter.incident),
        event=one_line(told.get("text")) or one_line(letter.kind),
        time=_written(_moment(letter.created)),
        verdict=verdict,
        certainty=one_line(told.get("certainty")),
        meaning=VERDICTS[Verdict(verdict)].text if verdict in set(Verdict) else "",
        reasons=tuple(one_line(reason) for reason in _list(told.get("reasons"))[:ITEMS]),
        since=_written(since),
        lasted=_lasted(since, _moment(letter.created)),
        done=tuple(map(_remedy, reversed(_list(told.get("done"))[-REMEDIES:]))),
        times_30d=_count(told.get("times_30d")),
        kernel=tuple(map(_advisory, _list(told.get("kernel"))[:ITEMS])),
        runbook_url=annotations["runbook_url"],
        commands=_commands(one_line(letter.service), one_line(letter.incident)),
        labels=_words(told.get("labels")),
        annotations=annotations,
        merged=_count(letter.merged) or 0,
    )


def message(known: Facts) -> Message:
    """The words where no template has others."""
    return Message(title(known), text(known))


def title(known: Facts) -> str:
    """What must be read first: how bad, which service, where, what."""
    mark = "RESOLVED" if known.resolved else known.severity.upper()
    if known.kind == TEST:
        mark = "TEST"
    return cut(f"[{mark}] {known.service} on {known.host}: {known.event}", TITLE)


def text(known: Facts) -> str:
    """All of it, a fact a line, with a head before each."""
    verdict = f"{known.verdict} ({known.certainty})" if known.certainty else known.verdict
    often = f"{known.times_30d} in 30 days, this one included" if known.times_30d is not None else ""
    told = [
        known.event,
        "",
        *_part("service", [f"{known.service} on {known.host}"]),
        *_part("verdict", [f"{verdict}: {known.meaning}" if known.meaning else verdict]),
        *_part("because", known.reasons),
        *_part("since", [f"{known.since} ({known.lasted})" if known.lasted else known.since]),
        *_part("told", [known.time]),
        *_part("merged", [f"stands for {known.merged} earlier messages, too" if known.merged else ""]),
        *_part("done", map(str, known.done)),
        *_part("incidents", [often]),
        *_part("kernel", known.kernel),
        *_part("runbook", [known.runbook_url]),
        *_part("evidence", known.commands),
        *_part("incident", [known.incident]),
        *_part("labels", [f"{name}={value}" for name, value in known.labels.items()]),
        *_part("notes", [f"{name}: {value}" for name, value in known.annotations.items() if name != "runbook_url"]),
    ]
    return cut("\n".join(told), TEXT)


def _part(head: str, values: Iterable[str]) -> list[str]:
    """The lines of one head; none where nothing is known."""
    known = [value for value in values if value]
    heads = [head, *[""] * len(known)]
    return [f"{head:<{INDENT}}{value}" for head, value in zip(heads, known, strict=False)]


# --- what may be believed ---------------------------------------------------------------------------------------------


def one_line(value: object, limit: int = LINE) -> str:
    """The text in one line of printable characters, without what turns a line's direction or hides in it."""
    if not isinstance(value, str):
        return ""
    printable = "".join(char if char.isprintable() else " " for char in value[: 4 * limit])
    return cut(" ".join(printable.split()), limit)


def lines(value: str) -> str:
    """The text in printable characters and line breaks."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in value.expandtabs()).strip()


def cut(value: str, limit: int) -> str:
    """At most so many characters; an ellipsis tells that there were more."""
    return value if len(value) <= limit else f"{value[: limit - 1]}…"


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _words(value: object) -> Words:
    known = value if isinstance(value, Mapping) else {}
    return Words({one_line(name): one_line(word) for name, word in list(known.items())[:ITEMS]})


def _count(value: object) -> int | None:
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9
    return value if known else None  # type: ignore[return-value]


def _moment(value: object) -> datetime | None:
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= LATEST:
        return None
    return datetime.fromtimestamp(value, UTC)


def _written(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment is not None else ""


def _lasted(since: datetime | None, until: datetime | None) -> str:
    if since is None or until is None or until < since:
        return ""
    return format_duration((until - since).total_seconds())


def _remedy(value: object) -> Remedy:
    known = value if isinstance(value, Mapping) else {}
    at = _moment(known.get("at"))
    return Remedy(
        at=f"{at:%H:%M:%S}" if at is not None else "",
        rung=one_line(known.get("rung")),
        outcome=one_line(known.get("outcome")),
        reason=one_line(known.get("reason")),
    )


def _advisory(value: object) -> str:
    known = value if isinstance(value, Mapping) else {}
    fixed = one_line(known.get("fixed_in"))
    return one_line(known.get("text")) + (f" (fixed in {fixed})" if fixed else "")


def _commands(service: str, incident: str) -> tuple[str, ...]:
    """As root would type them."""
    look = f"epoll-watchdog diagnose {service}"
    return (look, f"epoll-watchdog replay {DATABASE} --incident {incident}") if incident else (look,)
