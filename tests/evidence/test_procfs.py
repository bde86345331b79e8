"""Samples of real programs: that they say what the program is and has, and that they wake nobody."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests import servers
from tests.evidence.watcher import watcher
from tests.helper.conftest import Start
from tests.helper.nobody import NOBODY, become_nobody, become_nobody_who_may_trace
from tests.helper.victims import Victim, until
from tests.stall import LINE, is_dark, thread_states
from watchdog.demo.child import service
from watchdog.evidence.procfs import Limits, sample
from watchdog.helper import worker
from watchdog.helper.protocol import MAX_REPLY, Reply, encode_reply, plain
from watchdog.model import Epoch, Outcome
from watchdog.reading import Epoll, Lack, Process, Sample, Thread, Watch
from watchdog.target import Gone, descendants, start_time

ALWAYS = 0x018  # EPOLLERR and EPOLLHUP are watched for whether they were asked for or not (epoll_ctl(2))
ROOT = Path(__file__).parents[2]


def epoch_of(pid: int) -> Epoch:
    """This life of the process."""
    return Epoch(pid, start_time(pid))


def but_main(read: Sample, victim: Victim) -> list[Thread]:
    """The threads that wait in what they were made for."""
    return [thread for thread in read.threads if thread.tid != victim.pid]


def entries(read: Sample, epfd: int) -> dict[int, Watch]:
    """What that epoll watches, by descriptor."""
    [epoll] = [epoll for epoll in read.epolls if epoll.fd == epfd]
    return {watch.fd: watch for watch in epoll.watches}


def listening_inode(port: int) -> int:
    """Of the TCP socket that listens there, as the kernel's own table has it."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return next(int(row[9]) for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A")


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "call", "finite"),
    [
        ("wait", "epoll_wait", False),
        ("timed", "epoll_wait", True),
        ("pwait", "epoll_pwait", False),
        ("pwait2", "epoll_pwait2", False),
        ("timed2", "epoll_pwait2", True),
    ],
)
def test_every_kind_of_epoll_wait_is_told_with_its_epoll(start: Start, kind: str, call: str, finite: bool) -> None:
    victim = start(f"{kind}:3")
    read = sample([victim.epoch])
    threads = but_main(read, victim)
    assert {(thread.call, thread.finite, thread.state) for thread in threads} == {(call, finite, "S")}
    assert {thread.epfd for thread in threads} == {epoll.fd for epoll in read.epolls}
    assert {thread.wchan for thread in threads} <= {"ep_poll", "do_epoll_wait"}
    assert len(read.epolls) == 3
    assert read.lacks == ()


def test_a_thread_that_runs_is_in_no_call() -> None:
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as busy:
        try:
            before = sample([epoch_of(busy.pid)]).threads[0]
            until(lambda: sample([epoch_of(busy.pid)]).threads[0].cpu > before.cpu + 0.01, "CPU time")
            [thread] = sample([epoch_of(busy.pid)]).threads
        finally:
            busy.kill()
    assert (thread.state, thread.call, thread.wchan) == ("R", "", "")
    assert (thread.name, thread.pid, thread.tid) == ("sh", busy.pid, busy.pid)


def test_a_thread_that_sleeps_uninterruptibly_is_told_so(start: Start) -> None:
    victim = start("vfork")
    until(lambda: "D" in victim.states(), "in vfork")
    [thread] = sample([victim.epoch]).threads
    assert (thread.state, thread.call) == ("D", "vfork")
    victim.process.communicate(timeout=5.0)


def test_times_and_switches_are_the_kernel_s(start: Start) -> None:
    victim = start("wait:1")
    [thread] = but_main(sample([victim.epoch]), victim)
    task = Path(f"/proc/{victim.pid}/task/{thread.tid}")
    ran, waited, _ = map(int, (task / "schedstat").read_text().split())
    counts = re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text())
    assert (thread.cpu, thread.delayed) == (ran / 1e9, waited / 1e9)
    assert thread.switches == sum(map(int, counts)) > 0
    assert thread.started == start_time(thread.tid)


def test_a_process_whose_first_thread_has_ended_is_told_by_the_others(start: Start) -> None:
    victim = start("wait:2", "leave:1")
    until(lambda: "Z" in victim.states(), "the main thread has ended")
    read = sample([victim.epoch])
    assert sorted(thread.state for thread in read.threads) == ["S", "S", "Z"]
    assert {thread.epfd for thread in but_main(read, victim)} == {epoll.fd for epoll in read.epolls}
    assert read.processes[0].fds == len(read.epolls) + 3
    assert read.lacks == ()


