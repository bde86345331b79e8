"""What the brain sees of units, on a real systemd."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.systemd.machine import Machine
from watchdog import systemd
from watchdog.model import UnitState
from watchdog.systemd import BusUnavailable, NoSuchUnit, NotRunning, Units, unit_main_pid

SLEEPER = "[Service]\nExecStart=/bin/sleep infinity\n"


@pytest.fixture
async def units(machine: Machine) -> AsyncIterator[Units]:
    """The brain's view, as it is made once for the daemon."""
    async with Units(address=machine.bus_address) as view:
        yield view


async def until(units: Units, unit: str, told: Callable[[UnitState], bool], *, lost: bool = False) -> UnitState:
    """Ask until the state is as told, for at most five seconds. With `lost`, the bus may be away meanwhile."""
    for _ in range(500):
        try:
            if told(state := await units.state(unit)):
                return state
        except BusUnavailable:
            if not lost:
                raise
        await asyncio.sleep(0.01)
    pytest.fail(f"{unit} does not come to the state that is waited for")


async def test_a_running_unit_is_told_with_its_pid_and_invocation(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("seen.service", SLEEPER, start=True)
    assert await units.state(unit) == UnitState(
        load_state="loaded",
        active_state="active",
        sub_state="running",
        job=None,
        main_pid=int(machine.show(unit, "MainPID")),
        invocation_id=machine.show(unit, "InvocationID"),
        result="success",
    )


async def test_the_state_follows_a_stop_and_a_start(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("followed.service", SLEEPER, start=True)
    before = await units.state(unit)
    machine.systemctl("stop", unit)
    stopped = await until(units, unit, lambda state: state.active_state == "inactive")
    machine.systemctl("start", unit)
    started = await until(units, unit, lambda state: state.active_state == "active" and state.job is None)
    assert (stopped.active_state, stopped.main_pid) == ("inactive", 0)
    assert started.invocation_id != before.invocation_id
    assert started.main_pid == int(machine.show(unit, "MainPID"))


async def test_a_unit_whose_process_crashes_is_failed(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("crashes.service", SLEEPER, start=True)
    await units.watch(unit)
    machine.systemctl("kill", "--signal=SEGV", unit)
    state = await until(units, unit, lambda state: state.active_state == "failed")
    assert (state.active_state, state.sub_state, state.main_pid) == ("failed", "failed", 0)
    assert state.result in ("signal", "core-dump")


async def test_restarts_of_systemd_s_own_are_counted(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("comes-back.service", SLEEPER + "Restart=always\nRestartSec=0\n", start=True)
    before = await units.state(unit)
    machine.systemctl("kill", "--signal=SEGV", unit)
    after = await until(units, unit, lambda state: state.n_restarts == 1)
    assert (before.n_restarts, before.result) == (0, "success")
    assert after.main_pid != before.main_pid


async def test_a_queued_stop_is_told(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("lingers.service", SLEEPER + "ExecStop=/bin/sleep 1000\n", start=True)
    await units.watch(unit)
    machine.systemctl("stop", "--no-block", unit)
    state = await until(units, unit, lambda state: state.job is not None and state.active_state == "deactivating")
    machine.systemctl("kill", "--signal=KILL", unit)
    assert (state.active_state, state.job) == ("deactivating", "stop")


async def test_a_stop_that_waits_for_another_units_is_told(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("waits.service", SLEEPER, start=True)
    above = machine.add_unit(
        "above.service", f"[Unit]\nRequires={unit}\nAfter={unit}\n" + SLEEPER + "ExecStop=/bin/sleep 1000\n"
    )
    machine.systemctl("start", above)
    await until(units, unit, lambda state: state.active_state == "active")
    machine.systemctl("stop", "--no-block", unit)
    queued = await until(units, unit, lambda state: state.job is not None)
    await until(units, above, lambda state: state.active_state == "deactivating")
    machine.systemctl("cancel")
    cancelled = await until(units, unit, lambda state: state.job is None)
    machine.systemctl("kill", "--signal=KILL", above)
    assert (queued.active_state, queued.job) == ("active", "stop")
    assert cancelled.active_state == "active"


async def test_nothing_is_asked_of_systemd_while_nothing_changes(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("quiet.service", SLEEPER, start=True)
    await until(units, unit, lambda state: state.active_state == "active")
    before = units.reads
    states = {await units.state(unit) for _ in range(100)}
    assert (units.reads - before, len(states)) == (0, 1)


async def test_a_stopped_unit_is_not_asked_for_again_and_again_either(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("resting.service", SLEEPER)
    await units.watch(unit)
    before = units.reads
    await asyncio.sleep(0.2)  # systemd has dropped the unit again by now, and has sent what it sends
    await units.state(unit)
    assert units.reads == before


async def test_a_state_is_read_anew_when_it_is_old(machine: Machine) -> None:
    unit = machine.add_unit("ages.service", SLEEPER, start=True)
    now = 0.0
    async with Units(address=machine.bus_address, max_age=30.0, clock=lambda: now) as units:
        await units.watch(unit)
        before = units.reads
        now = 30.0
        await units.state(unit)
        assert units.reads > before


async def test_an_unknown_unit_is_not_found_until_somebody_makes_and_starts_it(machine: Machine, units: Units) -> None:
    before = await units.state("made-later.service")
    machine.add_unit("made-later.service", SLEEPER, start=True)
    after = await until(units, "made-later.service", lambda state: state.active_state == "active")
    assert (before.load_state, before.active_state) == ("not-found", "inactive")
    assert (after.load_state, after.active_state) == ("loaded", "active")


async def test_a_name_that_no_unit_can_have_is_not_found(units: Units) -> None:
    assert (await units.state("no unit at all")).load_state == "not-found"


async def test_a_unit_whose_file_was_deleted_while_it_runs_is_still_there(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("orphaned.service", SLEEPER, start=True)
    await until(units, unit, lambda state: state.active_state == "active")
    machine.run("rm", f"/etc/systemd/system/{unit}")
    machine.systemctl("daemon-reload")
    state = await until(units, unit, lambda state: state.load_state == "not-found")
    assert state.active_state == "active"
    assert state.main_pid > 0


async def test_a_unit_is_followed_by_its_alias_too(machine: Machine, units: Units) -> None:
    machine.run("ln", "-s", "named.service", "/etc/systemd/system/nicknamed.service")
    unit = machine.add_unit("named.service", SLEEPER, start=True)
    before = await units.state("nicknamed.service")
    machine.systemctl("stop", unit)
    after = await until(units, "nicknamed.service", lambda state: state.active_state == "inactive")
    assert (before.active_state, after.active_state) == ("active", "inactive")


async def test_the_state_is_still_followed_after_systemd_executed_itself_anew(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("survives.service", SLEEPER, start=True)
    await units.watch(unit)
    machine.systemctl("daemon-reexec")
    before = await until(units, unit, lambda state: state.active_state == "active")
    machine.systemctl("stop", unit)
    after = await until(units, unit, lambda state: state.active_state == "inactive")
    assert (before.active_state, after.active_state) == ("active", "inactive")


async def test_a_bus_that_went_away_is_connected_to_anew(machine: Machine, units: Units) -> None:
    unit = machine.add_unit("outlives.service", SLEEPER, start=True)
    await units.watch(unit)
    machine.systemctl("kill", "--signal=KILL", "dbus.service")
    machine.systemctl("stop", unit)  # over systemd's private socket
    machine.wait_until("dbus.socket")

    after = await until(units, unit, lambda state: state.active_state == "inactive", lost=True)
    assert after.main_pid == 0


async def test_a_bus_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with Units(address=f"unix:path={tmp_path}/nobody") as units:
        with pytest.raises(BusUnavailable, match=r"cannot connect to the system bus: .*No such file"):
            await units.state("any.service")


async def test_a_bus_that_never_answers_is_told_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "CALL_TIMEOUT", 0.2)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute"))
        mute.listen()
        async with Units(address=f"unix:path={tmp_path}/mute") as units:
            with pytest.raises(BusUnavailable, match=r"did not take our connection within 0\.2 s"):
                await units.state("any.service")


async def test_a_systemd_that_never_answers_is_told_in_time(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Units(address=machine.bus_address) as units:
        await units.connect()
        monkeypatch.setattr(systemd, "CALL_TIMEOUT", 0.2)
        with (
            stopped(machine.leader),
            pytest.raises(BusUnavailable, match=r"did not answer ListUnitsByNames within 0\.2 s"),
        ):
            await units.state("dbus.service")
        monkeypatch.undo()
        assert (await units.state("dbus.service")).active_state == "active"


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process is stopped by SIGSTOP meanwhile."""
    subprocess.run(["kill", "-STOP", str(pid)], check=True)
    try:
        yield
    finally:
        subprocess.run(["kill", "-CONT", str(pid)], check=True)


@pytest.fixture
def lonely_bus(tmp_path: Path) -> Iterator[str]:
    """A message bus on which nobody is."""
    address = f"unix:path={tmp_path}/bus"
    argv = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address=1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        try:
            daemon.stdout.readline()  # it listens once it has told its address
            yield address
        finally:
            daemon.kill()


async def test_a_bus_without_a_systemd_is_told(lonely_bus: str) -> None:
    async with Units(address=lonely_bus) as units:
        with pytest.raises(BusUnavailable, match="systemd does not answer on the system bus"):
            await units.state("any.service")


def test_a_user_without_any_power_may_ask(machine: Machine) -> None:
    unit = machine.add_unit("public.service", SLEEPER, start=True)
    code = (
        "import dataclasses, json, sys\n"
        "from watchdog.systemd import Units, run_on_poll\n"
        "async def main():\n"
        "    async with Units() as units:\n"
        "        print(json.dumps(dataclasses.asdict(await units.state(sys.argv[1]))))\n"
        "run_on_poll(main())\n"
    )
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
    told = json.loads(machine.python(code, unit, before=nobody))
    assert (told["active_state"], told["main_pid"]) == ("active", int(machine.show(unit, "MainPID")))


def test_a_command_asks_for_the_main_pid(machine: Machine) -> None:
    unit = machine.add_unit("has-a-pid.service", SLEEPER, start=True)
    assert unit_main_pid(unit, address=machine.bus_address) == int(machine.show(unit, "MainPID"))


def test_a_stopped_unit_has_no_main_pid(machine: Machine) -> None:
    unit = machine.add_unit("has-no-pid.service", SLEEPER)
    with pytest.raises(NotRunning, match=r"has-no-pid\.service has no main process: it is inactive \(dead\)"):
        unit_main_pid(unit, address=machine.bus_address)


def test_an_unknown_unit_has_no_main_pid(machine: Machine) -> None:
    with pytest.raises(NoSuchUnit, match=r"systemd knows no unit nobody\.service"):
        unit_main_pid("nobody.service", address=machine.bus_address)


def test_the_loop_of_a_command_does_not_wait_on_epoll(machine: Machine) -> None:
    async def selector() -> str:
        return type(asyncio.get_running_loop()._selector).__name__  # type: ignore[attr-defined]

    assert systemd.run_on_poll(selector()) == "PollSelector"
