"""The nudge, tried on a real program: whom it reaches, whom it leaves alone, and that it never does harm."""

from __future__ import annotations

import os
import random
import re
import select
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helper.conftest import Start
from tests.helper.nobody import become_nobody, become_nobody_who_may_trace
from tests.helper.victims import Counts, Victim, until
from watchdog.evidence import rights
from watchdog.evidence.calls import epoll_wait
from watchdog.helper import threads, worker
from watchdog.helper.nudge import nudge
from watchdog.helper.ptrace import PTRACE_SEIZE, Tracer, request
from watchdog.helper.worker import Worker
from watchdog.model import Epoch

HERE = Path(__file__).parents[2]


def nudged(*epochs: Epoch) -> dict[str, Any]:
    """A nudge as the helper does it: in a worker."""
    ending = worker.run(lambda: told(*epochs), 5.0)
    assert not ending.error
    value: dict[str, Any] = ending.value
    return value


def told(*epochs: Epoch) -> dict[str, Any]:
    """What a nudge in this very process tells."""
    done = nudge(epochs)
    return {"outcome": done.outcome(), "reason": done.reason(), **done.detail()}


def refusals(result: dict[str, Any]) -> set[str]:
    """The names of what was refused."""
    return {skipped["refusal"] for skipped in result["skipped"]}


def switches(victim: Victim) -> dict[str, list[str]]:
    """How often each thread was switched, but for the main one, which answers us."""
    return {
        task.name: re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text())
        for task in victim.tasks()
        if task.name != str(victim.pid)
    }


# --- whom it reaches --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "call", "finite"),
    [
        ("wait", "epoll_wait", False),
        ("timed", "epoll_wait", True),
        ("pwait", "epoll_pwait", False),
        ("pwait2", "epoll_pwait2", False),
    ],
)
def test_every_kind_of_epoll_wait_returns_eintr_once(start: Start, kind: str, call: str, finite: bool) -> None:
    victim = start(f"{kind}:3")
    result = nudged(victim.epoch)
    assert (result["outcome"], result["nudged"], result["others"]) == ("done", 3, 1)
    assert {(thread["call"], thread["finite"]) for thread in result["threads"]} == {(call, finite)}
    until(lambda: victim.counts() == Counts(3, 0, 0), "three returns of EINTR")
    until(lambda: victim.states() == {"S"}, "asleep again")


def test_threads_in_other_calls_are_not_touched(start: Start) -> None:
    victim = start("read:2", "futex:2")
    before = switches(victim)
    result = nudged(victim.epoch)
    assert (result["outcome"], result["nudged"], result["others"]) == ("refused", 0, 5)
    assert "nothing to nudge" in result["reason"]
    assert switches(victim) == before


def test_a_thread_is_told_by_its_epoll_and_never_by_a_pointer(start: Start) -> None:
    victim = start("wait:1")
    [thread] = nudged(victim.epoch)["threads"]
    target = str(Path(f"/proc/{victim.pid}/fd/{thread['epoll_fd']}").readlink())
    assert target == "anon_inode:[eventpoll]"
    assert set(thread) == {"pid", "tid", "name", "call", "epoll_fd", "finite", "stopped_seconds"}


def test_all_processes_that_are_given_are_nudged(start: Start) -> None:
    first, second = start("wait:2"), start("wait:1")
    result = nudged(first.epoch, second.epoch)
    assert (result["nudged"], result["processes"]) == (3, 2)
    until(lambda: (first.counts().eintrs, second.counts().eintrs) == (2, 1), "each thread returned")


def test_wchan_tells_of_an_epoll_wait_where_the_file_mode_hides_the_system_call(start: Start) -> None:
    """An ambient CAP_SYS_PTRACE without CAP_DAC_READ_SEARCH: `syscall` (mode 0400) is closed, seizing is allowed."""
    victim = start("wait:2", "read:1")
    result = worker.run(lambda: _as_nobody_with_ptrace(victim.epoch), 5.0)
    assert not result.error
    assert (result.value["nudged"], result.value["others"]) == (2, 2)
    assert {thread["epoll_fd"] for thread in result.value["threads"]} == {None}


def _as_nobody_with_ptrace(epoch: Epoch) -> dict[str, Any]:
    become_nobody_who_may_trace()
    return told(epoch)


# --- whom it refuses, by name -----------------------------------------------------------------------------------------


def test_a_stopped_process_is_refused_and_stays_stopped(start: Start) -> None:
    victim = start("wait:2")
    os.kill(victim.pid, signal.SIGSTOP)
    until(lambda: victim.states() == {"T"}, "stopped")
    result = nudged(victim.epoch)
    assert result["outcome"] == "refused"
    assert refusals(result) == {"Stopped"}
    assert victim.states() == {"T"}