def test_a_process_that_is_traced_is_told_with_its_tracer(start: Start) -> None:
    victim = start("wait:1")
    code = f"from watchdog.helper import ptrace; ptrace.request(ptrace.PTRACE_SEIZE, {victim.pid}); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as tracer:
        try:
            assert tracer.stdout is not None
            assert tracer.stdout.readline() == b"\n"
            read = sample([victim.epoch])
        finally:
            tracer.kill()
    assert {(thread.tid == victim.pid, thread.tracer) for thread in read.threads} == {(True, tracer.pid), (False, 0)}
    assert read.lacks == ()


def test_a_stopped_process_is_told_so(start: Start) -> None:
    victim = start("wait:2")
    os.kill(victim.pid, signal.SIGSTOP)
    until(lambda: victim.states() == {"T"}, "stopped")
    assert {thread.state for thread in sample([victim.epoch]).threads} == {"T"}


def test_no_pointer_leaves_the_reading(start: Start) -> None:
    victim = start("wait:1", "futex:1", "accept:1")
    told = encode_reply(Reply(1, Outcome.DONE, "", plain(sample([victim.epoch])))).decode()
    calls = [(task / "syscall").read_text().split() for task in victim.tasks()]
    pointers = {word for call in calls for word in call[1:] if int(word, 16) > 0xFFFFFFFF}
    assert len(pointers) > 6
    assert not [word for word in pointers if word in told or str(int(word, 16)) in told]


# --- processes --------------------------------------------------------------------------------------------------------


def test_descriptors_limit_and_network_namespace_are_the_process_own(start: Start) -> None:
    victim = start("wait:4")
    resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, (512, 4096))
    [process] = sample([victim.epoch]).processes
    here = Path(f"/proc/{victim.pid}")
    assert (process.pid, process.started) == (victim.pid, victim.epoch.start_time)
    assert (process.fds, process.fd_limit) == (len(list((here / "fd").iterdir())), 512)
    assert process.net_ns == (here / "ns/net").stat().st_ino
    assert not process.frozen


def test_another_network_namespace_has_another_inode() -> None:
    with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as other:
        try:
            ours = Path("/proc/self/ns/net").stat().st_ino
            until(lambda: Path(f"/proc/{other.pid}/ns/net").stat().st_ino != ours, "in its namespace")
            [process] = sample([epoch_of(other.pid)]).processes
            assert process.net_ns == Path(f"/proc/{other.pid}/ns/net").stat().st_ino
        finally:
            other.kill()


def test_another_life_of_a_process_and_one_that_has_ended_are_left_out(start: Start) -> None:
    there, gone = start("wait:1"), start("wait:1")
    epochs = [Epoch(there.pid, there.epoch.start_time + 1), gone.epoch, there.epoch]
    gone.process.kill()
    gone.process.wait()
    read = sample(epochs)
    assert [process.pid for process in read.processes] == [there.pid]
    assert {thread.pid for thread in read.threads} == {there.pid}


def test_a_zombie_is_left_out() -> None:
    process = subprocess.Popen(["true"])
    try:
        until(lambda: ") Z " in Path(f"/proc/{process.pid}/stat").read_text(), "zombie")
        read = sample([epoch_of(process.pid)])
    finally:
        process.wait()
    assert (read.processes, read.threads, read.lacks) == ((), (), ())


def test_threads_and_processes_that_end_meanwhile_do_no_harm() -> None:
    code = "import threading\nwhile True: threading.Thread(target=int).start()"
    shell = ["sh", "-c", f"{sys.executable} -c '{code}' & while :; do /bin/true; done"]
    with subprocess.Popen(shell, process_group=0) as busy:
        try:
            until(lambda: len(descendants(busy.pid)) > 1, "its children")
            reads: list[Sample] = []
            tids: set[int] = set()

            def many_came_and_went() -> bool:
                reads.append(sample(list(lives(busy.pid, *descendants(busy.pid)))))
                tids.update(thread.tid for thread in reads[-1].threads)
                return len(reads) > 200 and len(tids) > 50

            servers.until(many_came_and_went, 60, "threads that came and went")
        finally:
            os.killpg(busy.pid, signal.SIGKILL)
    assert {lack for read in reads for lack in read.lacks} == set()


def lives(*pids: int) -> Iterator[Epoch]:
    """Of those that are still there."""
    for pid in pids:
        with contextlib.suppress(Gone):
            yield epoch_of(pid)


