"""What a reading shows of a service, in the words that the rules of the diagnosis ask in. Pure.

Rules of this file: a symptom is claimed only where every sample shows it; what was not read is no symptom. Which
threads serve the sockets the baseline tells; without one, those that wait in epoll; without any, each process' first.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from watchdog.proof import EPOLL_SLEEP
from watchdog.reading import Baseline, Epoll, Family, Process, Queue, Reading, Sample, Thread, Watch
from watchdog.stretch import ENDED

RUNS = 0.8  # share of the time that a loop which never rests is runnable, with a CPU or without
STARVED = 0.8  # share of the time that a runnable thread is without a CPU
CRUMBS = 0.2  # of a CPU: who gets less is starved, who gets more and never rests is busy

Trace = tuple[Thread, ...]  # one thread, in every sample


@dataclass(frozen=True, slots=True)
class Symptoms:
    """A reading and the baseline to read it by; `loops` are the threads that serve the sockets.

    `asked` are the addresses that the probes ask, as the kernel writes those of listeners, where that is known.
    """

    reading: Reading
    baseline: Baseline | None
    asked: Collection[str] = ()
    samples: tuple[Sample, ...] = field(init=False)
    loops: tuple[Trace, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", self.reading.samples)
        object.__setattr__(self, "loops", tuple(_loops(self.reading.samples, self.baseline)))

    # --- threads ------------------------------------------------------------------------------------------------------

    @property
    def informed(self) -> bool:
        """Whether the kernel told what the threads do: two samples or more, with system calls; who runs is in none."""
        living = [x for x in self.samples[-1].threads if x.state not in ENDED] if len(self.samples) > 1 else []
        return any(thread.call for thread in living) or bool(living and all(thread.state == "R" for thread in living))

    @property
    def span(self) -> float:
        """Seconds from the first sample to the last."""
        return self.samples[-1].began - self.samples[0].began if self.samples else 0.0

    def paused(self) -> str | None:
        """Who serves the sockets is stopped, frozen or traced in every sample; where that is not known, anybody is."""
        if len(self.samples) < 2:
            return None
        known = self.baseline is not None and self.baseline.waiters
        for trace in self.loops if known else _traces(self.samples):
            who = f"thread {trace[-1].tid} ({trace[-1].name})"
            if all(_frozen(sample, trace[-1].pid) for sample in self.samples):
                return f"the cgroup of process {trace[-1].pid} is frozen"
            if all(thread.tracer for thread in trace):
                return f"{who} is traced by process {trace[-1].tracer}"
            if all(thread.state in "Tt" for thread in trace):
                return f"{who} is stopped (state {trace[-1].state})"
        return None

    def stuck(self) -> Thread | None:
        """A loop's thread that sleeps uninterruptibly in every sample."""
        return next((t[-1] for t in self.loops if len(t) > 1 and all(x.state == "D" for x in t)), None)

    def busy(self) -> Thread | None:
        """A loop's thread that burns what CPU it gets, and never rests."""
        return next((trace[-1] for trace in self.loops if self._burns(trace)), None)

    def _burns(self, trace: Trace) -> bool:
        used = self.cpu_share(trace)
        runnable = used + self._delayed(trace)
        return used >= CRUMBS and (runnable >= RUNS or all(thread.state == "R" for thread in trace))

    def starved(self) -> Thread | None:
        """A loop's thread that wants to run, and mostly gets no CPU: once it has one the kernel tells for how long."""
        return next((trace[-1] for trace in self.loops if self.span and self._starves(trace)), None)

    def _starves(self, trace: Trace) -> bool:
        if self.cpu_share(trace) >= CRUMBS:
            return False
        return self._delayed(trace) >= STARVED or all(thread.state == "R" for thread in trace)

    def _delayed(self, trace: Trace) -> float:
        """How much of the time the thread was runnable without a CPU, 0 to 1."""
        return (trace[-1].delayed - trace[0].delayed) / self.span if self.span else 0.0

    def cpu_share(self, trace: Trace) -> float:
        """How much of a CPU the thread used, 0 to 1."""
        return (trace[-1].cpu - trace[0].cpu) / self.span if self.span else 0.0

    def in_epoll(self) -> tuple[Trace, ...]:
        """The threads that wait in epoll in some sample, whoever they are."""
        return tuple(trace for trace in _traces(self.samples) if any(thread.waits_in_epoll for thread in trace))

    def asleep(self) -> tuple[Trace, ...]:
        """The threads that sleep in one and the same epoll wait, without a time-out, in every sample."""
        return tuple(
            trace
            for trace in self.in_epoll()
            if all(x.state == "S" and x.waits_in_epoll and not x.finite for x in trace)
            and len({x.switches for x in trace}) == 1
            and all(x.wchan in EPOLL_SLEEP or not x.wchan for x in trace)
        )

    def blocked(self) -> tuple[Trace, ...]:
        """The loops' threads, where in no sample one of them waits in epoll or runs: all sleep in something else."""
        states = {"" if thread.waits_in_epoll else thread.state for trace in self.loops for thread in trace}
        return self.loops if states <= {"S", "D"} else ()

    # --- descriptors --------------------------------------------------------------------------------------------------

    def at_fd_limit(self) -> Process | None:
        """A process that serves the sockets and has no descriptor left, in every sample."""
        full = [{process.pid for process in sample.processes if _full(process)} for sample in self.samples]
        last = self.samples[-1].processes if self.samples else ()
        serving = {trace[-1].pid for trace in self.loops}
        return next((p for p in last if p.pid in serving and all(p.pid in pids for pids in full)), None)

    # --- queues -------------------------------------------------------------------------------------------------------

    def listeners(self) -> tuple[Queue, ...]:
        """The service's listening sockets, as last read: those that the probes ask, where they can be told apart."""
        return self.asked_listeners() or self.all_listeners()

    def asked_listeners(self) -> tuple[Queue, ...]:
        """Those that are surely asked: a probe may name a host, and a listener never does."""
        return tuple(queue for queue in self.all_listeners() if queue.reached_by(self.asked))

    @property
    def listed(self) -> bool:
        """Whether all of the service's listeners are known: its sockets, and the kernel's list of listeners."""
        told = bool(self.samples) and bool(self.samples[-1].sockets)
        return told and not any("listeners" in lack.what for lack in self.reading.lacks)

    def at_asked_ports(self) -> tuple[Queue, ...]:
        """Listeners at a port that a probe asks, by whatever name it calls the host."""
        ports = {address.rpartition(":")[2] for address in self.asked if not address.startswith(("/", "@"))}
        return tuple(
            queue
            for queue in self.all_listeners()
            if queue.family is Family.TCP and queue.address.rpartition(":")[2] in ports
        )

    def all_listeners(self) -> tuple[Queue, ...]:
        """All of the service's listening sockets, as last read."""
        return self.reading.queues[-1].queues if self.reading.queues else ()

    def filled(self) -> tuple[Queue, ...]:
        """Listeners before which connections stood at every moment."""
        return tuple(
            queue
            for queue in self.listeners()
            if all((then := moment.of(queue.inode)) is not None and then.length for moment in self.reading.queues)
        )

    def drained(self) -> Queue | None:
        """A listener whose queue became shorter: somebody takes connections."""
        for queue in self.listeners():
            found = [moment.of(queue.inode) for moment in self.reading.queues]
            lengths = [then.length for then in found if then is not None]
            if any(after < before for before, after in itertools.pairwise(lengths)):
                return queue
        return None

    def accepted(self) -> bool:
        """Whether a connection was taken between the beginning and the end of the reading."""
        waiting = {(stream.local, stream.peer) for stream in self.reading.streams if not stream.inode}
        return any(stream.inode and (stream.local, stream.peer) in waiting for stream in self.reading.streams_after)

    # --- who watches the queues ---------------------------------------------------------------------------------------

    def overlooked(self, queue: Queue) -> str | None:
        """Why no epoll tells of the connections that wait there, although its waiters are sound; None: it does."""
        entries = [list(_entries(sample, queue.inode)) for sample in self.samples if sample.epolls]
        if not any(entries):
            before = self.baseline.epolls if self.baseline is not None else ()
            watched = any(watch.inode == queue.inode for epoll in before for watch in epoll.watches)
            # A server that has enough to do may let new clients wait on purpose (HAProxy at its maxconn does).
            forgotten = watched and self._all_entries_known() and self.asleep()
            return f"no epoll watches {queue.address} any more" if forgotten else None
        if not any(watch.armed for found in entries for _, watch in found):
            return f"{queue.address} is watched, but not armed (a ONESHOT that was not set again)"
        copies = [self._copies(epoll) for epoll, _ in entries[-1]]
        if copies and all(found and not any(found) for found in copies):
            return f"{queue.address} has connections and is in no ready list: its edge was consumed"
        return None

    def _all_entries_known(self) -> bool:
        epolls = self.samples[-1].epolls
        return bool(epolls) and not any(epoll.omitted for epoll in epolls)

    def _copies(self, epoll: Epoll) -> list[bool]:
        """What each copy of it said."""
        found = [x.readable for sample in self.reading.touched for x in sample.epolls if x.key == epoll.key]
        return [readable for readable in found if readable is not None]


