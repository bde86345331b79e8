"""How scarce the host is: from the kernel's own files, and from files whose totals the test sets."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.servers import until
from watchdog.evidence.pressure import WINDOW, HostMeter, Meter
from watchdog.model import Epoch
from watchdog.reading import Pressure
from watchdog.target import Target, start_time


def ourselves() -> Epoch:
    return Epoch(os.getpid(), start_time(os.getpid()))


# --- the kernel's own files -------------------------------------------------------------------------------------------


@pytest.fixture
def crowded() -> Iterator[None]:
    """Three processes that compute, on one CPU: two of them wait all the time."""
    cpu = str(max(os.sched_getaffinity(0)))
    with ExitStack() as ending:
        for _ in range(3):
            hog = subprocess.Popen(["taskset", "--cpu-list", cpu, "sh", "-c", "while :; do :; done"])
            ending.callback(hog.wait)
            ending.callback(hog.kill)
        yield


def test_processes_that_wait_for_a_cpu_are_seen(crowded: None) -> None:
    meter = HostMeter()
    meter.sample()
    until(lambda: meter.read().window > 0, 30, "a whole window")
    pressure = meter.read()
    assert pressure.window >= WINDOW
    assert pressure.cpu_some is not None
    assert pressure.cpu_some > 0.5


def test_everything_that_this_kernel_tells_is_a_share_of_the_time() -> None:
    meter = HostMeter()
    meter.sample()
    until(lambda: meter.read().window > 0, 30, "a whole window")
    told = meter.read()
    shares = (told.cpu_some, told.memory_full, told.io_full, told.steal, told.own_delay)
    assert [share is not None and 0 <= share <= 1 for share in shares] == [True] * 5
    assert told.own_wait is not None


@pytest.fixture
def unit() -> Iterator[Path]:
    """The cgroup of a unit, as systemd would make it."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    cgroup = next(Path(words[1]) for words in mounts if words[2] == "cgroup2") / f"pressure-{os.getpid()}.service"
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        cgroup.rmdir()


@pytest.mark.parametrize("named", [lambda name: Target(unit=name), lambda name: Target(cgroup=f"/{name}")])
def test_the_pressure_in_the_service_s_cgroup_is_told_apart_from_the_host_s(
    crowded: None, unit: Path, named: Callable[[str], Target]
) -> None:
    target = named(unit.name)
    with subprocess.Popen(["sleep", "300"]) as process:
        try:
            (unit / "cgroup.procs").write_text(str(process.pid))
            meter = Meter(HostMeter())
            epoch = Epoch(process.pid, start_time(process.pid))
            until(lambda: meter.read(target, epoch).window > 0, 30, "a whole window")
            told = meter.read(target, epoch)
        finally:
            process.kill()
    assert told.unit_window >= WINDOW
    assert [share is not None and share < 0.1 for share in (told.unit_cpu_some, told.unit_memory_full)] == [True] * 2
    assert told.cpu_some is not None
    assert told.cpu_some > 0.5


def test_of_a_service_that_is_no_unit_no_cgroup_is_guessed() -> None:
    told = Meter(HostMeter()).read(Target(), ourselves())
    assert (told.unit_cpu_some, told.unit_window) == (None, 0.0)


def test_of_a_unit_that_the_process_is_not_of_nothing_is_told() -> None:
    assert Meter(HostMeter()).read(Target(unit="nobody.service"), ourselves()).unit_cpu_some is None


def test_of_a_process_that_has_ended_nothing_is_told() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert Meter(HostMeter()).read(Target(unit="web.service"), Epoch(gone.pid, 1)).unit_cpu_some is None


# --- files whose totals the test sets ---------------------------------------------------------------------------------


