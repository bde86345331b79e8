"""The words of evidence, as frozen values: what the kernel says of a service's processes, read without touching them.

Rules of this file: as of `model.py`; times are CLOCK_BOOTTIME in seconds, in the helper as in the brain. What could not
be read is a `Lack`, with its reason, and never a guess. What comes in thousands (`Watch`) is a tuple, so that a line of
JSON holds it.

A **sample** is one look of the helper at all threads, epolls and sockets of a service. A **reading** is several of
them, with the accept queues read in between: sample, queues, sample, queues, sample, queues, sample. So whatever
arrived in a queue arrived between two samples. `proof.py` says what follows from it.

Sources: proc_pid_syscall(5), proc_pid_status(5), proc_pid_fdinfo(5), epoll_ctl(2), sock_diag(7).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

MAPPED = re.compile(r"^\[::ffff:([0-9.]+)\]:")  # IPv4-mapped, RFC 4291, section 2.5.5.2
EVERYWHERE = ("0.0.0.0", "[::]")  # as the kernel writes all addresses of a host
EPOLLIN = 0x001
EPOLLRDNORM = 0x040
EPOLLEXCLUSIVE = 1 << 28
EPOLLONESHOT = 1 << 30
EPOLLET = 1 << 31


class Watch(NamedTuple):
    """One entry of an epoll (a `tfd:` line of its fdinfo): the descriptor, what is watched for, the file's inode."""

    fd: int
    events: int
    inode: int

    @property
    def armed(self) -> bool:
        """Whether input would be told of: a ONESHOT that has fired has no events left but its flags."""
        return bool(self.events & (EPOLLIN | EPOLLRDNORM))

    @property
    def level(self) -> bool:
        """Whether it is ready as long as there is input: neither edge-triggered, nor EXCLUSIVE, nor ONESHOT."""
        return not self.events & (EPOLLET | EPOLLEXCLUSIVE | EPOLLONESHOT)

    @property
    def exclusive(self) -> bool:
        """Whether only one of several epolls is woken."""
        return bool(self.events & EPOLLEXCLUSIVE)


@dataclass(frozen=True, slots=True)
class Lack:
    """What could not be read, and why, in one line."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread at one moment. Its system call was read first, then its state and counters."""

    pid: int
    tid: int
    started: int  # clock ticks since boot: with `tid` it names exactly this thread
    name: str
    state: str  # R, S, D, T, t, Z, X, I (proc_pid_stat(5))
    call: str  # the system call it is in, by name or else by number; "" where it runs, or nobody tells
    epfd: int | None  # of an epoll wait: the epoll's descriptor
    finite: bool  # of an epoll wait: it has a time-out, so it heals itself
    wchan: str  # where in the kernel it sleeps; "" where that is not told
    switches: int  # context switches so far, voluntary and not: unchanged, it did not run in between
    cpu: float  # s of CPU so far
    delayed: float  # s that it was runnable and got no CPU
    tracer: int = 0  # the PID of who traces it

    @property
    def key(self) -> tuple[int, int]:
        """What names exactly this thread."""
        return self.tid, self.started

    @property
    def epoll(self) -> tuple[int, int] | None:
        """`Epoll.key` of what it waits on."""
        return (self.pid, self.epfd) if self.epfd is not None else None

    @property
    def waits_in_epoll(self) -> bool:
        """Whether it sleeps in epoll_wait, epoll_pwait or epoll_pwait2."""
        return self.call.startswith("epoll_")


@dataclass(frozen=True, slots=True)
class Epoll:
    """An epoll of a process. `readable` is what poll(2) on a copy of it said: None where no copy was polled."""

    pid: int
    fd: int
    watches: tuple[Watch, ...]
    omitted: int = 0  # entries beyond those told
    readable: bool | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Its process and descriptor."""
        return self.pid, self.fd


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the service."""

    pid: int
    started: int  # clock ticks since boot
    fds: int | None = None  # open descriptors
    fd_limit: int | None = None  # RLIMIT_NOFILE, soft
    frozen: bool = False  # by its cgroup (cgroup v2 cgroup.events, or v1 freezer.state)
    net_ns: int = 0  # the inode of its network namespace; 0 where that is not told


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """All of a service's processes at one moment, or as near to one as reading allows."""

    began: float
    ended: float
    processes: tuple[Process, ...] = ()
    threads: tuple[Thread, ...] = ()
    epolls: tuple[Epoll, ...] = ()
    sockets: tuple[int, ...] = ()  # inodes of all sockets that its processes hold
    lacks: tuple[Lack, ...] = ()
    whole: bool = True  # no process and no thread was left out


class Family(enum.StrEnum):
    """What carries a listening socket. `model.Transport` says the same of a probe."""

    TCP = "tcp"
    UNIX = "unix"


