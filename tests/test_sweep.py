"""Kills the daemon at every commit and at every act of a story, and asserts how the story ends.

The guard, the rules and the SQLite store are the real ones; the service, systemd and the clock are simulated: no
machine can be killed at each of these points and lives through hours in a second. A kill is an exception that nothing
may catch; after it a new guard with a new store begins from what is on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.simulated import POLICY, SERVICE, Around, Killed, SimulatedHands, SimulatedLook, World
from tests.store.make import leaving
from watchdog.guard import Guard
from watchdog.model import Case, Record, State
from watchdog.store import Entry, Letter, Store, StoredIncident


class KilledStore(Store):
    """The real store, with the two points of each commit."""

    def __init__(self, directory: Path, world: World) -> None:
        super().__init__(directory, world.clock, deadline=30.0)
        self._world = world

    async def commit(
        self,
        service: str,
        state: State,
        records: Sequence[Record],
        entry: Entry | None,
        letters: Sequence[Letter] = (),
        case: Case | None = None,
    ) -> None:
        self._world.pass_point("before commit")
        await super().commit(service, state, records, entry, letters, case)
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
    while True:
        store = KilledStore(directory, world)
        around = Around(world)
        guard = Guard(SERVICE, SimulatedLook(world), SimulatedHands(world), store, world.clock, around)  # type: ignore[arg-type]
        try:
            await guard.resume()
            while world.now < until:
                world.live(max(guard.next_round, world.now + 0.001))
                await guard.turn()
            assert set(around.faults) <= {None}
            incidents = await store.incidents()
            letters = await leaving(store)
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