def test_a_traced_thread_is_refused(start: Start) -> None:
    victim = start("wait:1")
    [tid] = [task.name for task in victim.tasks() if task.name != str(victim.pid)]
    code = f"from watchdog.helper import ptrace; ptrace.request(ptrace.PTRACE_SEIZE, {tid}); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE
    ) as tracer:
        try:
            assert tracer.stdout is not None
            assert tracer.stdout.readline() == b"\n"
            result = nudged(victim.epoch)
        finally:
            tracer.kill()
    assert refusals(result) == {"AlreadyTraced"}
    assert f"process {tracer.pid} traces it" in result["reason"]
    assert nudged(victim.epoch)["nudged"] == 1


def test_a_zombie_is_refused() -> None:
    process = subprocess.Popen(["true"])
    try:
        stat = Path(f"/proc/{process.pid}/stat")
        until(lambda: ") Z " in stat.read_text(), "zombie")
        result = nudged(Epoch(process.pid, int(stat.read_text().rpartition(") ")[2].split()[19])))
    finally:
        process.wait()
    assert refusals(result) == {"Zombie"}


def test_a_kernel_thread_is_refused() -> None:
    stats = (path.read_text() for path in Path("/proc").glob("[0-9]*/stat"))
    parsed = ((int(text.split()[0]), text.rpartition(") ")[2].split()) for text in stats)
    pid, fields = next(found for found in parsed if int(found[1][6]) & threads.PF_KTHREAD)
    assert refusals(nudged(Epoch(pid, int(fields[19])))) == {"KernelThread"}


def test_a_reused_pid_is_gone(start: Start) -> None:
    victim = start("wait:1")
    result = nudged(Epoch(victim.pid, victim.epoch.start_time - 1))
    assert (result["outcome"], refusals(result)) == ("gone", {"Gone"})
    assert victim.counts().eintrs == 0


def test_a_vanished_pid_is_gone(start: Start) -> None:
    victim = start("wait:1")
    epoch = victim.epoch
    victim.process.kill()
    victim.process.wait()
    assert nudged(epoch)["outcome"] == "gone"


def test_init_is_never_touched() -> None:
    assert refusals(nudged(Epoch(1, 0))) == {"NeverATarget"}


def test_the_asker_itself_is_never_touched() -> None:
    """The parent of the worker: in life, the helper."""
    assert refusals(nudged(Epoch(os.getpid(), 0))) == {"NeverATarget"}


def test_a_user_without_rights_is_refused_and_told_so(start: Start) -> None:
    victim = start("wait:2")
    result = worker.run(lambda: _as_nobody(victim.epoch), 5.0).value
    assert refusals(result) == {"NotPermitted"}
    assert len(result["skipped"]) == 1
    assert "uid 65534" in result["reason"]
    assert victim.counts().eintrs == 0


def _as_nobody(epoch: Epoch) -> dict[str, Any]:
    become_nobody()
    return told(epoch)


@pytest.mark.parametrize(
    ("scope", "capable", "same_user", "expected"),
    [
        (0, False, True, rights.NotPermitted),
        (None, True, False, rights.NotPermitted),
        (1, False, True, rights.YamaForbids),
        (2, False, True, rights.YamaForbids),
        (2, True, True, rights.NotPermitted),
        (1, False, False, rights.NotPermitted),
        (3, True, False, rights.YamaForbids),
    ],
)
def test_missing_rights_are_told_apart(scope: int | None, capable: bool, same_user: bool, expected: type) -> None:
    """A kernel with Yama is the kernel lab's; here is what is made of its answers."""
    refusal = rights.forbidden(scope=scope, capable=capable, same_user=same_user, uid="33")
    assert type(refusal) is expected
    assert refusal.hint


# --- that it does no harm ---------------------------------------------------------------------------------------------


MEASURE = """
import gc, os, statistics, sys, time
from watchdog.helper import worker
from watchdog.helper.nudge import nudge
from watchdog.model import Epoch

epoch = Epoch(int(sys.argv[1]), int(sys.argv[2]))
gc.collect()
gc.freeze()

def stop():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    began = time.monotonic_ns()
    stops = [thread.stopped_ns for thread in nudge((epoch,)).reached]
    return statistics.median(stops), sum(stops), time.monotonic_ns() - began

for _ in range(9):
    print(*worker.run(stop, 5.0).value)
"""


@pytest.mark.parametrize("number", [1, 10, 100, 1000])
def test_threads_are_stopped_one_by_one_each_for_less_than_a_quarter_of_a_millisecond(
    start: Start, number: int
) -> None:
    """No thread stands still while another is stopped; a thread's stop, in the median of threads and nudges.

    How long the longest of a thousand stops is, the host decides as well (a virtual CPU may be taken away): that is
    measured by `make bench`. Tracer and victim run before everything else here. The worker is forked from a process as
    small as the helper: the pages of this one, which it would copy in the middle of a stop, are nobody's measure.
    """
    victim = start(f"wait:{number}")
    first_of_all(*(int(task.name) for task in victim.tasks()))
    epoch = (str(victim.epoch.pid), str(victim.epoch.start_time))
    done = subprocess.run([sys.executable, "-c", MEASURE, *epoch], capture_output=True, text=True, check=True)
    nudges = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    assert all(stops < whole for _, stops, whole in nudges)
    assert 0 < statistics.median(median for median, _, _ in nudges) < 250_000


