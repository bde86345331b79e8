"""Which units `epoll-watchdog init` proposes to guard, which not and why, and by which of their sockets. Pure.

Rules of this file. Whoever names a unit gets it, unless it is one that is never touched. Of two sockets of a unit with
one TCP port (IPv4 and IPv6) one is asked. A Unix socket is asked only where the daemon's user, who is nobody special,
may connect to it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from watchdog.cli.survey import Listener, Seen, Survey
from watchdog.cli.talks import harmed, port_of
from watchdog.reading import Family
from watchdog.target import is_never_touched

NEVER = "the host or the watchdog itself stands on it: it is never touched"
NO_SERVICE = "no service of systemd's; how to name a container by its cgroup: docs/config.md, Containers"
LEFT_OUT = (
    (r"user@.*", "a user's own systemd"),
    (r"session-.*\.scope|(serial-)?getty@.*", "somebody's session"),
    (
        r"sshd?(@.*)?",
        "the way in to mend things; and a process of its own serves each client there, which no epoll wakes",
    ),
    (r"snmpd", "a witness of the others"),
    (r"docker|containerd|podman.*|crio|kubelet", "runs containers: guard what is in them (docs/config.md, Containers)"),
)
IPV4 = ("0.0.0.0:", "127.")  # preferred to IPv6 and to an address of a network
SAME_PORT = "the same port as another"
MOST = 4  # sockets of a unit
NAME = re.compile(r"[^A-Za-z0-9_.@-]+")  # what no name of a service may have
LONGEST = 64


@dataclass(frozen=True, slots=True)
class Proposal:
    """A unit to guard, and the sockets to ask; `unasked` are the others, each with the reason."""

    name: str
    seen: Seen
    sockets: tuple[Listener, ...]
    unasked: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Proposed:
    """All of them, and the units that are left out, by the reason."""

    proposals: tuple[Proposal, ...]
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def proposed(
    found: Survey,
    guarded: Mapping[str, str],
    taken: Collection[str],
    wanted: Collection[str] = (),
) -> Proposed:
    """What to guard. `guarded` are the units that a service guards already, with its name; `taken` are names in use.

    `wanted` are units that were named: all others are then left out without a word.
    """
    proposals: list[Proposal] = []
    left_out: dict[str, list[str]] = {}
    for seen in found.listening:
        if wanted and seen.unit not in wanted:
            continue
        reason = _reason(seen.unit, guarded, named=bool(wanted))
        sockets, unasked = _sockets(seen)
        if not reason and not sockets:
            reason = "; ".join(f"{address}: {why}" for address, why in unasked)
        if reason:
            left_out.setdefault(reason, []).append(seen.unit)
            continue
        name = service_name(seen.unit, {*taken, *(proposal.name for proposal in proposals)})
        proposals.append(Proposal(name, seen, sockets, unasked))
    return Proposed(tuple(proposals), {reason: tuple(units) for reason, units in left_out.items()})


def _reason(unit: str, guarded: Mapping[str, str], *, named: bool) -> str:
    """Why a unit is left out; empty where it is not."""
    if is_never_touched(unit):
        return NEVER
    if unit in guarded:
        return f"guarded already, by service {guarded[unit]}"
    stem = unit.removesuffix(".service")
    if not named and (reason := next((why for words, why in LEFT_OUT if re.fullmatch(words, stem)), "")):
        return reason
    return NO_SERVICE if stem == unit else ""


def service_name(unit: str, taken: Collection[str]) -> str:
    """A name that no other service has: the unit's own, as far as a name may hold it."""
    name = NAME.sub("-", unit.removesuffix(".service"))[:LONGEST] or "service"
    numbers = (name if number == 1 else f"{name[: LONGEST - 4]}-{number}" for number in range(1, len(taken) + 2))
    return next(each for each in numbers if each not in taken)


def _sockets(seen: Seen) -> tuple[tuple[Listener, ...], tuple[tuple[str, str], ...]]:
    """Those to ask, TCP first and then by the port; and the others."""
    asked: list[Listener] = []
    unasked: list[tuple[str, str]] = []
    for listener in sorted(seen.listeners, key=_order):
        why = _unasked(listener, asked)
        if why:
            unasked.append((listener.address, why))
        else:
            asked.append(listener)
    return tuple(asked), tuple(unasked)


def _order(listener: Listener) -> tuple[bool, int, bool, str]:
    return listener.family is Family.UNIX, port_of(listener), not listener.address.startswith(IPV4), listener.address


def _unasked(listener: Listener, asked: Collection[Listener]) -> str:
    if listener.closed:
        return listener.closed
    if why := harmed(listener):
        return why
    if port_of(listener) and port_of(listener) in map(port_of, asked):
        return SAME_PORT
    if port_of(listener) - 10000 in map(port_of, asked) and any("redis" in name for name in listener.programs):
        return "redis' bus to its peers"
    return f"{MOST} sockets are enough" if len(asked) == MOST else ""