def _frozen(sample: Sample, pid: int) -> bool:
    return any(process.pid == pid and process.frozen for process in sample.processes)


def _full(process: Process) -> bool:
    return process.fds is not None and process.fd_limit is not None and process.fds >= process.fd_limit


def _entries(sample: Sample, inode: int) -> Iterator[tuple[Epoll, Watch]]:
    for epoll in sample.epolls:
        for watch in epoll.watches:
            if watch.inode == inode:
                yield epoll, watch


def _traces(samples: tuple[Sample, ...]) -> Iterator[Trace]:
    """Every living thread that is in all samples."""
    found = [{thread.key: thread for thread in sample.threads} for sample in samples]
    for key, last in found[-1].items() if found else ():
        if last.state not in ENDED and all(key in threads for threads in found):
            yield tuple(threads[key] for threads in found)


def _loops(samples: tuple[Sample, ...], baseline: Baseline | None) -> list[Trace]:
    traces = list(_traces(samples))
    known = {waiter.thread for waiter in baseline.waiters} if baseline is not None else set()
    serving = [trace for trace in traces if trace[-1].key in known]
    waiting = [trace for trace in traces if any(thread.waits_in_epoll for thread in trace)]
    return serving or waiting or [trace for trace in traces if trace[-1].tid == trace[-1].pid]
