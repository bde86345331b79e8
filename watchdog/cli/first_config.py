"""The text of a first configuration: what `epoll-watchdog init` proposes, as TOML with a comment for each choice. Pure.

Rules of this file. Whatever a unit, a socket or a program is called, the text is valid TOML and means that name; what
is not printable gets into no comment. Each comment is a reason, not a repetition.

Source: toml.io/en/v1.0.0 (bare keys, basic strings, comments).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watchdog.cli.agent import ADDRESS, Agent, Witness, witness_keys
from watchdog.cli.proposed import SAME_PORT, Proposal
from watchdog.cli.survey import Survey
from watchdog.cli.tried import Ready, Tried
from watchdog.model import Kind
from watchdog.reading import Family

WIDTH = 100
BARE = re.compile(r"[A-Za-z0-9_-]+")
ESCAPED = re.compile(r'[\x00-\x1f\x7f"\\]')
OTHER_THREADS = {"java", "dotnet"}  # runtimes whose other threads use CPU while the loop's thread sleeps

HEAD = """\
Written by epoll-watchdog init, of what listened here. Every key: man 5 epoll-watchdog.toml

In mode "observe" the watchdog looks and tells, and does nothing. When epoll-watchdog status has called a service \
healthy for some days, and no incident was opened without cause, go on to "nudge" and then to "full" \
(docs/rolling-out.md). After a change: epoll-watchdog check-config && systemctl reload epoll-watchdog

Each probe was asked once before it was written; its comment tells what came back.
"""
WITNESS = "The witness, by another road than the service's loop: the host's snmpd says whether this very process runs."
CPU = "A witness: the other threads of this runtime use CPU while the one that waits in epoll sleeps."


@dataclass(frozen=True, slots=True)
class First:
    """All that the text is made of."""

    services: Sequence[Ready]
    left_out: Mapping[str, Sequence[str]]
    survey: Survey
    witness: Witness


def text(first: First) -> str:
    """The configuration."""
    parts = [comment(HEAD)]
    if first.witness.agent is not Agent.TELLS:
        parts.append(comment(_no_witness(first.witness)))
    parts += ["\n".join(_service(ready, first.witness)) for ready in first.services]
    if last := "\n".join(comment(line) for line in _left_out(first)):
        parts.append(last)
    return "\n\n".join(parts) + "\n"


def _no_witness(witness: Witness) -> str:
    return (
        f"{lack(witness)}. Without one, and without a proof, a service that is dark is called hung, whatever is wrong "
        "with it. What snmpd needs is in docs/guarding.md, The witnesses; then take the # off below, or run init again."
    )


def lack(witness: Witness) -> str:
    """Why there is no witness yet."""
    there = f"an SNMP agent answers at {ADDRESS}, but " if witness.agent is Agent.THERE else ""
    return f"No witness yet: {there}{witness.reason}"


def _service(ready: Ready, witness: Witness) -> Iterator[str]:
    """A service with its probes."""
    proposal = ready.proposal
    path = ("service", proposal.name)
    yield comment(_about(proposal))
    yield table(path, {"unit": proposal.seen.unit, "mode": "observe"})
    for name, tried in named(ready.probes):
        yield ""
        yield comment(_reason(tried))
        yield table((*path, "probe", name), {"type": tried.talk.type, **tried.talk.keys})
    if others := [f"{address}: {why}" for address, why in ready.unasked if why != SAME_PORT]:
        yield ""
        yield comment("\n".join(f"No probe asks {other}." for other in others))
    if runs_other_threads(proposal):
        yield ""
        yield comment(CPU)
        yield table((*path, "probe", "cpu"), {"type": "cpu"})
    told = table((*path, "probe", "process"), witness_keys())
    yield ""
    yield comment(WITNESS)
    yield told if witness.agent is Agent.TELLS else "\n".join(f"# {line}" for line in told.splitlines())


def runs_other_threads(proposal: Proposal) -> bool:
    """Whether the main process uses CPU even where its loop sleeps."""
    return any(name in OTHER_THREADS for each in proposal.seen.listeners for name in each.programs)


def _about(proposal: Proposal) -> str:
    seen = proposal.seen
    description = f" ({seen.description})" if seen.description not in ("", seen.unit) else ""
    return f"--- {seen.unit}{description}"


def _reason(tried: Tried) -> str:
    came = f"{'' if tried.seen.kind is Kind.ALIVE else f'{tried.seen.kind}, '}{tried.seen.reason}"
    before = f" Asked otherwise: {tried.before}." if tried.before else ""
    return f"At {tried.listener.address}: {came}. {tried.talk.why[:1].upper()}{tried.talk.why[1:]}.{before}"


def named(probes: Sequence[Tried]) -> Iterator[tuple[str, Tried]]:
    """The probes by name: their type, or "unix", and the port or a number where there are several."""
    taken: set[str] = set()
    for tried in probes:
        unix = tried.listener.family is Family.UNIX
        first = "unix" if unix else tried.talk.type
        port = "" if unix else tried.listener.address.rpartition(":")[2]
        others = (f"{first}-{number}" for number in range(2, len(probes) + 2))
        name = next(name for name in (first, *([f"{first}-{port}"] if port else []), *others) if name not in taken)
        taken.add(name)
        yield name, tried


def _left_out(first: First) -> Iterator[str]:
    if first.left_out:
        yield "--- Not included"
    for reason, units in first.left_out.items():
        yield f"{', '.join(units)}: {reason}"
    if first.survey.silent:
        yield f"{', '.join(first.survey.silent)}: no listening socket was seen"
    if first.survey.unowned:
        yield f"Whose these are could not be seen; root may see it: {', '.join(first.survey.unowned)}"
    for lack in first.survey.lacks:
        yield f"Not read: {lack}"


# --- TOML -------------------------------------------------------------------------------------------------------------


def table(path: Sequence[str], keys: Mapping[str, Any]) -> str:
    """A table with its head, a key a line."""
    return "\n".join([f"[{'.'.join(map(key, path))}]", *(f"{key(name)} = {value(keys[name])}" for name in keys)])


def key(name: str) -> str:
    """A key, in quotes where it must be."""
    return name if BARE.fullmatch(name) else value(name)


def value(given: Any) -> str:
    """A value in one line."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, Mapping):
        return "{ " + ", ".join(f"{key(name)} = {value(inner)}" for name, inner in given.items()) + " }"
    if isinstance(given, list | tuple):
        return f"[{', '.join(map(value, given))}]"
    if isinstance(given, str):
        return '"' + ESCAPED.sub(_escape, given) + '"'
    return str(given)


def _escape(found: re.Match[str]) -> str:
    letter = found[0]
    short = {"\r": "\\r", "\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
    return short.get(letter, f"\\u{ord(letter):04x}")


def comment(words: str) -> str:
    """Lines of comment, of which each paragraph is filled for itself."""
    lines: list[str] = []
    for paragraph in words.rstrip("\n").split("\n"):
        printable = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in paragraph)
        lines += textwrap.wrap(printable, WIDTH - 2, break_on_hyphens=False, break_long_words=False) or [""]
    return "\n".join(f"# {line}".rstrip() for line in lines)
