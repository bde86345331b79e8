"""A simulated host for the tests of the guard: a service, an operator, systemd, the clock, and who kills the daemon.

Simulated because no machine can be killed at each of these points and lives through hours in a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from watchdog.clock import Clock
from watchdog.config import Probe, Service
from watchdog.guard import Guard
from watchdog.look import Seen
from watchdog.model import (
    Action,
    Epoch,
    Host,
    Kind,
    Observation,
    Outcome,
    Performed,
    Plane,
    Policy,
    Record,
    RestartOutlook,
    Road,
    Round,
    Rung,
    Strength,
    Transport,
    UnitState,
)
from watchdog.reading import Advisory, Baseline, Lack, Pressure, Proof
from watchdog.store import Letter, StoreUnwritable
from watchdog.target import Target

POLICY = Policy(dark_for=20.0, start_timeout=30.0, cool_off=600.0, interval=2.0)
SERVICE = Service(
    name="web",
    target=Target(unit="web.service"),
    policy=POLICY,
    labels={},
    annotations={},
    probes={kind: Probe(type=kind, timeout=None, settings=None) for kind in ("tcp", "snmp")},
)
ROADS = {
    "tcp": Road(Plane.SOCKET, transport=Transport.TCP),
    "snmp": Road(Plane.WITNESS, strength=Strength.INSIDE),
}


class Killed(BaseException):
    """SIGKILL."""


@dataclass
class World:
    """The host: a service that goes dark at 10 s, an operator, systemd, and who kills the daemon at which point."""

    now: float = 1000.0
    dark: bool = False
    active_state: str = "active"
    pid: int = 100
    nudge_heals: bool = True
    restart_heals: bool = True
    outlook: RestartOutlook | None = None
    start_fails: bool = False
    operator_stops_at: float = float("inf")
    nudges: int = 0
    restarts: int = 0
    kill_at: int = -1
    point: int = 0
    points: list[str] = field(default_factory=list)

    def pass_point(self, name: str) -> None:
        """A point at which the daemon may be killed."""
        self.point += 1
        self.points.append(name)
        if self.point == self.kill_at:
            raise Killed(name)

    def live(self, until: float) -> None:
        """Time goes on."""
        self.now = max(self.now, until)
        if self.now >= 1010.0 and not self.nudges and not self.restarts:
            self.dark = True
        if self.now >= self.operator_stops_at:
            self.active_state = "inactive"

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, wall=lambda: 1e9 + self.now, boot_id=lambda: "boot")

    @property
    def epoch(self) -> Epoch | None:
        return Epoch(self.pid, 1, f"life-{self.pid}") if self.active_state == "active" else None

    def nudge(self) -> None:
        self.nudges += 1
        if self.nudge_heals:
            self.dark = False

    def restart(self) -> Outcome:
        """TryRestartUnit: nothing happens to a unit that is stopped."""
        if self.active_state != "active":
            return Outcome.REFUSED
        self.restarts += 1
        if self.start_fails:
            self.active_state = "failed"
            return Outcome.FAILED
        self.pid += 1
        self.dark = not self.restart_heals
        return Outcome.DONE


@dataclass
class SimulatedExaminer:
    """Stands in for `examiner.Examiner`: a host that gives no evidence."""

    proofs: tuple[Proof, ...] = ()
    unproven: tuple[str, ...] = ()
    baseline: Baseline | None = None

    def must_learn(self) -> bool:
        return False


class NoHands:
    """A helper that reads nothing: for what needs a real examiner, and no evidence."""

    async def examine(self, service: str, epoch: Epoch, *, copy: bool = False) -> Lack:
        return Lack("threads", "nobody reads them here")


@dataclass
class SimulatedLook:
    """Stands in for `look.Look`: what the probes and systemd say of the world."""

    world: World
    roads: dict[str, Road] = field(default_factory=lambda: dict(ROADS))
    asked: frozenset[str] = frozenset()
    examiner: SimulatedExaminer = field(default_factory=SimulatedExaminer)
    late_answer: float | None = None
    answered: float | None = None
    tripped: bool = False
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    rounds: int = 0

    async def round(self) -> Seen:
        world = self.world
        socket = Observation(Kind.SILENT if world.dark else Kind.ALIVE, 0.1, "simulated")
        found = {"tcp": socket, "snmp": Observation(Kind.ALIVE, 0.1, "simulated")}
        unit = UnitState("loaded", world.active_state, "", None, world.pid, f"life-{world.pid}")
        # unique over the kills, as a uuid is
        round_ = Round(f"{world.now}-{world.point}", world.now, world.now, found)
        return Seen(round_, world.epoch, 3600.0 if world.pid == 100 else 1.0, unit)

    def close(self) -> None:
        pass


@dataclass
class SimulatedHands:
    """Stands in for the helper. It may be killed before the act takes effect, and between effect and outcome."""

    world: World

    async def perform(self, service: str, action: Action) -> Performed:
        self.world.pass_point(f"before {action.rung}")
        outcome = Outcome.DONE
        if action.rung is Rung.NUDGE:
            self.world.nudge()
        else:
            outcome = self.world.restart()
        self.world.pass_point(f"after {action.rung}")
        return Performed(action.rung, outcome, "simulated")


@dataclass
class Around:
    """Stands in for the board: one service, one channel."""

    world: World
    records: list[Record] = field(default_factory=list)
    faults: list[StoreUnwritable | None] = field(default_factory=list)

    def host(self, service: str) -> Host:
        return Host(sick=1)

    def pressure(self, service: Service, epoch: Epoch | None) -> Pressure | None:
        return None

    async def outlook(self, service: Service) -> RestartOutlook | None:
        return self.world.outlook

    def advisories(self) -> tuple[Advisory, ...]:
        return ()

    @contextlib.contextmanager
    def restarting(self, service: str) -> Iterator[None]:
        yield

    def letters(self, service: Service, record: Record) -> Sequence[Letter]:
        if record.severity is None:
            return ()
        return [Letter(0, "ops", record.incident, service.name, record.kind, record.severity, record.at, {})]

    def told(self, service: Service, records: Sequence[Record]) -> None:
        self.records += records

    def looked(self, guard: Guard) -> None:
        pass

    def store_failed(self, error: StoreUnwritable | None) -> None:
        self.faults.append(error)
