"""What a check comes to, in the words of Nagios' plugins. Pure: what was found in, a state and a line out.

Facts: the Monitoring Plugins' development guidelines (monitoring-plugins.org): exit codes 0 to 3; one line of text,
then "|" and the performance data, 'label'=value[unit];[warning];[critical];[minimum]; U for a value that is not known.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence

from watchdog.cli.one_round import Checked
from watchdog.model import Kind, Plane, Verdict
from watchdog.probes import PROBES

SAID = 3  # services of which the line says what is wrong


class State(enum.IntEnum):
    """Of a service, or of all; the number is the exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


GRAVEST = (State.CRITICAL, State.WARNING, State.UNKNOWN, State.OK)
STATES = {
    Verdict.HEALTHY: State.OK,
    Verdict.WITNESS_LOST: State.WARNING,
    Verdict.OVERLOADED: State.WARNING,
    Verdict.STARTING: State.WARNING,
    Verdict.STOPPED: State.WARNING,
    Verdict.BLIND: State.UNKNOWN,
    Verdict.UNSETTLED: State.UNKNOWN,
}  # every other one is critical


def state_of(checked: Checked) -> State:
    """What the verdict comes to. Where no rule decides, a dark socket is critical all the same; and where all is well
    but a probe that could not run, nobody knows of it what it is there to tell.
    """
    verdict = checked.diagnosis.verdict
    if verdict is Verdict.UNSETTLED and any(_is_dark(checked, name) for name in checked.found):
        return State.CRITICAL
    if verdict is Verdict.HEALTHY and _erring(checked):
        return State.UNKNOWN
    return STATES.get(verdict, State.CRITICAL)


def _erring(checked: Checked) -> list[str]:
    return [name for name, seen in checked.found.items() if seen.kind is Kind.ERROR]


def _is_dark(checked: Checked, name: str) -> bool:
    probe = checked.service.probes[name]
    return checked.found[name].kind.dark and PROBES[probe.type].road(probe.settings).plane is Plane.SOCKET


def gravest(states: Sequence[State]) -> State:
    """Of them all; of none it is not known."""
    return min(states, key=GRAVEST.index, default=State.UNKNOWN)


def line(checks: Sequence[Checked]) -> str:
    """What a plugin prints: one line, and how long each answer took."""
    states = [state_of(checked) for checked in checks]
    well = states.count(State.OK)
    wrong = sorted((GRAVEST.index(state), said(each)) for state, each in zip(states, checks, strict=True) if state)
    some = [text for _, text in wrong[:SAID]]
    more = [f"{len(wrong) - SAID} more not well"] if len(wrong) > SAID else []
    text = "; ".join([*some, *more, f"{well} of {len(checks)} services well"])
    return f"{headline(gravest(states), text)} | {' '.join(_performance(checks))}"


def headline(state: State, text: str) -> str:
    """The line without performance data."""
    return f"EPOLL-WATCHDOG {state.name}: {' '.join(text.replace('|', '/').split())}"


def said(checked: Checked) -> str:
    """What is wrong with a service."""
    diagnosis = checked.diagnosis
    if diagnosis.verdict is Verdict.HEALTHY:
        return "; ".join(f"{checked.service.name} {name}: {checked.found[name].reason}" for name in _erring(checked))
    because = f": {diagnosis.reasons[0]}" if diagnosis.reasons else ""
    return f"{checked.service.name} {diagnosis.verdict} ({diagnosis.certainty}){because}"


def _performance(checks: Sequence[Checked]) -> Iterator[str]:
    for checked in checks:
        for name, probe in checked.service.probes.items():
            found = checked.found.get(name)
            timeout = probe.timeout if probe.timeout is not None else checked.service.policy.timeout
            value = f"{found.latency:.6f}s" if found is not None and found.kind is Kind.ALIVE else "U"
            yield f"'{checked.service.name}/{name}'={value};;{timeout:g};0"
