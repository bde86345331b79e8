"""The cpu probe against real processes, and its reckoning over any readings."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.probes.asking import ask
from watchdog import target
from watchdog.clock import Clock
from watchdog.model import Epoch, Kind, Plane, Strength
from watchdog.probes import cpu

NOBODY = 65534
IDLE = "import sys; print(1, flush=True); sys.stdin.read()"
SPINNING = "print(1, flush=True)\nwhile True: pass"
THREAD_SPINS = """
import sys, threading
def spin():
    while True: pass
threading.Thread(target=spin, daemon=True).start()
print(1, flush=True)
threading.Event().wait()
"""
CHILD_SPINS = """
import os, sys
if os.fork() == 0:
    while True: pass
print(1, flush=True)
sys.stdin.read()
"""


@contextmanager
def running(script: str) -> Iterator[Epoch]:
    """A process that has done with its start."""
    argv = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield Epoch(process.pid, target.start_time(process.pid))
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def idle() -> Iterator[Epoch]:
    """A process that only waits."""
    with running(IDLE) as epoch:
        yield epoch


async def settled(settings: cpu.Settings, epoch: Epoch) -> tuple[Kind, str]:
    """What the probe says once it is no longer late: once its readings reach back far enough."""
    async with asyncio.timeout(10):
        while (found := await ask("cpu", settings, 0.1, epoch)).kind is Kind.LATE:
            pass
    return found.kind, found.reason


async def older_than(epoch: Epoch, within: float) -> None:
    """Wait until the start of the process is no reading any more."""
    lived = target.age(epoch, Clock().now())
    await asyncio.sleep(max(0.0, within - lived) + 0.02)


async def test_a_process_that_spins_is_alive() -> None:
    with running(SPINNING) as epoch:
        found = await ask("cpu", cpu.Settings(), target=epoch)
    assert found.kind is Kind.ALIVE
    assert found.reason.startswith("used ")


async def test_a_process_that_only_waits_is_late_first_and_silent_after_that_time(idle: Epoch) -> None:
    settings = cpu.Settings(within=0.4)
    await older_than(idle, 0.4)
    first = await ask("cpu", settings, 0.1, idle)
    kind, reason = await settled(settings, idle)
    assert first.kind is Kind.LATE
    assert first.reason.endswith("so far, expected 1ms in 400ms")
    assert (kind, reason.partition(" of CPU in ")[0]) == (Kind.SILENT, "used 0ms")


async def test_the_first_look_takes_a_second_reading_within_its_deadline() -> None:
    with running(SPINNING) as epoch:
        await older_than(epoch, 0.3)
        found = await ask("cpu", cpu.Settings(within=0.3), 2.0, epoch)
    assert found.kind is Kind.ALIVE
    assert found.latency < 1


async def test_what_a_young_process_used_since_its_start_counts(idle: Epoch) -> None:
    found = await ask("cpu", cpu.Settings(within=3600.0), target=idle)
    assert found.kind is Kind.ALIVE


async def test_other_threads_than_the_first_count() -> None:
    with running(THREAD_SPINS) as epoch:
        kind, _ = await settled(cpu.Settings(within=0.3), epoch)
    assert kind is Kind.ALIVE


async def test_children_do_not_count() -> None:
    with running(CHILD_SPINS) as epoch:
        await older_than(epoch, 0.3)
        kind, _ = await settled(cpu.Settings(within=0.3), epoch)
    assert kind is Kind.SILENT


async def test_cpu_time_of_other_lives_is_not_mixed_in(idle: Epoch) -> None:
    settings = cpu.Settings(within=0.3)
    with running(SPINNING) as epoch:
        await ask("cpu", settings, target=epoch)
        await older_than(idle, 0.3)
        kind, _ = await settled(settings, idle)
    assert kind is Kind.SILENT


async def test_a_process_that_has_gone_is_our_own_error() -> None:
    with running(IDLE) as epoch:
        pass
    found = await ask("cpu", cpu.Settings(), target=epoch)
    assert (found.kind, found.reason) == (Kind.ERROR, f"there is no process {epoch.pid}")


async def test_another_process_with_the_same_pid_is_our_own_error(idle: Epoch) -> None:
    found = await ask("cpu", cpu.Settings(), target=Epoch(idle.pid, idle.start_time - 1))
    assert found.kind is Kind.ERROR
    assert "is another process' by now" in found.reason


async def test_a_service_without_a_process_is_our_own_error() -> None:
    found = await ask("cpu", cpu.Settings())
    assert (found.kind, found.reason) == (Kind.ERROR, "the service has no process")


async def test_readings_of_processes_that_have_ended_are_not_kept() -> None:
    with running(SPINNING) as gone:
        await ask("cpu", cpu.Settings(), target=gone)
    with running(SPINNING) as epoch:
        await ask("cpu", cpu.Settings(), target=epoch)
        kept = {key[1] for key in cpu._readings}
    assert kept == {epoch}


ASK = """
import asyncio, sys
from watchdog import target
from watchdog.clock import Clock
from watchdog.model import Epoch
from watchdog.probes import cpu
from watchdog.probes.deadline import Deadline

async def main():
    deadline = Deadline(asyncio.get_running_loop().time() + 5)
    epoch = Epoch(int(sys.argv[1]), target.start_time(int(sys.argv[1])))
    print((await cpu.probe(cpu.Settings(), epoch, deadline)).kind)

asyncio.run(main())
"""


def test_it_takes_no_rights() -> None:
    with running(SPINNING) as epoch:
        argv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", sys.executable, "-c", ASK]
        done = subprocess.run(
            [*argv, str(epoch.pid)], capture_output=True, text=True, timeout=20, cwd=Path(__file__).parents[2]
        )
    assert done.stdout == "alive\n", done.stderr


def test_a_witness_of_that_very_process() -> None:
    road = cpu.road(cpu.Settings())
    assert (road.plane, road.strength) == (Plane.WITNESS, Strength.PROCESS)


@pytest.mark.parametrize(
    ("at_least", "within", "message"),
    [(0, 1, "at_least: 0s is too short"), (0.1, 0, "within: 0s is too short"), (2, 1, "is a whole CPU")],
)
def test_settings_are_refused_with_what_would_be_right(at_least: float, within: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cpu.Settings(at_least=at_least, within=within)


# --- the reckoning ----------------------------------------------------------------------------------------------------

steps = st.lists(st.tuples(st.floats(0.001, 30.0), st.floats(0.0, 0.01)), min_size=1, max_size=60)


@given(steps=steps)
def test_the_verdict_is_of_a_time_that_fits_what_was_asked_for(steps: list[tuple[float, float]]) -> None:
    settings = cpu.Settings(at_least=0.001, within=10.0)
    readings = cpu.Readings(settings)
    now, used, before = 1000.0, 0.0, 1000.0
    for step, more in steps:
        before, now, used = now, now + step, used + more
        kind, _ = readings.judge(now, used)
    began, had = readings.kept[0]

    assert (kind is Kind.ALIVE) == (used - had >= settings.at_least)
    assert (kind is Kind.LATE) <= (now - began < settings.within)
    assert (kind is Kind.SILENT) <= (now - began >= settings.within)
    # No further back than one step between two readings, and the twentieth that is between two that are kept.
    assert now - began <= max(settings.within * (1 + 1 / cpu.KEPT) + max(step for step, _ in steps), now - before)
    assert len(readings.kept) <= cpu.KEPT + 2
