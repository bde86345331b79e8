"""One sample of a service's processes, from /proc: what each thread does, what each epoll watches. Wakes nobody.

Rules: a process and a thread are read by their open directories (`pinned`); what ends meanwhile is left out. All
threads are read first, then what the epolls watch: `proof.py` rests on that order. What may not be read is a `Lack`,
once a process, and what needs no rights is there all the same. Nothing is without a bound, so that a sample fits a
reply's line whatever a process does; what lies beyond a bound is told. No instruction or stack pointer, no pointer
argument and no command line gets into a sample.

Sources: proc(5), proc_pid_limits(5), namespaces(7).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from watchdog.evidence.descriptors import LINKS, count_without_rights, descriptors, watches
from watchdog.evidence.freezer import Freezer, NoHierarchy
from watchdog.evidence.pinned import now, open_directory, pinned, read
from watchdog.evidence.rights import explain
from watchdog.evidence.tasks import ENDED, Tasks, tasks
from watchdog.model import Epoch
from watchdog.reading import Epoll, Lack, Process, Sample
from watchdog.target import Gone, Refusal

DEADLINE = 0.7  # seconds, so that there is time left to tell within the helper's deadline of 1 s


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one sample holds at most; so much fits a reply's line (`helper.protocol.MAX_REPLY`)."""

    processes: int = 256
    threads: int = 2000
    epolls: int = 512
    watches: int = 4096  # of one epoll
    all_watches: int = 8192
    sockets: int = 8192


def sample(epochs: Sequence[Epoch], limits: Limits | None = None, deadline: float = DEADLINE) -> Sample:
    """These processes, now, for at most `deadline` seconds; what goes wrong with one of them is told, not raised."""
    sampling = _Sampling(limits or Limits(), time.monotonic() + deadline)
    began = now()
    most = sampling.limits.processes
    with contextlib.ExitStack() as held:
        processes = []
        for epoch in epochs[:most]:
            with contextlib.suppress(Gone):
                processes.append(_Process(epoch.pid, epoch.start_time, held.enter_context(pinned(epoch))))
        for step in (sampling.read_threads, sampling.read_belongings):
            for process in processes:
                with contextlib.suppress(Gone, FileNotFoundError, ProcessLookupError):
                    step(process)
    sampling.omit(len(epochs) - most, "processes", most)
    sampling.whole &= len(epochs) <= most
    return sampling.sample(began, processes)


@dataclass(slots=True)
class _Process:
    """A process, its open /proc/PID, and what was read of it."""

    pid: int
    started: int
    directory: int
    tasks: Tasks = field(default_factory=Tasks)
    hidden: dict[str, Refusal] = field(default_factory=dict)  # what may not be read, and why
    told: Process | None = None  # None: it ended meanwhile


