"""Kills the daemon at every commit and at every act of a story, and asserts how the story ends.

The guard, the rules and the SQLite store are the real ones; the service, systemd and the clock are simulated: no
machine can be killed at each of these points and lives through hours in a second. A kill is an exception that nothing
may catch; after it a new guard with a new store begins from what is on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from watchdog.clock import Clock
from watchdog.config import Service
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
    Road,
    Round,
    Rung,
    State,
    Strength,
    Transport,
    UnitState,
)
from watchdog.store import Entry, Letter, Store, StoredIncident, StoreUnwritable
from watchdog.target import Target

POLICY = Policy(dark_for=20.0, start_timeout=30.0, cool_off=600.0, interval=2.0)
SERVICE = Service(name="web", target=Target(unit="web.service"), policy=POLICY, labels={}, annotations={}, probes={})
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
    dark_for_ever: bool = False
    active_state: str = "active"
    pid: int = 100
    nudge_heals: bool = True
    restart_heals: bool = True
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
class SimulatedLook:
    """Stands in for `look.Look`: what the probes and systemd say of the world."""

    world: World
    roads: dict[str, Road] = field(default_factory=lambda: dict(ROADS))
    late_answer: float | None = None
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

    def host(self, service: str) -> Host:
        return Host(sick=1)

    @contextlib.contextmanager
    def restarting(self, service: str) -> Iterator[None]:
        yield

    def letters(self, service: Service, record: Record) -> Sequence[Letter]:
        if record.severity is None:
            return ()
        return [Letter(0, "ops", record.incident, service.name, record.kind, record.severity, record.at, {})]

    def told(self, service: Service, records: Sequence[Record]) -> None:
        pass

    def looked(self, guard: Guard) -> None:
        pass

    def store_failed(self, error: StoreUnwritable | None) -> None:
        assert error is None


class KilledStore(Store):
    """The real store, with the two points of each commit."""

    def __init__(self, directory: Path, clock: Clock, world: World) -> None:
        super().__init__(directory, clock, deadline=30.0)
        self._world = world

    async def commit(
        self, service: str, state: State, records: Sequence[Record], entry: Entry | None, letters: Sequence[Letter] = ()
    ) -> None:
        self._world.pass_point("before commit")
        await super().commit(service, state, records, entry, letters)
        self._world.pass_point("after commit")


@dataclass
class Ending:
    """How a story ended: the world, the state on the disk, the incidents and the letters."""

    world: World
    state: State
    incidents: list[StoredIncident]
    letters: list[str]


async def tell(world: World, directory: Path, until: float) -> Ending:
    """Live until `until`, and begin anew after each kill."""
    clock = Clock(now=lambda: world.now, wall=lambda: 1e9 + world.now, boot_id=lambda: "boot")
    while True:
        store = KilledStore(directory, clock, world)
        guard = Guard(SERVICE, SimulatedLook(world), SimulatedHands(world), store, clock, Around(world))  # type: ignore[arg-type]
        try:
            await guard.resume()
            while world.now < until:
                world.live(max(guard.next_round, world.now + 0.001))
                await guard.turn()
            letters = await store.outbox("ops", 100)
            incidents = await store.incidents()
            return Ending(world, guard.state, incidents, [letter.kind for letter in letters])
        except Killed:
            world.live(world.now + 1.0)  # systemd starts it again
        finally:
            await store.close()


# --- the stories ------------------------------------------------------------------------------------------------------


def healed_by_the_first_nudge() -> World:
    return World()


def ends_healed(ending: Ending) -> None:
    assert not ending.world.dark
    assert ending.state.incident is None
    assert ending.state.pending is None
    assert ending.world.nudges in (1, 2)  # a nudge that was interrupted is done again
    assert ending.world.restarts == 0
    assert len(ending.incidents) == 1
    assert ending.incidents[0].closed is not None
    assert ending.letters.count("opened") == 1
    assert ending.letters.count("resolved") == 1
    assert "escalated" not in ending.letters


def useless_nudges_restart_alert() -> World:
    return World(nudge_heals=False, restart_heals=False)


def ends_alerted_after_one_restart(ending: Ending) -> None:
    assert ending.world.dark
    assert ending.world.restarts == 1
    assert ending.world.nudges in (2, 3)
    assert ending.world.pid == 101
    assert [incident.closed for incident in ending.incidents] == [None]
    assert ending.letters.count("opened") == 1
    assert ending.letters.count("escalated") == 1
    assert "resolved" not in ending.letters


def restart_heals() -> World:
    return World(nudge_heals=False)


def ends_healed_by_one_restart(ending: Ending) -> None:
    assert not ending.world.dark
    assert ending.world.restarts == 1
    assert [incident.closed is not None for incident in ending.incidents] == [True]
    assert ending.letters.count("resolved") == 1


def stopped_by_its_operator() -> World:
    """Stopped while the restart is due: the nudges were useless, `dark_for` is about to end."""
    return World(nudge_heals=False, operator_stops_at=1000.0 + 10.0 + POLICY.dark_for - 0.2)


def ends_stopped(ending: Ending) -> None:
    assert ending.world.active_state == "inactive"
    assert ending.world.restarts == 0
    assert ending.state.incident is None
    assert [incident.closed is not None for incident in ending.incidents] == [True]
    assert ending.letters.count("resolved") == 1
    assert "escalated" not in ending.letters


def dead_in_the_middle_of_a_restart() -> World:
    return World(nudge_heals=False, start_fails=True)


def ends_dead_and_alerted(ending: Ending) -> None:
    assert ending.world.active_state == "failed"
    assert ending.world.restarts == 1
    assert [incident.closed for incident in ending.incidents] == [None]
    assert ending.incidents[0].verdict == "dead"
    assert ending.letters.count("escalated") == 1


STORIES: dict[str, tuple[Callable[[], World], Callable[[Ending], None]]] = {
    "healed by the first nudge": (healed_by_the_first_nudge, ends_healed),
    "useless nudges, restart, alert": (useless_nudges_restart_alert, ends_alerted_after_one_restart),
    "useless nudges, a restart heals": (restart_heals, ends_healed_by_one_restart),
    "stopped by its operator": (stopped_by_its_operator, ends_stopped),
    "dead in the middle of a restart": (dead_in_the_middle_of_a_restart, ends_dead_and_alerted),
}
UNTIL = 1000.0 + 120.0


@pytest.mark.parametrize("name", STORIES)
async def test_a_story_without_a_kill_ends_as_it_should(name: str, tmp_path: Path) -> None:
    begin, ends = STORIES[name]
    ends(await tell(begin(), tmp_path, UNTIL))


@pytest.mark.parametrize("name", STORIES)
async def test_a_story_ends_the_same_wherever_the_daemon_is_killed(name: str, tmp_path: Path) -> None:
    begin, ends = STORIES[name]
    whole = begin()
    (tmp_path / "whole").mkdir()
    await tell(whole, tmp_path / "whole", UNTIL)
    assert {"before commit", "after commit", "before nudge", "after nudge"} <= set(whole.points)
    for kill_at in range(1, len(whole.points) + 1):
        directory = tmp_path / str(kill_at)
        directory.mkdir()
        world = begin()
        world.kill_at = kill_at
        ending = await tell(world, directory, UNTIL)
        assert world.point >= kill_at, "the point was reached"
        try:
            ends(ending)
        except AssertionError as error:
            raise AssertionError(f"killed at point {kill_at}, {whole.points[kill_at - 1]}") from error
