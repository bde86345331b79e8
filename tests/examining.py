"""A helper that plays back samples, for the tests of who reads with it; the queues beside it are real."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from tests.core.readings import asleep, epoll
from watchdog.clock import Clock
from watchdog.evidence.sockdiag import Connected, Listening, SockDiag
from watchdog.model import Epoch
from watchdog.reading import Epoll, Lack, Process, Queue, Sample, Thread, Watch

EPOCH = Epoch(os.getpid(), 1000)
PROCESS = Process(EPOCH.pid, EPOCH.start_time)


def inode(listener: socket.socket) -> int:
    """As /proc tells it of the descriptor."""
    return os.fstat(listener.fileno()).st_ino


def watching(*listeners: socket.socket, readable: bool | None = None) -> Epoll:
    """Epoll 5, which watches them level-triggered."""
    entries = (Watch(listener.fileno(), 1, inode(listener)) for listener in listeners)
    return replace(epoll(), watches=tuple(sorted(entries)), readable=readable)


@dataclass
class Playback:
    """Stands in for the helper: the same threads and epolls each time, unless somebody changes them on the way.

    `log` tells in what order samples, queues and connections were read.
    """

    clock: Clock
    threads: tuple[Thread, ...] = field(default_factory=lambda: asleep()[:1])
    epolls: tuple[Epoll, ...] = ()
    sockets: tuple[int, ...] = ()
    process: Process = PROCESS
    lack_after: int | None = None  # samples, from then on there is none
    log: list[str] = field(default_factory=list)
    copied: list[bool] = field(default_factory=list)  # whether each sample polled copies
    services: list[str] = field(default_factory=list)  # of which service each sample was

    async def examine(self, service: str, epoch: Epoch, *, copy: bool = False) -> Sample | Lack:
        """The next one."""
        self.log.append("sample")
        self.copied.append(copy)
        self.services.append(service)
        if self.lack_after is not None and len(self.copied) > self.lack_after:
            return Lack("the service's processes", "the helper is tired")
        began = self.clock.now()
        epolls = self.epolls if copy else tuple(replace(each, readable=None) for each in self.epolls)
        return Sample(
            began=began,
            ended=self.clock.now(),
            processes=(self.process,),
            threads=self.threads,
            epolls=epolls,
            sockets=self.sockets,
        )

    def serves(self, *listeners: socket.socket, readable: bool | None = None) -> None:
        """The service has these listeners, and its loop watches them."""
        self.sockets = tuple(inode(listener) for listener in listeners)
        self.epolls = (watching(*listeners, readable=readable),)


class Logged(SockDiag):
    """The kernel's own answers, and a note of each question."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self._log = log

    def listeners(self) -> Listening:
        self._log.append("queues")
        return super().listeners()

    def streams(self, listeners: Collection[Queue], inodes: Collection[int]) -> Connected:
        self._log.append("streams")
        return super().streams(listeners, inodes)


@dataclass
class Shifted:
    """The real time, and as much later as somebody sets."""

    by: float = 0.0

    @property
    def clock(self) -> Clock:
        real = Clock()
        return Clock(now=lambda: real.now() + self.by)


def lengths(diag: SockDiag, listeners: Sequence[socket.socket]) -> list[int]:
    """How many wait at each."""
    queues = {queue.inode: queue.length for queue in diag.listeners().queues}
    return [queues[inode(listener)] for listener in listeners]
