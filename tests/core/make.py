"""Values for the tests of the pure core."""

from __future__ import annotations

from watchdog.model import (
    Case,
    Certainty,
    Diagnosis,
    Epoch,
    Host,
    Kind,
    Looked,
    Observation,
    Plane,
    Policy,
    RestartOutlook,
    Road,
    Round,
    Strength,
    Transport,
    UnitState,
    Verdict,
)

TCP = Road(Plane.SOCKET, transport=Transport.TCP)
UNIX = Road(Plane.SOCKET, transport=Transport.UNIX)
SNMP = Road(Plane.WITNESS, strength=Strength.INSIDE)
ROADS = {"tcp": TCP, "unix": UNIX, "snmp": SNMP}
EPOCH = Epoch(100, 5000)
RUNNING = UnitState("loaded", "active", "running", None, 100, "a")


def case(*, now: float = 1000.0, policy: Policy | None = None, seen_healthy: bool = True, **kinds: Kind) -> Case:
    """A case whose newest round found `kinds`, by the names in ROADS; probes that are not named are not configured."""
    found = {name: Observation(kind, 0.01, f"{kind} here") for name, kind in kinds.items()}
    return Case(
        now=now,
        policy=policy or Policy(),
        roads={name: ROADS[name] for name in kinds},
        round=Round("r", now - 1, now, found),
        epoch=EPOCH,
        age=86400.0,
        seen_healthy=seen_healthy,
    )


def seen(
    verdict: Verdict,
    *,
    certainty: Certainty = Certainty.SUSPECTED,
    epoch: Epoch | None = EPOCH,
    late: bool = False,
    host: Host | None = None,
    round_id: str = "r",
    dark: bool = True,
    outlook: RestartOutlook | None = None,
    parked: bool = False,
    answered: float | None = None,
) -> Looked:
    """A round with this verdict."""
    diagnosis = Diagnosis(verdict, certainty, ("because",))
    return Looked(round_id, diagnosis, epoch, late, host or Host(), dark, parked, answered, outlook)