# --- epolls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("level", 0x001),
        ("edge", 0x80002001),
        ("exclusive", 0x10000001),
        ("oneshot", 0x40000001),
    ],
)
def test_an_entry_is_told_with_its_events_and_its_socket(name: str, events: int) -> None:
    with watcher() as program:
        read = sample([program.epoch])
    fd, inode = program.entries[name]
    watch = entries(read, program.epolls["loop"])[fd]
    assert watch == Watch(fd, events | ALWAYS, inode)
    assert watch.armed
    assert (watch.level, watch.exclusive) == (name == "level", name == "exclusive")
    assert inode in read.sockets


def test_a_oneshot_that_has_fired_is_not_armed() -> None:
    with watcher() as program:
        watch = entries(sample([program.epoch]), program.epolls["loop"])[program.entries["fired"][0]]
    assert (watch.events, watch.armed) == (0x40000000, False)


def test_who_waits_on_which_epoll_is_what_the_program_says() -> None:
    with watcher() as program:
        read = sample([program.epoch])
    waits = {thread.epfd: thread.finite for thread in read.threads if thread.waits_in_epoll}
    assert waits == {program.epolls["loop"]: False, program.epolls["timed"]: True}
    assert {epoll.fd for epoll in read.epolls} == set(program.epolls.values())
    assert entries(read, program.epolls["idle"]) == {}
    assert all(epoll.readable is None for epoll in read.epolls)


def test_both_workers_of_nginx_wait_on_an_epoll_that_watches_its_listener(tmp_path: Path) -> None:
    with servers.nginx(tmp_path, workers=2) as nginx:
        until(lambda: thread_states(nginx.children()[0]) == thread_states(nginx.children()[1]) == {"S"}, "asleep")
        listener = listening_inode(nginx.port)
        workers = nginx.children()
        read = sample([epoch_of(pid) for pid in (nginx.pid, *workers)])
    waits = [thread for thread in read.threads if thread.waits_in_epoll]
    assert {(thread.pid, thread.finite) for thread in waits} == {(pid, False) for pid in workers}
    watched = [
        (watch.armed, watch.exclusive)
        for epoll in read.epolls
        if (epoll.pid, epoll.fd) in {(thread.pid, thread.epfd) for thread in waits}
        for watch in epoll.watches
        if watch.inode == listener
    ]
    assert watched == [(True, True)] * 2


def test_redis_waits_with_a_time_out_on_an_epoll_that_watches_its_listener(redis: servers.Redis) -> None:
    until(lambda: thread_states(redis.pid) == {"S"}, "asleep")
    read = sample([epoch_of(redis.pid)])
    [wait] = [thread for thread in read.threads if thread.waits_in_epoll]
    [watch] = [
        watch
        for epoll in read.epolls
        if epoll.fd == wait.epfd
        for watch in epoll.watches
        if watch.inode == listening_inode(redis.port)
    ]
    assert (wait.tid, wait.finite, watch.armed, watch.level) == (redis.pid, True, True, True)
    assert {thread.call for thread in read.threads if thread is not wait} == {"futex"}


# --- what wakes nobody ------------------------------------------------------------------------------------------------


def test_a_stalled_service_is_still_stalled_after_200_readings(tmp_path: Path) -> None:
    with service(tmp_path) as stalled:
        stalled.lose_wakeup()
        assert stalled.next_event().name == "lost"
        until(lambda: thread_states(stalled.pid) == {"S"}, "asleep")
        epoch = epoch_of(stalled.pid)
        host, port = stalled.addresses.tcp.split(":")
        before = sample([epoch])
        assert is_dark((host, int(port)), LINE[0])
        reads = [sample([epoch]) for _ in range(200)]
        assert is_dark((host, int(port)), LINE[0])
        assert stalled.events() == []
    loop = {thread.name: (thread.switches, thread.cpu, thread.epfd) for thread in before.threads}
    assert {name for name, (_, _, epfd) in loop.items() if epfd is not None} == {"loop"}
    assert [{thread.name: (thread.switches, thread.cpu, thread.epfd) for thread in read.threads} for read in reads] == [
        loop
    ] * 200
    assert entries(reads[-1], loop["loop"][2] or 0) == {}


# --- what may not be read ---------------------------------------------------------------------------------------------


def read_as(become: Callable[[], None], epoch: Epoch) -> Sample:
    """A sample read by somebody else."""

    def read() -> str:
        become()
        return msgspec.json.encode(sample([epoch])).decode()

    ending = worker.run(read, 5.0)
    assert not ending.error
    return msgspec.json.decode(ending.value, type=Sample)


