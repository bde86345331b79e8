"""The tables of docs/how-it-decides.md, made of the code: `python -m tests.docs.tables` writes them anew.

Each stands between `<!-- NAME: … -->` and `<!-- end -->`. A rule's, a hold's and a pass' docstring is its row, as their
files say; a test holds the manual to what is made here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from watchdog import diagnosis, forms, pace, restraint
from watchdog.ladder import ROUTINE
from watchdog.model import Policy, Rung, Verdict
from watchdog.settings import format_duration
from watchdog.verdicts import VERDICTS, Stance

MANUAL = Path(__file__).parents[2] / "docs" / "how-it-decides.md"
TABLE = re.compile(r"(?s)(<!-- (\w+): [^>]*-->\n).*?(<!-- end -->)")

# The rules that have another name than the verdict that they come to.
COMES_TO: Mapping[str, tuple[Verdict, str]] = {
    "epoll_stall_proven": (Verdict.EPOLL_STALL, " *confirmed*"),
    "epoll_stall": (Verdict.EPOLL_STALL, " *suspected*"),
    "blind_on_a_plane": (Verdict.BLIND, ""),
}
PACE = ("interval", "interval_suspect", "fall", "rise", "settle", "dark_for", "start_timeout", "cool_off", "reminder")
Row = tuple[str, ...]


def verdicts() -> Iterator[Row]:
    """The rules in their order, then the verdict that is left where none matches."""
    yield "verdict", "when", "stance", "ladder"
    for rule in diagnosis.RULES:
        verdict, how = COMES_TO.get(rule.__name__) or (Verdict(rule.__name__), "")
        yield f"`{verdict}`{how}", said(rule), VERDICTS[verdict].stance, climbed(verdict)
    yield f"`{Verdict.UNSETTLED}`", "No rule matches.", VERDICTS[Verdict.UNSETTLED].stance, climbed(Verdict.UNSETTLED)


def climbed(verdict: Verdict) -> str:
    """The ladder of a verdict; of one that waits, what comes where it lasts."""
    row = VERDICTS[verdict]
    if row.stance is Stance.WAIT:
        return f"– ({Rung.ALERT}, where it lasts)"
    return ", ".join(row.ladder) or "–"


def proofs() -> Iterator[Row]:
    """The forms of the proof, but *parked*, which is one of these seen from elsewhere."""
    yield "form", "what shows it"
    for show in (*forms.PASSIVE, *forms.TOUCHING):
        yield f"*{show.__name__}*", said(show)


def passes() -> Iterator[Row]:
    """Why a rung is passed over."""
    yield "word", "why"
    for reason in (*restraint.PASSES, *restraint.LAST_PASSES):
        yield f"`{reason.__name__}`", said(reason)


def holds() -> Iterator[Row]:
    """Why a rung waits."""
    yield "word", "why", "an alert waits too", "channels are told"
    for reason in restraint.HOLDS:
        waits = "yes" if reason in restraint.ALERT_HOLDS else ""
        yield f"`{reason.__name__}`", said(reason), waits, "no" if reason.__name__ in ROUTINE else "once"


def rounds() -> Iterator[Row]:
    """When the next round begins."""
    yield "in force", "from the start of one round to the next"
    for rule in pace.RULES:
        yield f"`{rule.__name__}`", said(rule)
    yield "none of them", "The service is well: `interval`."


def defaults() -> Iterator[Row]:
    """The keys of a service's pace."""
    yield tuple(f"`{key}`" for key in PACE)
    yield tuple(written(getattr(Policy(), key)) for key in PACE)


def written(value: float) -> str:
    """A number of rounds, or a duration."""
    return str(value) if isinstance(value, int) else format_duration(value)


def said(function: Callable[..., object]) -> str:
    """A docstring in one line."""
    return " ".join((function.__doc__ or "").split())


TABLES: Mapping[str, Callable[[], Iterator[Row]]] = {
    table.__name__: table for table in (verdicts, proofs, passes, holds, rounds, defaults)
}


def markdown(name: str) -> str:
    """A table by its name."""
    head, *rows = TABLES[name]()
    return "".join(f"| {' | '.join(row)} |\n".replace("|  |", "| |") for row in (head, ("---",) * len(head), *rows))


def renewed(manual: str) -> str:
    """The manual with its tables as they are today."""
    return TABLE.sub(lambda found: f"{found[1]}{markdown(found[2])}{found[3]}", manual)


if __name__ == "__main__":
    MANUAL.write_text(renewed(MANUAL.read_text()))
