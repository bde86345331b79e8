"""A case as the rules of the diagnosis look at it: its round sorted by plane, and what its reading shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from watchdog.model import Case, Kind, Observation, Plane, Transport
from watchdog.symptoms import Symptoms

Found = Mapping[str, Observation]


@dataclass(frozen=True, slots=True)
class Sight:
    """`symptoms` is None where this round has no evidence that tells what the threads do; `erring` stand apart."""

    case: Case
    sockets: Found
    witnesses: Found
    erring: Found
    symptoms: Symptoms | None

    @property
    def dark(self) -> bool:
        """Every socket is dark."""
        return bool(self.sockets) and all(seen.kind.dark for seen in self.sockets.values())

    @property
    def lit(self) -> bool:
        """Every socket answered as expected."""
        return bool(self.sockets) and all(seen.kind is Kind.ALIVE for seen in self.sockets.values())

    @property
    def well(self) -> bool:
        """Every probe that could run is alive; a witness that has not said anything yet is not waited for."""
        return self.lit and len(self.witnessed) == len(self.spoken)

    @property
    def spoken(self) -> Found:
        """The witnesses that have said something: a late one is neither alive nor dark yet."""
        return {name: seen for name, seen in self.witnesses.items() if seen.kind is not Kind.LATE}

    @property
    def witnessed(self) -> Found:
        """The witnesses that answered as expected."""
        return {name: seen for name, seen in self.witnesses.items() if seen.kind is Kind.ALIVE}

    @property
    def diverges(self) -> bool:
        """Every socket is dark, and a witness answers or none is dark, too: the kernel's evidence is one itself."""
        return self.dark and bool(self.witnessed or not any(seen.kind.dark for seen in self.witnesses.values()))

    @property
    def gone_dark(self) -> bool:
        """No socket answers: each is dark, or was not waited for any longer once a lost wake-up was proven."""
        proven = bool(self.case.proofs)
        return self.dark or (proven and all(seen.kind is not Kind.ALIVE for seen in self.sockets.values()))

    def by(self, transport: Transport) -> Found:
        """The sockets that are reached by it."""
        return {name: seen for name, seen in self.sockets.items() if self.case.roads[name].transport is transport}

    @property
    def unread(self) -> str:
        """Why there is no evidence to decide by."""
        reading = self.case.reading
        if reading is None:
            return "no evidence was read"
        lacks = [*reading.lacks, *(lack for sample in reading.samples[-1:] for lack in sample.lacks)]
        return "; ".join(dict.fromkeys(f"{lack.what}: {lack.reason}" for lack in lacks)) or "the evidence is incomplete"


def look_at(case: Case) -> Sight:
    """Sort the newest round."""
    found = case.round.observations

    def on(plane: Plane) -> Found:
        return {
            name: seen
            for name, seen in found.items()
            if case.roads[name].plane is plane and seen.kind is not Kind.ERROR
        }

    erring = {name: seen for name, seen in found.items() if seen.kind is Kind.ERROR}
    symptoms = Symptoms(case.reading, case.baseline, case.asked) if case.reading is not None else None
    return Sight(case, on(Plane.SOCKET), on(Plane.WITNESS), erring, symptoms)


def told(found: Found) -> Iterable[str]:
    """Each observation as a reason: the probe's name and what it found."""
    return (f"{name}: {seen.kind}, {seen.reason}" for name, seen in found.items())