@dataclass(frozen=True, slots=True)
class Queue:
    """A listening socket and its accept queue: connections that the kernel made and the program has not taken."""

    inode: int
    family: Family
    address: str  # "127.0.0.1:80", "[::]:80", "/run/x.sock", "@abstract"
    length: int
    limit: int | None  # the backlog; None where that is not told (another network namespace)

    @property
    def full(self) -> bool:
        """Whether no further connection is taken (the kernel takes one more than the backlog says)."""
        return self.limit is not None and self.length > self.limit

    @property
    def asked_at(self) -> str:
        """The address as clients write it: an IPv6 socket that is bound to one of IPv4 (Java's) is reached by that."""
        return MAPPED.sub(r"\1:", self.address)

    def reached_by(self, addresses: Collection[str]) -> bool:
        """Whether one of these addresses leads here: its own, or "*:80" where it is port 80 of all addresses."""
        host, _, port = self.asked_at.rpartition(":")
        return self.asked_at in addresses or (host in EVERYWHERE and f"*:{port}" in addresses)


@dataclass(frozen=True, slots=True)
class Queues:
    """The accept queues of a service's listeners at one moment."""

    at: float  # when they had been read: whatever they hold had come by then
    queues: tuple[Queue, ...]

    def of(self, inode: int) -> Queue | None:
        """The queue of a listener."""
        return next((queue for queue in self.queues if queue.inode == inode), None)


@dataclass(frozen=True, slots=True)
class Stream:
    """An established connection of the service, or one that it has not taken yet (`inode` 0)."""

    inode: int
    family: Family
    local: str
    peer: str
    unread: int | None  # bytes that wait to be read by the service; None where that is not told


@dataclass(frozen=True, slots=True)
class Pressure:
    """How scarce the host is, as shares of the time since an earlier reading (0 to 1); None where nobody tells.

    `some` and `full` of PSI (Documentation/accounting/psi.rst); `unit_…` are of the service's cgroup; `steal` is the
    hypervisor's; `own_delay` is how much of the time the watchdog itself was runnable without a CPU, and `own_wait` for
    how long it was so each time it had something to do.
    """

    at: float
    window: float  # s that the shares are of
    cpu_some: float | None = None
    memory_full: float | None = None
    io_full: float | None = None
    unit_cpu_some: float | None = None
    unit_memory_full: float | None = None
    unit_io_full: float | None = None
    steal: float | None = None
    own_delay: float | None = None
    own_wait: float | None = None  # s, on average
    unit_window: float = 0.0  # s that the shares of the unit are of


@dataclass(frozen=True, slots=True)
class Advisory:
    """A kernel that is known to lose wake-ups."""

    id: str
    text: str
    fixed_in: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Samples with the queues in between (`queues[i]` was read between `samples[i]` and `samples[i + 1]`).

    `touched` are samples for which copies of epolls were polled, which may wake a waiter: taken last. `lacks` is what
    was not read at all.
    """

    samples: tuple[Sample, ...] = ()
    queues: tuple[Queues, ...] = ()
    touched: tuple[Sample, ...] = ()
    streams: tuple[Stream, ...] = ()  # when it began, or when the last one ended, if that was a moment ago
    streams_after: tuple[Stream, ...] = ()  # when it ended
    lacks: tuple[Lack, ...] = ()

    @property
    def ended(self) -> float:
        """When the last sample was taken; 0 where there is none."""
        samples = self.touched or self.samples
        return samples[-1].ended if samples else 0.0


# --- what is kept of a healthy service --------------------------------------------------------------------------------


class Waiter(NamedTuple):
    """A thread that was seen waiting on an epoll, by its descriptor, while the service was healthy."""

    pid: int
    tid: int
    started: int
    epfd: int

    @property
    def thread(self) -> tuple[int, int]:
        """`Thread.key` of it."""
        return self.tid, self.started

    @property
    def epoll(self) -> tuple[int, int]:
        """`Epoll.key` of what it waits on."""
        return self.pid, self.epfd


@dataclass(frozen=True, slots=True)
class Baseline:
    """Evidence read while healthy: who waits on which epoll. Never of an earlier epoch."""

    at: float
    samples: int  # how many it rests on
    waiters: frozenset[Waiter] = frozenset()
    threads: frozenset[tuple[int, int]] = frozenset()  # all that are known, by `tid` and `started`
    epolls: tuple[Epoll, ...] = ()  # as last seen


# --- what was proven --------------------------------------------------------------------------------------------------


class Form(enum.StrEnum):
    """How a lost wake-up was proven; `proof.py` has the conditions."""

    ARRIVAL = "arrival"  # connections came to a listener that it watches, and nobody woke
    STANDING = "standing"  # connections stood before a level-triggered entry for a second, and nobody woke
    COPY = "copy"  # a copy of the epoll is readable, and its waiters sleep
    PARKED = "parked"  # its waiter waits on an epoll that watches nothing


@dataclass(frozen=True, slots=True)
class Proof:
    """A proven lost wake-up of one epoll. It holds while the switches of its threads stand still."""

    form: Form
    pid: int
    epfd: int  # the epoll that nobody serves
    threads: Mapping[str, int]  # by "tid:started" of those that sleep: their context switches
    text: str  # what was seen, in a sentence
    at: float
    listeners: tuple[str, ...] = field(default_factory=tuple)  # addresses of the listeners it rests on