@dataclass
class Kernel:
    """A /proc with the totals that a test says, in seconds, and the time that it reads."""

    proc: Path
    at: float = 100.0
    totals: dict[str, float] = field(default_factory=dict)

    def tell(self, resource: str, **totals: float) -> None:
        """The totals of one of PSI's files."""
        lines = [f"{kind} avg10=0.00 avg60=0.00 avg300=0.00 total={total * 1e6:.0f}" for kind, total in totals.items()]
        (self.proc / "pressure").mkdir(exist_ok=True)
        (self.proc / "pressure" / resource).write_text("\n".join(lines))

    def own(self, ran: int, waited_ns: int, times: int) -> None:
        """What the scheduler tells of us."""
        (self.proc / "self").mkdir(exist_ok=True)
        (self.proc / "self" / "schedstat").write_text(f"{ran} {waited_ns} {times}\n")

    def meter(self) -> HostMeter:
        return HostMeter(lambda: self.at, str(self.proc))


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_a_share_is_of_the_time_since_a_whole_window_ago(kernel: Kernel) -> None:
    meter = kernel.meter()
    for at, total in ((0.0, 10.0), (1.5, 10.0), (3.0, 10.0), (3.5, 10.5)):
        kernel.at = at
        kernel.tell("cpu", some=total)
        meter.sample()
    told = meter.read()
    assert (told.at, told.window, told.cpu_some) == (3.5, 2.0, 0.25)


def test_a_reading_just_after_another_speaks_of_the_same_time(kernel: Kernel) -> None:
    meter = kernel.meter()
    kernel.tell("memory", some=5.0, full=1.0)
    meter.sample()
    kernel.at += 4.0
    kernel.tell("memory", some=9.0, full=2.0)
    first = meter.read()
    kernel.at += 0.05
    assert (first.memory_full, meter.read()) == (0.25, first)


def test_until_there_is_a_whole_window_nothing_is_told(kernel: Kernel) -> None:
    meter = kernel.meter()
    kernel.tell("io", some=0.0, full=0.0)
    meter.sample()
    kernel.at += 1.0
    kernel.tell("io", some=1.0, full=1.0)
    assert meter.read() == Pressure(kernel.at, 0.0)


def test_a_kernel_that_tells_nothing_is_not_guessed_for(kernel: Kernel) -> None:
    meter = kernel.meter()
    meter.sample()
    kernel.at += 4.0
    assert meter.read() == Pressure(kernel.at, 4.0)


def test_a_kernel_that_does_not_account_is_told_from_one_that_never_lets_us_wait(kernel: Kernel) -> None:
    meter = kernel.meter()
    kernel.own(0, 0, 0)
    meter.sample()
    kernel.at += 4.0
    assert (meter.read().own_delay, meter.read().own_wait) == (None, None)


def test_our_own_waiting_is_told_as_a_share_and_for_each_time_we_ran(kernel: Kernel) -> None:
    meter = kernel.meter()
    kernel.own(1, 0, 5)
    meter.sample()
    kernel.at += 4.0
    kernel.own(2, 1_000_000_000, 25)
    told = meter.read()
    assert (told.own_delay, told.own_wait) == (0.25, 0.05)


def test_steal_is_a_share_of_all_cpus_together(kernel: Kernel) -> None:
    meter = kernel.meter()
    (kernel.proc / "stat").write_text("cpu  100 0 100 1000 0 0 0 0 7 0\ncpu0 1 1 1 1\n")
    meter.sample()
    kernel.at += 4.0
    (kernel.proc / "stat").write_text("cpu  200 0 200 1500 0 0 0 100 9 0\ncpu0 1 1 1 1\n")
    assert meter.read().steal == pytest.approx(100 / 800)


def test_a_total_that_went_back_is_another_s(kernel: Kernel) -> None:
    meter = kernel.meter()
    kernel.tell("cpu", some=50.0)
    meter.sample()
    kernel.at += 4.0
    kernel.tell("cpu", some=1.0)
    assert replace(meter.read(), cpu_some=None) == Pressure(kernel.at, 4.0)


@pytest.mark.parametrize("text", ["", "some", "some total=x", "some avg10=0.00 total=-1\nfull", "\0\xff total=5"])
def test_a_file_in_another_form_is_none(kernel: Kernel, text: str) -> None:
    meter = kernel.meter()
    kernel.tell("cpu", some=0.0)
    meter.sample()
    kernel.at += 4.0
    (kernel.proc / "pressure" / "cpu").write_text(text)
    assert meter.read().cpu_some is None