@dataclass(slots=True)
class _Sampling:
    """A sample in the making."""

    limits: Limits
    until: float  # time.monotonic
    freezer: Freezer = field(default_factory=Freezer)
    threads: int = 0
    watches: int = 0
    epolls: list[Epoll] = field(default_factory=list)
    sockets: set[int] = field(default_factory=set)
    lacks: list[Lack] = field(default_factory=list)
    late: bool = False
    whole: bool = True  # no process and no thread was left out

    def omit(self, number: int, what: str, most: int) -> None:
        """Tell what was left out, if any."""
        if number > 0:
            self.lacks.append(Lack(f"{number} {what}", f"no more than {most} are read"))

    def read_threads(self, process: _Process) -> None:
        """What all its threads do. Raises `Gone`, `OSError`: it has ended."""
        found = tasks(process.pid, process.directory, self.limits.threads - self.threads, self.until)
        process.tasks = found
        self.threads += len(found.threads)
        self.late |= found.late
        self.whole &= not (found.late or found.omitted)
        self.omit(found.omitted, f"threads of process {process.pid}", self.limits.threads)
        if found.refusal is not None:
            process.hidden["system calls"] = found.refusal

    def read_belongings(self, process: _Process) -> None:
        """What it has open, and what else there is to tell of it. Raises `Gone`, `OSError`: it has ended."""
        frozen, net_ns, fds = False, 0, None
        try:
            frozen = self.freezer.freezes(process.directory)
        except NoHierarchy as refusal:
            process.hidden["freezing"] = refusal
        try:
            with _owner(process) as owner:
                net_ns = _inode(os.readlink("ns/net", dir_fd=owner))
                fds = self._read_descriptors(process, owner)
        except PermissionError:
            process.hidden["descriptors"] = explain(process.directory)
            fds = count_without_rights(process.directory)
        limit = _fd_limit(read(process.directory, "limits"))
        process.told = Process(process.pid, process.started, fds, limit, frozen=frozen, net_ns=net_ns)

    def _read_descriptors(self, process: _Process, owner: int) -> int | None:
        if self._overdue():
            return None
        found = descriptors(owner, process.tasks.waited_on)
        self.sockets.update(found.sockets)
        self.omit(found.omitted, f"descriptors of process {process.pid}", LINKS)
        room = self.limits.epolls - len(self.epolls)
        self.omit(len(found.epolls) - room, f"epolls of process {process.pid}", self.limits.epolls)
        for epfd in found.epolls[:room]:
            if self._overdue():
                break
            self._read_epoll(process.pid, owner, epfd)
        return found.count

    def _overdue(self) -> bool:
        self.late |= time.monotonic() >= self.until
        return self.late

    def _read_epoll(self, pid: int, owner: int, epfd: int) -> None:
        entries = watches(owner, epfd)
        if entries is not None:
            room = min(self.limits.watches, self.limits.all_watches - self.watches)
            kept = tuple(entries[:room])
            self.watches += len(kept)
            self.epolls.append(Epoll(pid, epfd, kept, len(entries) - len(kept)))

    def sample(self, began: float, processes: Sequence[_Process]) -> Sample:
        """What was read of those that are still there."""
        self.omit(len(self.sockets) - self.limits.sockets, "sockets", self.limits.sockets)
        if self.late:
            self.lacks.append(Lack("the last threads or epolls", "reading took too long: the host is overloaded"))
        there = {process.pid: process for process in processes if process.told is not None}
        return Sample(
            began=began,
            ended=now(),
            processes=tuple(process.told for process in there.values() if process.told is not None),
            threads=tuple(thread for process in there.values() for thread in process.tasks.threads),
            epolls=tuple(epoll for epoll in self.epolls if epoll.pid in there),
            sockets=tuple(sorted(self.sockets)[: self.limits.sockets]),  # the oldest: listeners
            lacks=(*self.lacks, *(lack for process in there.values() for lack in _lacks(process))),
            whole=self.whole,
        )


@contextlib.contextmanager
def _owner(process: _Process) -> Iterator[int]:
    """Who has what the process has: its first thread or, where that one has ended, another one."""
    threads = process.tasks.threads
    alive = next((thread.tid for thread in threads if thread.state not in ENDED), process.pid)
    if not threads or threads[0].tid == alive:
        yield process.directory
        return
    task = open_directory(f"task/{alive}", process.directory)
    try:
        yield task
    finally:
        os.close(task)


def _lacks(process: _Process) -> Iterator[Lack]:
    """One for each reason."""
    reasons: dict[str, list[str]] = {}
    for what, refusal in process.hidden.items():
        reasons.setdefault(f"{refusal}: {refusal.hint}", []).append(what)
    for reason, parts in reasons.items():
        yield Lack(f"{' and '.join(parts)} of process {process.pid}", reason)


def _fd_limit(limits: bytes) -> int:
    """The soft RLIMIT_NOFILE in a `limits` file. It is always a number: fs.nr_open bounds it (setrlimit(2))."""
    name = b"Max open files"
    return int(limits[limits.index(name) + len(name) :].split(maxsplit=1)[0])


def _inode(link: str) -> int:
    return int(link[link.index("[") + 1 : -1])
