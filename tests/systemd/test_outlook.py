"""What would come of a restart, asked of a real systemd; nothing is restarted here."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.systemd.machine import Machine
from watchdog import outlook
from watchdog.model import RestartOutlook
from watchdog.outlook import FRESH, Outlooks, counted_starts
from watchdog.systemd import Units

SLEEPER = "[Service]\nExecStart=/bin/sleep infinity\n"
LIMITED = "[Unit]\nStartLimitBurst=3\nStartLimitIntervalSec=60\n" + SLEEPER


@pytest.fixture
async def units(machine: Machine) -> AsyncIterator[Units]:
    async with Units(address=machine.bus_address) as view:
        yield view


def seen(count: int) -> list[float]:
    """So many starts, all a moment ago as systemd counts."""
    return [10.0**9] * count


async def test_an_ordinary_unit_can_be_restarted(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("plain.service", SLEEPER, start=True)
    told = await Outlooks(units, starts=lambda _unit, _interval: seen(1)).of(unit, ())
    assert told == RestartOutlook(starts=1, burst=5, interval=10.0)  # systemd's own defaults


async def test_units_that_would_be_taken_along_are_told_less_those_that_are_allowed(
    machine: Machine, units: Units
) -> None:
    base = machine.add_unit("floor.service", SLEEPER, start=True)
    one = machine.add_unit("chair.service", f"[Unit]\nRequires={base}\nAfter={base}\n" + SLEEPER, start=True)
    two = machine.add_unit("table.service", f"[Unit]\nBindsTo={base}\nAfter={base}\n" + SLEEPER, start=True)
    outlooks = Outlooks(units, starts=lambda _unit, _interval: [])
    all_of_them, but_one = await outlooks.of(base, ()), await outlooks.of(base, (one,))
    assert all_of_them is not None
    assert all_of_them.takes_along == (one, two)
    assert but_one is not None
    assert but_one.takes_along == (two,)


async def test_the_starts_that_count_towards_the_limit_are_told(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("thrice.service", LIMITED, start=True)
    told = await Outlooks(units, starts=lambda _unit, _interval: seen(3)).of(unit, ())
    assert told == RestartOutlook(starts=3, burst=3, interval=60.0)


async def test_a_unit_without_a_start_limit_has_none(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("free.service", "[Unit]\nStartLimitIntervalSec=0\n" + SLEEPER, start=True)
    assert await Outlooks(units).of(unit, ()) == RestartOutlook()


async def test_a_queued_job_is_told(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("queue.service", SLEEPER, start=True)
    above = machine.add_unit(
        "ahead.service", f"[Unit]\nRequires={unit}\nAfter={unit}\n" + SLEEPER + "ExecStop=/bin/sleep 1000\n", start=True
    )
    machine.systemctl("restart", "--no-block", unit)
    told = await Outlooks(units, starts=lambda _unit, _interval: []).of(unit, (above,))
    machine.systemctl("cancel")
    machine.systemctl("kill", "--signal=KILL", above)
    assert told is not None
    assert (told.job, told.takes_along) == ("restart", ())


async def test_it_is_asked_anew_only_after_a_while(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("asked.service", LIMITED, start=True)
    now, asked = 0.0, []
    outlooks = Outlooks(units, starts=lambda name, _interval: asked.append(name) or seen(1), clock=lambda: now)  # type: ignore[func-returns-value]
    for at in (0.0, FRESH / 2, FRESH):
        now = at
        await outlooks.of(unit, ())
    assert asked == [unit, unit]


async def test_of_an_unknown_unit_nothing_is_told(units: Units) -> None:
    assert await Outlooks(units).of("nobody.service", ()) is None


async def test_where_systemd_cannot_be_asked_nothing_is_told(tmp_path: Path) -> None:
    async with Units(address=f"unix:path={tmp_path}/nobody") as units:
        assert await Outlooks(units).of("any.service", ()) is None


async def test_a_journal_that_hangs_is_not_waited_for_and_not_read_by_two(
    machine: Machine, units: Units, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "PATIENCE", 0.1)
    one = machine.add_unit("hangs-1.service", LIMITED, start=True)
    two = machine.add_unit("hangs-2.service", LIMITED, start=True)
    disk_answers, read = threading.Event(), []

    def hang(unit: str, _interval: float) -> list[float]:
        read.append(unit)
        disk_answers.wait(30)
        return []

    outlooks = Outlooks(units, starts=hang)
    told = [await outlooks.of(unit, ()) for unit in (one, two)]
    disk_answers.set()
    assert told == [RestartOutlook(starts=1, burst=3, interval=60.0)] * 2
    assert read == [one]


def test_the_brain_needs_no_power_but_the_journal_s_group(machine: Machine) -> None:
    unit = machine.add_unit("public-outlook.service", LIMITED, start=True)
    machine.systemctl("restart", unit)
    code = (
        "import dataclasses, json, sys\n"
        "from watchdog.outlook import Outlooks\n"
        "from watchdog.systemd import Units, run_on_poll\n"
        "async def main():\n"
        "    async with Units() as units:\n"
        "        print(json.dumps(dataclasses.asdict(await Outlooks(units).of(sys.argv[1], ()))))\n"
        "run_on_poll(main())\n"
    )
    group = machine.run("getent", "group", "systemd-journal").stdout.split(":")[2]
    brain = ("setpriv", "--reuid=65534", "--regid=65534", f"--groups={group}", "--bounding-set=-all", "--inh-caps=-all")
    machine.run("journalctl", "--sync")
    told = json.loads(machine.python(code, unit, before=brain))
    assert (told["starts"], told["burst"], told["job"]) == (2, 3, None)


# --- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("starts", "now", "counted"),
    [
        ([], 0.0, 0),
        ([0.0], 5.0, 1),
        ([0.0, 4.0, 9.0], 9.5, 3),
        ([0.0, 4.0, 11.0], 12.0, 1),  # the window that began with the first is over: the last began another
        ([11.0, 4.0, 0.0], 12.0, 1),  # in any order
        ([0.0, 9.0], 10.5, 0),  # and the next start will begin one
    ],
)
def test_starts_are_counted_as_systemd_counts(starts: list[float], now: float, counted: int) -> None:
    assert counted_starts(starts, 10.0, now) == counted
