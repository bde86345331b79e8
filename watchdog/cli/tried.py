"""The candidates of `epoll-watchdog init`, asked once by the probes that the daemon uses: what is written works.

Rules of this file. The next candidate is tried only where the last one was answered, and wrongly: a service that keeps
silent to what it should understand may be dark just now, and a connection alone would then call it well. Beside a
probe that is answered none that only connects is proposed: the kernel would answer it while the other is dark, and the
network, or one socket of several, would be blamed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watchdog.cli.proposed import Proposal
from watchdog.cli.survey import Listener
from watchdog.cli.talks import Talk, talks
from watchdog.model import Kind, Observation
from watchdog.probes import PROBES
from watchdog.probes.deadline import Deadline
from watchdog.probes.tls import TlsConfig

WITHIN = 2.0  # s, the default of a service's `timeout`


@dataclass(frozen=True, slots=True)
class Tried:
    """A socket, the talk that was taken for it, and what came of it; `before`: what the better talks were answered."""

    listener: Listener
    talk: Talk
    seen: Observation
    before: str = ""

    @property
    def proves(self) -> bool:
        """Whether bytes came back."""
        return self.talk.proves and self.seen.kind is Kind.ALIVE


@dataclass(frozen=True, slots=True)
class Ready:
    """A proposal with the talks that make its probes. `unasked`: the sockets that have none, each with the reason."""

    proposal: Proposal
    probes: tuple[Tried, ...]
    unasked: tuple[tuple[str, str], ...]


async def ready(proposal: Proposal) -> Ready:
    """Ask its sockets, side by side, and choose."""
    found = await asyncio.gather(*map(_tried, proposal.sockets))
    chosen = chosen_of(found)
    others = tuple((tried.listener.address, _why_not(tried)) for tried in found if tried not in chosen)
    return Ready(proposal, chosen, (*others, *proposal.unasked))


def chosen_of(found: Sequence[Tried]) -> tuple[Tried, ...]:
    """Those that prove most."""
    ranks: tuple[Callable[[Tried], bool], ...] = (
        lambda tried: tried.proves,
        lambda tried: tried.talk.proves and tried.seen.kind is not Kind.ERROR and not tried.talk.guessed,
        lambda tried: tried.seen.kind is Kind.ALIVE,
    )
    every = (tuple(filter(rank, found)) for rank in ranks)
    return next(filter(None, every), ())


def _why_not(tried: Tried) -> str:
    if tried.seen.kind is Kind.ALIVE:
        told = f" ({tried.before})" if tried.before else ""
        return f"nothing is known to ask there{told}, and a connection alone proves nothing"
    return f"{tried.seen.kind}: {tried.seen.reason}"


async def _tried(listener: Listener) -> Tried:
    before: list[str] = []
    candidates: Iterator[Talk] = iter(talks(listener))
    while True:
        talk = next(candidates)
        seen = await ask(talk.type, talk.keys)
        if seen.kind is not Kind.WRONG or not talk.proves:
            return Tried(listener, talk, seen, "; ".join(dict.fromkeys(before)))
        before.append(seen.reason)


async def ask(kind: str, keys: Mapping[str, Any]) -> Observation:
    """Ask once by a probe with these keys."""
    given = dict(keys)
    if "tls_config" in given:
        given["tls_config"] = TlsConfig(**given["tls_config"])
    probe = PROBES[kind]
    deadline = Deadline(at=asyncio.get_running_loop().time() + WITHIN)
    return await probe.probe(probe.settings(**given), None, deadline)