def first_of_all(*tids: int) -> None:
    """Let these threads run before all that are not of a real-time class."""
    for tid in tids:
        os.sched_setscheduler(tid, os.SCHED_FIFO, os.sched_param(1))


def test_a_process_with_more_threads_than_are_told_is_nudged_whole(start: Start) -> None:
    victim = start("wait:1000")
    result = worker.run(lambda: nudge((victim.epoch,), deadline=20.0).detail(), 25.0).value
    assert (result["nudged"], len(result["threads"])) == (1000, 100)
    until(lambda: victim.counts().eintrs == 1000, "each thread returned")


def test_the_deadline_ends_a_nudge_that_takes_too_long(start: Start) -> None:
    victim = start("wait:500")
    done = worker.run(lambda: nudge((victim.epoch,), deadline=0.01).detail(), 5.0).value
    assert done["unfinished"]
    assert done["nudged"] < 500


def test_all_of_20_000_signals_arrive_at_a_process_nudged_without_pause(start: Start, victim_program: Path) -> None:
    victim = start("wait:4")
    nudges = 0
    with subprocess.Popen([victim_program, "send", str(victim.pid), "20000"]) as sender:
        while sender.poll() is None:
            nudges += nudged(victim.epoch)["nudged"]
    assert sender.returncode == 0
    until(lambda: victim.counts().signals == 20_000, f"all signals, but {victim.counts()}")
    assert victim.counts().repeated == 0
    assert nudges > 20


def test_signals_survive_a_tracer_that_is_killed(start: Start, victim_program: Path) -> None:
    victim = start("wait:4")
    dice = random.Random(1)
    kills = 0
    with subprocess.Popen([victim_program, "send", str(victim.pid), "20000"]) as sender:
        while sender.poll() is None:
            kills += kill_midway(victim, dice.uniform(0.0005, 0.003))
    until(lambda: victim.counts().signals == 20_000, f"all signals, but {victim.counts()}")
    assert victim.counts().repeated == 0
    assert kills > 5


def test_a_tracer_killed_between_a_signal_s_stop_and_the_detach_does_not_lose_it(start: Start) -> None:
    victim = start()
    ending = worker.run(lambda: _look_at_a_signal_and_die(victim.pid), 5.0)
    assert "signal 9" in ending.error
    assert victim.counts() == Counts(0, 1, 0)


def _look_at_a_signal_and_die(pid: int) -> None:
    with Tracer() as tracer:
        request(PTRACE_SEIZE, pid)
        os.kill(pid, signal.SIGRTMIN)
        seen = tracer._stop(pid, time.perf_counter_ns() + 2_000_000_000)
        os.kill(os.getpid(), signal.SIGKILL if seen == signal.SIGRTMIN else signal.SIGABRT)


def test_a_thread_that_does_not_stop_in_time_is_let_go_by_the_end_of_its_tracer(start: Start) -> None:
    """The parent of a vfork sleeps in state D until its child is gone."""
    victim = start("vfork")
    until(lambda: "D" in victim.states(), "in vfork")
    ending = worker.run(lambda: _nudge_thread(victim.pid), 5.0)
    assert ending.error.startswith("NotStopped: ")
    assert victim.process.communicate(timeout=5.0)[0] == "on\n"
    assert victim.process.returncode == 0


def _nudge_thread(tid: int) -> int:
    with Tracer() as tracer:
        return tracer.nudge(tid, lambda: True, 0.05)


def test_a_thread_that_has_left_its_epoll_wait_is_not_interrupted(start: Start) -> None:
    victim = start("read:1")
    before = switches(victim)
    [tid] = map(int, before)
    ending = worker.run(lambda: _nudge_if_it_waits(victim.pid, tid), 5.0)
    assert ending.error.startswith("Awake: ")
    assert switches(victim) == before


def _nudge_if_it_waits(pid: int, tid: int) -> int:
    task = os.open(f"/proc/{pid}/task/{tid}", os.O_PATH)
    with Tracer() as tracer:
        return tracer.nudge(tid, lambda: epoll_wait(task) is not None, 1.0)


def test_a_nudge_killed_at_any_moment_leaves_every_thread_running(start: Start) -> None:
    victim = start("wait:200")
    dice = random.Random(2)
    kills = sum(kill_midway(victim, dice.uniform(0.0005, 0.02)) for _ in range(60))
    until(lambda: victim.states() == {"S"}, f"all threads run, but {victim.states()}")
    assert not victim.traced()
    assert kills > 20
    before = victim.counts().eintrs
    assert nudged(victim.epoch)["nudged"] == 200
    until(lambda: victim.counts().eintrs == before + 200, "each thread answers")


def kill_midway(victim: Victim, after_s: float) -> bool:
    """Kill a worker in the middle of its nudge; whether it was not done yet."""
    tracer = Worker(lambda: told(victim.epoch), 5.0)
    ready = select.select([tracer.pipe], [], [], after_s)[0]
    tracer.overrun()
    assert tracer.reap(5.0)
    return not ready
