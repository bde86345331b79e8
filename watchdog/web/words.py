"""Values in words for the page: times, durations, verdicts, kinds.

Rules of this file. What a probe heard may come from a server that lies: no control character of it, nor one that turns
the direction of writing, gets to a page as it is. Nothing is told by colour alone: each tone has a symbol and a word.
Times are of the host's clock, with its zone, as in its journal.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from datetime import datetime

from watchdog.model import Kind, Verdict
from watchdog.settings import format_duration
from watchdog.verdicts import VERDICTS, Stance

SHORT_ID = 8  # letters of an incident's id where the whole is a link's target


class Tone(enum.StrEnum):
    """How something is to be taken; the style sheet knows it by this word."""

    GOOD = "good"
    BAD = "bad"
    WAIT = "wait"
    REST = "rest"


SYMBOLS = {Tone.GOOD: "✓", Tone.BAD: "✕", Tone.WAIT: "…", Tone.REST: "■"}
STANCES = {Stance.GOOD: Tone.GOOD, Stance.SICK: Tone.BAD, Stance.WAIT: Tone.WAIT, Stance.REST: Tone.REST}
KINDS: Mapping[str, Tone] = {Kind.ALIVE: Tone.GOOD, Kind.LATE: Tone.WAIT, Kind.ERROR: Tone.REST}  # all others: bad
KIND_SYMBOLS = {Tone.REST: "?"}
UNKNOWN = "?"


def printable(text: str) -> str:
    """What is no printable character is spelled out."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def shown(value: object) -> object:
    """The same for whatever a template puts out; markup stays as it is."""
    return printable(value) if type(value) is str else "" if value is None else value


def tone_of(verdict: str) -> Tone:
    """Of a verdict; of one that is not known here, that somebody should look."""
    return STANCES[VERDICTS[Verdict(verdict)].stance] if verdict in set(Verdict) else Tone.BAD


def meaning(verdict: str) -> str:
    """A verdict in a sentence; empty for one that is not known here."""
    return VERDICTS[Verdict(verdict)].text if verdict in set(Verdict) else ""


def kind_tone(kind: str) -> Tone:
    """Of what a probe found."""
    return KINDS.get(kind, Tone.BAD)


def kind_symbol(kind: str) -> str:
    """The same as a character."""
    tone = kind_tone(kind)
    return KIND_SYMBOLS.get(tone, SYMBOLS[tone])


def lasting(seconds: float) -> str:
    """A duration in its two largest units; clocks that disagree make none that is less than nothing."""
    if seconds < 60:
        return format_duration(max(0.0, seconds))
    return " ".join(re.findall(r"\d+\D", format_duration(round(seconds)))[:2])


def ago(seconds: float) -> str:
    """Since when, in whole seconds."""
    return f"{lasting(max(0, round(seconds)))} ago".replace("0ms", "0s")


def offset(seconds: float) -> str:
    """How long after the beginning: "+0.03 s", "+12.5 s", "+1h 2m"."""
    if abs(seconds) >= 60:
        return f"{'-' if seconds < 0 else '+'}{lasting(abs(seconds))}"
    return f"{seconds:+.2f}s" if abs(seconds) < 10 else f"{seconds:+.1f}s"


def local(wall: float) -> str:
    """A time of the wall clock, to the second."""
    return f"{datetime.fromtimestamp(wall).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def o_clock(wall: float, step: int = 1) -> str:
    """The same without the day; in minutes, where `step` (in seconds) is no less."""
    near = datetime.fromtimestamp(round(wall))  # noqa: DTZ006  of the host's zone, as its journal
    return f"{near:%H:%M}" if step >= 60 else f"{near:%H:%M:%S}"


def many(count: int, noun: str) -> str:
    """ "1 service", "3 services" """
    return f"{count} {noun}{'' if count == 1 else 's'}"
