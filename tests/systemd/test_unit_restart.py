"""Restarts through a real systemd: what is done, what is refused, and what becomes of what hangs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helper.victims import until
from tests.systemd.machine import Machine
from watchdog.helper.unit_restart import try_restart
from watchdog.model import Outcome, Performed
from watchdog.systemd import BusUnavailable

SLEEPER = "[Service]\nExecStart=/bin/sleep infinity\n"
STUBBORN = """
[Service]
Type=notify
NotifyAccess=all
ExecStart=/bin/sh -c 'trap "" TERM; systemd-notify --ready; exec sleep infinity'
TimeoutSec=infinity
"""
FALLBACK = 0.2  # s, for each time-out that is infinite: short, so that a test does not take minutes


async def restart(
    machine: Machine, unit: str, *also: str, invocation_id: str = "", starts: int = 0, fallback: float = FALLBACK
) -> Performed:
    """Restart it as the helper does; `starts` of it were just seen in the journal."""
    return await try_restart(
        unit,
        also_restarts=also,
        invocation_id=invocation_id,
        fallback=fallback,
        starts=lambda _unit, _interval: [10.0**9] * starts,
        address=machine.bus_address,
    )


async def test_a_running_unit_is_restarted_into_a_new_life(machine: Machine) -> None:
    unit = machine.add_unit("restarted.service", SLEEPER, start=True)
    before = machine.show(unit, "InvocationID")
    done = await restart(machine, unit, invocation_id=before)
    assert (done.outcome, done.reason) == (Outcome.DONE, "restarted.service was restarted")
    assert machine.show(unit, "ActiveState") == "active"
    assert (done.detail["old_invocation_id"], done.detail["new_invocation_id"]) == (
        before,
        machine.show(unit, "InvocationID"),
    )
    assert done.detail["new_invocation_id"] != before
    assert done.detail["killed"] is False
    assert 0 < done.detail["duration_s"] < 5


async def test_an_alias_restarts_its_unit(machine: Machine) -> None:
    machine.run("ln", "-s", "proper.service", "/etc/systemd/system/also-known.service")
    machine.add_unit("proper.service", SLEEPER, start=True)
    done = await restart(machine, "also-known.service")
    assert (done.outcome, done.detail["unit"]) == (Outcome.DONE, "proper.service")


async def test_a_unit_that_its_operator_stopped_stays_stopped(machine: Machine) -> None:
    unit = machine.add_unit("stopped.service", SLEEPER, start=True)
    machine.systemctl("stop", unit)
    done = await restart(machine, unit)
    assert done.outcome is Outcome.REFUSED
    assert done.reason == "stopped.service is inactive (dead): only a running unit is restarted, none is started"
    assert machine.show(unit, "ActiveState") == "inactive"


async def test_a_unit_that_failed_is_not_started(machine: Machine) -> None:
    unit = machine.add_unit("broke.service", SLEEPER, start=True)
    machine.systemctl("kill", "--signal=SEGV", unit)
    machine.wait_until(unit, "failed")
    done = await restart(machine, unit)
    assert (done.outcome, machine.show(unit, "ActiveState")) == (Outcome.REFUSED, "failed")


async def test_a_unit_that_is_being_stopped_is_left_to_its_operator(machine: Machine) -> None:
    unit = machine.add_unit("stopping.service", STUBBORN, start=True)
    machine.systemctl("stop", "--no-block", unit)
    machine.wait_until(unit, "deactivating")
    done = await restart(machine, unit)
    machine.systemctl("kill", "--signal=KILL", unit)
    machine.wait_until(unit, "failed")
    assert done.reason == "somebody else has queued a stop job for stopping.service"
    assert done.outcome is Outcome.REFUSED


async def test_a_unit_stopped_by_its_operator_in_the_middle_of_a_restart_stays_stopped(machine: Machine) -> None:
    machine.run("mkfifo", "/run/contested-go")
    stops = "ExecStop=/bin/sh -c 'read _ </run/contested-go'\n"
    unit = machine.add_unit("contested.service", SLEEPER + stops, start=True)
    restarting = asyncio.create_task(restart(machine, unit))
    await asyncio.to_thread(machine.wait_until, unit, "deactivating")
    await asyncio.to_thread(machine.systemctl, "stop", "--no-block", unit)  # nobody but us holds it in memory then
    done = await restarting
    machine.write_file("/run/contested-go", "go\n")
    assert done.reason == "contested.service was stopped by somebody else meanwhile, and is left so"
    assert done.outcome is Outcome.REFUSED
    machine.wait_until(unit, "inactive")


async def test_a_unit_stopped_by_its_operator_just_before_the_restart_stays_stopped(machine: Machine) -> None:
    unit = machine.add_unit("just-stopped.service", SLEEPER, start=True)

    def stop_it(_unit: str, _interval: float) -> list[float]:  # called after the last look at its state
        machine.systemctl("stop", unit)
        return []

    done = await try_restart(unit, starts=stop_it, address=machine.bus_address)
    assert done.reason == "just-stopped.service was stopped by somebody else meanwhile, and is left so"
    assert (done.outcome, machine.show(unit, "ActiveState")) == (Outcome.REFUSED, "inactive")


async def test_a_stop_queued_just_before_the_restart_wins(machine: Machine) -> None:
    unit = machine.add_unit("to-be-stopped.service", SLEEPER, start=True)
    above = machine.add_unit("stops-first.service", f"[Unit]\nRequires={unit}\nAfter={unit}\n" + STUBBORN, start=True)

    def queue_a_stop(_unit: str, _interval: float) -> list[float]:
        machine.systemctl("stop", "--no-block", unit)
        return []

    done = await try_restart(unit, also_restarts=[above], starts=queue_a_stop, address=machine.bus_address)
    machine.systemctl("kill", "--signal=KILL", above)
    assert done.outcome is Outcome.REFUSED
    assert done.reason.startswith(f"systemd refuses to restart {unit}: Transaction for {unit}/")
    machine.wait_until(unit, "inactive")


async def test_another_life_than_the_one_to_be_ended_is_left_alone(machine: Machine) -> None:
    unit = machine.add_unit("reborn.service", SLEEPER, start=True)
    before = machine.show(unit, "InvocationID")
    machine.systemctl("restart", unit)
    now = machine.show(unit, "InvocationID")
    done = await restart(machine, unit, invocation_id=before)
    assert (done.outcome, machine.show(unit, "InvocationID")) == (Outcome.GONE, now)


async def test_an_unknown_unit_is_refused(machine: Machine) -> None:
    done = await restart(machine, "nobody.service")
    assert (done.outcome, done.reason) == (Outcome.REFUSED, "systemd knows no unit nobody.service")


async def test_a_unit_that_refuses_to_be_restarted_by_hand_is_refused_in_systemds_words(machine: Machine) -> None:
    unit = machine.add_unit("shy.service", "[Unit]\nRefuseManualStop=yes\n" + SLEEPER, start=True)
    done = await restart(machine, unit)
    assert done.outcome is Outcome.REFUSED
    assert done.reason.startswith("systemd refuses to restart shy.service: Operation refused")


# --- the blast radius -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dependency", ["Requires", "Requisite", "BindsTo", "PartOf"])
async def test_a_restart_that_would_take_an_active_unit_along_is_refused(machine: Machine, dependency: str) -> None:
    base = machine.add_unit(f"base-{dependency}.service", SLEEPER, start=True)
    user = machine.add_unit(
        f"user-{dependency}.service", f"[Unit]\n{dependency}={base}\nAfter={base}\n" + SLEEPER, start=True
    )
    before = machine.show(base, "InvocationID"), machine.show(user, "InvocationID")
    done = await restart(machine, base)
    assert done.outcome is Outcome.REFUSED
    assert done.reason == f"a restart of {base} would restart {user} too; allow it in also_restarts"
    assert (machine.show(base, "InvocationID"), machine.show(user, "InvocationID")) == before


async def test_a_restart_takes_along_what_is_named(machine: Machine) -> None:
    base = machine.add_unit("base.service", SLEEPER, start=True)
    user = machine.add_unit("user.service", f"[Unit]\nRequires={base}\nAfter={base}\n" + SLEEPER, start=True)
    before = machine.show(user, "InvocationID")
    done = await restart(machine, base, user)
    assert (done.outcome, done.detail["taken_along"]) == (Outcome.DONE, [user])
    machine.wait_until(user)
    assert machine.show(user, "InvocationID") != before


async def test_a_unit_two_steps_away_is_found_too(machine: Machine) -> None:
    base = machine.add_unit("ground.service", SLEEPER, start=True)
    near = machine.add_unit("near.service", f"[Unit]\nRequires={base}\nAfter={base}\n" + SLEEPER, start=True)
    far = machine.add_unit("far.service", f"[Unit]\nRequires={near}\nAfter={near}\n" + SLEEPER, start=True)
    done = await restart(machine, base, near)
    assert (done.outcome, done.detail["taken_along"]) == (Outcome.REFUSED, sorted([near, far]))
    assert done.reason == f"a restart of {base} would restart {far} too; allow it in also_restarts"


@pytest.mark.parametrize("dependency", ["Wants", "StopPropagatedFrom"])
async def test_a_dependency_that_a_restart_does_not_touch_is_no_reason_to_refuse(
    machine: Machine, dependency: str
) -> None:
    base = machine.add_unit(f"free-{dependency}.service", SLEEPER, start=True)
    user = machine.add_unit(
        f"fan-{dependency}.service", f"[Unit]\n{dependency}={base}\nAfter={base}\n" + SLEEPER, start=True
    )
    before = machine.show(user, "InvocationID")
    done = await restart(machine, base)
    assert (done.outcome, machine.show(user, "InvocationID")) == (Outcome.DONE, before)


async def test_a_stopped_unit_that_requires_it_is_neither_a_reason_to_refuse_nor_started(machine: Machine) -> None:
    base = machine.add_unit("alone.service", SLEEPER, start=True)
    user = machine.add_unit("asleep.service", f"[Unit]\nRequires={base}\nAfter={base}\n" + SLEEPER)
    done = await restart(machine, base)
    assert (done.outcome, machine.show(user, "ActiveState")) == (Outcome.DONE, "inactive")


# --- what hangs -----------------------------------------------------------------------------------------------------


async def test_a_stop_that_hangs_for_ever_is_ended_by_sigkill_within_the_same_restart(machine: Machine) -> None:
    unit = machine.add_unit("deaf.service", STUBBORN, start=True)
    fallback = 1.0  # s: after SIGKILL, the unit has as long once more to start anew
    done = await restart(machine, unit, fallback=fallback)
    assert (done.outcome, done.reason) == (Outcome.DONE, "deaf.service was restarted, after SIGKILL")
    assert (done.detail["killed"], done.detail["deadline_s"]) == (True, pytest.approx(2 * fallback))
    assert machine.show(unit, "ActiveState") == "active"


BEGIN = """
import asyncio, sys
from watchdog.helper.unit_restart import try_restart
unit, directory, address = sys.argv[1:]
asyncio.run(try_restart(unit, fallback=1.0, starts=lambda *_: [], directory=directory, address=address))
"""


@pytest.fixture
def orphaned(machine: Machine, tmp_path: Path) -> Iterator[str]:
    """A unit whose stop hangs for ever, in a restart of which the helper was killed; recorded in `tmp_path`/it."""
    unit = machine.add_unit(f"orphaned-{uuid.uuid4().hex[:8]}.service", STUBBORN, start=True)
    record = tmp_path / "it" / unit
    with subprocess.Popen([sys.executable, "-c", BEGIN, unit, str(record.parent), machine.bus_address]) as helper:
        try:
            until(record.exists, "its restart is recorded")
            machine.wait_until(unit, "deactivating")
        finally:
            helper.kill()
    yield unit
    machine.systemctl("stop", "--no-block", unit)  # instead of the restart, if that waits still
    machine.systemctl("kill", "--signal=KILL", unit)


async def ask_again(machine: Machine, unit: str, directory: Path, invocation_id: str = "") -> Performed:
    """As the next helper does."""
    return await try_restart(
        unit,
        invocation_id=invocation_id,
        fallback=1.0,
        starts=lambda _unit, _interval: [],
        directory=str(directory),
        address=machine.bus_address,
    )


async def test_a_hung_restart_whose_helper_was_killed_is_ended_at_its_own_deadline(
    machine: Machine, tmp_path: Path, orphaned: str
) -> None:
    before = machine.show(orphaned, "InvocationID")
    due = json.loads((tmp_path / "it" / orphaned).read_text())["deadline"]
    done = await ask_again(machine, orphaned, tmp_path / "it", before)
    late_s = time.clock_gettime(time.CLOCK_BOOTTIME) - due
    assert (done.outcome, done.reason) == (Outcome.DONE, f"{orphaned} was restarted, after SIGKILL")
    assert (done.detail["killed"], done.detail["deadline_s"]) == (True, 2.0)
    assert 0 <= late_s < 1.5  # not before, nor as long again
    assert machine.show(orphaned, "InvocationID") == done.detail["new_invocation_id"] != before
    assert list((tmp_path / "it").iterdir()) == []


@pytest.mark.parametrize(
    "told", [{"job": "/org/freedesktop/systemd1/job/1"}, {"boot_id": "another"}, {"deadline": "now"}, {"job": 7}]
)
async def test_a_restart_that_is_not_surely_ours_is_left_to_whoever_asked_for_it(
    machine: Machine, tmp_path: Path, orphaned: str, told: dict[str, object]
) -> None:
    record = tmp_path / "it" / orphaned
    record.write_text(json.dumps(json.loads(record.read_text()) | told))
    done = await ask_again(machine, orphaned, record.parent)
    assert (done.outcome, done.reason) == (
        Outcome.REFUSED,
        f"somebody else has queued a restart job for {orphaned}",
    )


async def test_a_restart_of_another_life_than_the_one_to_be_ended_is_not_taken_up(
    machine: Machine, tmp_path: Path, orphaned: str
) -> None:
    done = await ask_again(machine, orphaned, tmp_path / "it", "0" * 32)
    assert (done.outcome, done.detail["killed"]) == (Outcome.REFUSED, False)


async def test_a_start_that_hangs_is_told_and_left_to_go_on(machine: Machine) -> None:
    slow = "ExecStartPre=/bin/sh -c 'test ! -e /run/slow || sleep 1000'\nTimeoutSec=infinity\n"
    unit = machine.add_unit("slow.service", SLEEPER + slow, start=True)
    machine.write_file("/run/slow", "")
    done = await restart(machine, unit)
    assert (done.outcome, done.reason) == (
        Outcome.TIMED_OUT,
        "slow.service is still activating after 0.4 s, and is left to go on",
    )
    assert (done.detail["killed"], machine.show(unit, "ActiveState")) == (False, "activating")


async def test_a_restart_that_cannot_begin_is_called_off(machine: Machine) -> None:
    base = machine.add_unit(
        "queued.service", "[Service]\nTimeoutSec=infinity\nExecStart=/bin/sleep infinity\n", start=True
    )
    user = machine.add_unit("hanging.service", f"[Unit]\nRequires={base}\nAfter={base}\n" + STUBBORN, start=True)
    before = machine.show(base, "InvocationID")
    done = await restart(machine, base, user)
    machine.systemctl("kill", "--signal=KILL", user)  # what it waited for comes to its end: now it would be restarted
    machine.wait_until(user)
    assert (done.outcome, done.reason) == (
        Outcome.TIMED_OUT,
        "the restart of queued.service waited for other jobs of systemd's for 0.4 s, and was called off",
    )
    assert machine.show(base, "InvocationID") == before


async def test_a_start_that_fails_is_told(machine: Machine) -> None:
    machine.write_file("/run/startable", "")
    picky = "[Service]\nExecStartPre=/usr/bin/test -e /run/startable\nExecStart=/bin/sleep infinity\n"
    unit = machine.add_unit("picky.service", picky, start=True)
    machine.run("rm", "/run/startable")
    done = await restart(machine, unit)
    assert done.outcome is Outcome.FAILED
    assert done.reason == "the restart of picky.service ended as 'failed': it is failed (exit-code)"


async def test_a_condition_that_is_no_longer_met_is_told(machine: Machine) -> None:
    machine.write_file("/run/allowed", "")
    unit = machine.add_unit("conditional.service", "[Unit]\nConditionPathExists=/run/allowed\n" + SLEEPER, start=True)
    machine.run("rm", "/run/allowed")
    done = await restart(machine, unit)
    assert done.outcome is Outcome.FAILED
    assert "a Condition…= of its unit file is not met" in done.reason


# --- the start limit ------------------------------------------------------------------------------------------------


def limited(burst: int) -> str:
    """A unit that may be started so often a minute."""
    return f"[Unit]\nStartLimitBurst={burst}\nStartLimitIntervalSec=60\n" + SLEEPER


async def test_a_restart_that_the_start_limit_would_cut_in_half_is_refused(machine: Machine) -> None:
    unit = machine.add_unit("limited.service", limited(1), start=True)
    done = await restart(machine, unit)
    assert (done.outcome, machine.show(unit, "ActiveState")) == (Outcome.REFUSED, "active")
    assert done.reason == (
        "systemd's start limit: limited.service has used 1 of 1 starts within 60 s; a restart would only stop it"
    )


async def test_a_start_limit_that_nobody_could_foresee_is_told(machine: Machine) -> None:
    unit = machine.add_unit("unforeseen.service", limited(2), start=True)
    machine.systemctl("restart", unit)
    done = await restart(machine, unit)  # no journal to be read: only the last start is known
    assert done.outcome is Outcome.FAILED
    assert done.reason == "the restart of unforeseen.service ended as 'failed': it is failed (start-limit-hit)"


async def test_a_unit_without_a_start_limit_is_restarted(machine: Machine) -> None:
    unit = machine.add_unit("unlimited.service", "[Unit]\nStartLimitIntervalSec=0\n" + SLEEPER, start=True)
    assert (await restart(machine, unit, starts=100)).outcome is Outcome.DONE


def test_the_starts_before_are_found_in_the_journal(machine: Machine) -> None:
    unit = machine.add_unit("journaled.service", limited(3), start=True)
    machine.systemctl("restart", unit)
    outcomes = []
    for _ in range(2):
        machine.run("journalctl", "--sync")
        outcomes.append(json.loads(machine.python(AS_HELPER, unit, before=TWO_POWERS)))
    first, second = outcomes
    assert first["outcome"] == "done"
    assert second["outcome"] == "refused"
    assert second["reason"].startswith("systemd's start limit: journaled.service has used 3 of 3 starts within 60 s")
    assert machine.show(unit, "ActiveState") == "active"


# --- as the helper --------------------------------------------------------------------------------------------------

AS_HELPER = """
import dataclasses, json, sys
from watchdog.helper.restart import restart
from watchdog.target import Target
print(json.dumps(dataclasses.asdict(restart(Target(unit=sys.argv[1]), None))))
"""
BY_COMMAND = AS_HELPER.replace("Target(unit=sys.argv[1])", "Target(unit=sys.argv[1], restart_command=('true',))")
TWO_POWERS = ("setpriv", "--bounding-set=-all,+sys_ptrace,+dac_read_search", "--inh-caps=-all", "--no-new-privs")


def test_two_capabilities_are_enough(machine: Machine) -> None:
    unit = machine.add_unit("powers.service", SLEEPER, start=True)
    capabilities = machine.run(*TWO_POWERS, "grep", "CapEff", "/proc/self/status").stdout
    done = json.loads(machine.python(AS_HELPER, unit, before=TWO_POWERS))
    assert int(capabilities.split()[1], 16) == 1 << 19 | 1 << 2
    assert done["outcome"] == "done"


def test_a_restart_command_of_a_unit_is_run_only_while_the_unit_runs(machine: Machine) -> None:
    unit = machine.add_unit("commanded.service", SLEEPER, start=True)
    running = json.loads(machine.python(BY_COMMAND, unit, before=TWO_POWERS))
    machine.systemctl("stop", unit)
    stopped = json.loads(machine.python(BY_COMMAND, unit, before=TWO_POWERS))
    assert (running["outcome"], stopped["outcome"]) == ("done", "gone")
    assert stopped["reason"] == (
        "commanded.service is inactive (dead): nothing is started that its operator may have stopped"
    )


def test_two_capabilities_are_enough_to_kill_too(machine: Machine) -> None:
    bounded = STUBBORN.replace("TimeoutSec=infinity", "TimeoutSec=300ms\nSendSIGKILL=no")
    unit = machine.add_unit("powers-to-kill.service", bounded, start=True)
    done = json.loads(machine.python(AS_HELPER, unit, before=TWO_POWERS))
    assert (done["outcome"], done["detail"]["killed"]) == ("done", True)


def test_a_user_without_power_is_refused(machine: Machine) -> None:
    unit = machine.add_unit("protected.service", SLEEPER, start=True)
    before = machine.show(unit, "InvocationID")
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
    done = json.loads(machine.python(AS_HELPER, unit, before=nobody))
    assert done["outcome"] == "refused"
    assert done["reason"].startswith("systemd refuses to restart protected.service: ")
    assert machine.show(unit, "InvocationID") == before


async def test_a_bus_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BusUnavailable, match="cannot connect to the system bus"):
        await try_restart("any.service", address=f"unix:path={tmp_path}/nobody")