def test_without_rights_the_reason_is_told_once_and_what_needs_none_is_there(start: Start) -> None:
    victim = start("wait:3")
    theirs, ours = read_as(become_nobody, victim.epoch), sample([victim.epoch])
    assert [lack.what for lack in theirs.lacks] == [f"system calls and descriptors of process {victim.pid}"]
    assert theirs.lacks[0].reason.startswith(f"it runs as uid 0, we as uid {NOBODY} without CAP_SYS_PTRACE: run it as")
    assert (theirs.epolls, theirs.sockets) == ((), ())
    assert {(thread.call, thread.epfd, thread.wchan) for thread in theirs.threads} == {("", None, "")}
    assert [told_to_all(thread) for thread in theirs.threads] == [told_to_all(thread) for thread in ours.threads]
    assert theirs.processes == (Process(**(plain(ours.processes[0]) | {"net_ns": 0})),)


def told_to_all(thread: Thread) -> tuple[object, ...]:
    """What needs no rights; but for the times, which go on."""
    return thread.pid, thread.tid, thread.started, thread.name, thread.state, thread.switches, thread.tracer


def test_where_the_mode_of_a_file_hides_the_call_wchan_tells_of_the_epoll_wait(start: Start) -> None:
    victim = start("wait:2", "read:1")
    read = read_as(become_nobody_who_may_trace, victim.epoch)
    assert (
        sorted((thread.call, thread.epfd) for thread in read.threads) == [("", None)] * 2 + [("epoll_wait", None)] * 2
    )
    [lack] = read.lacks
    assert lack.reason.startswith(f"it runs as uid 0, we as uid {NOBODY} without CAP_DAC_READ_SEARCH")


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_what_lies_beyond_a_bound_is_told(start: Start) -> None:
    victim = start("wait:5", "read:1")
    limits = Limits(processes=1, threads=3, epolls=4, sockets=0)
    with watcher() as program:
        read = sample([victim.epoch, program.epoch], limits)
        few = sample([program.epoch], Limits(watches=3, all_watches=4, sockets=2))
    assert [lack.what for lack in read.lacks] == [
        f"4 threads of process {victim.pid}",
        f"2 epolls of process {victim.pid}",
        "1 processes",
    ]
    assert (len(read.processes), len(read.threads), len(read.epolls)) == (1, 3, 4)
    assert (read.whole, few.whole) == (False, True)
    told = {epoll.fd: (len(epoll.watches), epoll.omitted) for epoll in few.epolls}
    assert told == {program.epolls["loop"]: (3, 2)} | dict.fromkeys(
        (program.epolls["timed"], program.epolls["idle"]), (0, 0)
    ) | {program.epolls["ready"]: (1, 2)}
    assert min(few.epolls[0].watches).fd == program.entries["level"][0]
    assert len(few.sockets) == 2


def test_a_reading_that_takes_too_long_ends_and_tells_so(start: Start) -> None:
    victim = start("wait:5")
    read = sample([victim.epoch], deadline=0.0)
    assert (read.threads, read.epolls, read.whole) == ((), (), False)
    assert read.lacks == (Lack("the last threads or epolls", "reading took too long: the host is overloaded"),)
    assert read.processes[0].fd_limit is not None


def test_a_sample_at_its_limits_fits_a_line() -> None:
    most, big = Limits(), 4_194_303
    thread = Thread(
        pid=big, tid=big, started=10**10, name="é" * 7 + "x", state="S", call="clock_nanosleep", epfd=big, finite=False,
        wchan="poll_schedule_timeout.constprop.0", switches=10**11, cpu=123456.123456789, delayed=123456.123456789,
        tracer=big,
    )  # fmt: skip
    watch = Watch(1 << 20, 0xFFFFFFFF, 0xFFFFFFFF)
    epolls = [Epoll(big, 1 << 20, (), big, False) for _ in range(most.epolls)]
    read = Sample(
        began=1e9 + 1e-7,
        ended=1e9 + 1e-7,
        processes=(Process(big, 10**10, 1 << 20, 1 << 20, False, 0xFFFFFFFF),) * most.processes,
        threads=(thread,) * most.threads,
        epolls=(Epoll(big, 1 << 20, (watch,) * most.all_watches, big, True), *epolls),
        sockets=(0xFFFFFFFF,) * most.sockets,
        lacks=(Lack("x" * 60, "x" * 200),) * most.processes,
    )
    assert len(encode_reply(Reply(1, Outcome.DONE, "", plain(read)))) < MAX_REPLY
