"""Reads the evidence of one service, and keeps what must be known from before: its baseline, its proofs, its listeners.

Rules of this file. It finds out and decides nothing; `proof.py` judges. All is passive but for two things. The reading
itself may connect once in each window to a listener (a queue that grows while its thread sleeps is the proof): to one
before which connections wait already or, once a probe has timed out, to any; never so that more than three connections
of ours wait in one queue. And where that proves nothing, copies of epolls are polled last. What could not be read is in
the reading, with its reason. Nothing here is kept from one epoch to the next.

The threads are read by the helper, the queues by the brain, so both are joined by the order of reading and by
CLOCK_BOOTTIME: sample, queues, sample, queues, sample, queues, grace, sample.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from watchdog.baseline import learn
from watchdog.clock import Clock
from watchdog.evidence.netns import listeners_of, streams_of
from watchdog.evidence.sockdiag import Listening, SockDiag
from watchdog.model import Epoch
from watchdog.proof import Proven, holds, prove
from watchdog.reading import Baseline, Family, Lack, Proof, Queue, Queues, Reading, Sample, Stream
from watchdog.stretch import GRACE, SPAN, WINDOWS
from watchdog.symptoms import Symptoms

PAUSE = SPAN / WINDOWS
MOST_OURS = 3  # connections of ours that may wait in one queue
KEPT = 8  # readings, for what stood for a second
LEARNT_WELL = 12  # samples of a baseline that is known well; until then each healthy round adds to it
LEARN_EVERY = 300.0  # s, from then on
LEARN_WITHIN = 0.5  # s that who is not known at all waits for its turn
RECENT = 2.0  # s
KNOCK_EVERY = 5.0  # s at least between two readings that connect where nobody waits
TOUCH_EVERY = 1.0  # s at least between two polls of copies while nobody waits to be accepted
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what a listener on all addresses is reached by, from here

Place = tuple[int, str | tuple[str, int]]  # a family, and an address as connect(2) takes it
Ours = Callable[[Queue], int]  # how many connections of our probes may wait there


class Hands(Protocol):
    """Who reads the threads: the helper."""

    async def examine(self, service: str, epoch: Epoch, *, copy: bool = False) -> Sample | Lack:
        """One sample of a service's processes; never raises."""
        ...


class Examiner:
    """Reads one service's evidence. `addresses` are what its probes ask: its listeners, where no descriptor is told.
    Of all that share `learners`, so many read a baseline at a time.
    """

    def __init__(
        self,
        service: str,
        addresses: Collection[str],
        hands: Hands,
        diag: SockDiag,
        clock: Clock,
        *,
        touch_every: float = TOUCH_EVERY,
        learners: asyncio.Semaphore | None = None,
    ) -> None:
        self._service = service
        self._learners = learners or asyncio.Semaphore()
        self._touch_every = touch_every
        self._addresses = frozenset(addresses)
        self._hands = hands
        self._diag = diag
        self._clock = clock
        self._epoch: Epoch | None = None
        self._forget()

    def _forget(self) -> None:
        self.baseline: Baseline | None = None
        self.proofs: tuple[Proof, ...] = ()
        self.unproven: tuple[str, ...] = ()
        self._inodes: frozenset[int] = frozenset()  # of the service's sockets
        self.abroad = 0  # the PID to look through into the service's network namespace, where that is another one
        self._earlier: deque[Reading] = deque(maxlen=KEPT)
        self._made: Counter[Place] = Counter()  # connections of this reader that may still wait there
        self._touched = float("-inf")
        self._knocked = float("-inf")
        self._unlisted: tuple[Lack, ...] = ()  # what the last reading of queues lacked

    def enter(self, epoch: Epoch | None) -> None:
        """The service's process is this one now: nothing is known of a new one."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._forget()

    # --- the queues ---------------------------------------------------------------------------------------------------

    def queues(self, listening: Listening | None = None) -> Queues:
        """The service's accept queues now; `listening` is a dump of our own network namespace that is fresh enough."""
        if self.abroad:
            listening = listeners_of(self.abroad)
        elif listening is None:
            listening = self._diag.listeners()
        at = self._clock.now()
        self._unlisted = listening.lacks
        found = tuple(queue for queue in listening.queues if self._is_ours(queue))
        for place in {_place(queue) for queue in found} - {_place(queue) for queue in found if queue.length}:
            self._made.pop(place, None)
        return Queues(at, found)

    def _is_ours(self, queue: Queue) -> bool:
        if self._inodes:
            return queue.inode in self._inodes
        return queue.reached_by(self._addresses)

    def _learn_sockets(self, sample: Sample) -> None:
        self._inodes = frozenset(sample.sockets)
        spaces = {process.net_ns: process.pid for process in sample.processes if process.net_ns}
        self.abroad = next((pid for space, pid in spaces.items() if space != _own_space()), 0)

    def _streams(self, queues: Queues) -> tuple[Stream, ...]:
        return () if self.abroad else self._diag.streams(queues.queues, self._inodes).streams

    def _streams_before(self) -> tuple[Stream, ...]:
        """Those of the last reading's end, if it is recent: who takes one connection in 0.1 s does not hurry."""
        last = self._earlier[-1] if self._earlier else None
        recent = last is not None and self._clock.now() - last.ended < RECENT
        return last.streams_after if last is not None and recent else ()

    # --- reading ------------------------------------------------------------------------------------------------------

    async def read(self, epoch: Epoch, ours: Ours, *, knock: bool = False) -> Reading:
        """A whole reading, in some 120 ms, or 250 where copies are polled; then `proofs` and `unproven` tell of it.

        With `knock` it connects where nobody waits, too: a loop that stalled between the accept and the answer of a
        probe leaves every queue empty.
        """
        self.enter(epoch)
        if knock := knock and self.may_knock():
            self._knocked = self._clock.now()
        reading = await self._passive(epoch, ours, knock)
        proven = self._judge(reading)
        now = self._clock.now()
        symptoms = Symptoms(reading, self.baseline)
        # Where somebody waits, only a copy tells a wake-up that was lost from an edge that was.
        due = bool(symptoms.filled()) or now - self._touched >= self._touch_every
        if not proven.proofs and due and symptoms.asleep():
            self._touched = now
            touched, lacks = await self._samples(epoch, copy=True)
            reading = replace(reading, touched=touched, lacks=(*reading.lacks, *lacks))
            proven = self._judge(reading)
        if proven.proofs:
            self._knocked = float("-inf")  # it was worth it
        self.proofs, self.unproven = (*proven.proofs, *self._still(reading, proven.proofs)), proven.against
        self._earlier.append(reading)
        return reading

    def _still(self, reading: Reading, anew: Collection[Proof]) -> Iterator[Proof]:
        """What was proven before, and holds: that it can't be shown again, for want of connections, refutes nothing."""
        samples = reading.touched or reading.samples
        known = {(proof.pid, proof.epfd) for proof in anew}
        for proof in self.proofs if samples else ():
            if (proof.pid, proof.epfd) not in known and holds(proof, samples[-1]):
                yield proof

    def rest(self) -> None:
        """Nothing is dark: what earlier readings showed is let go of (2 MB each, of a hundred threads [M])."""
        if not self.proofs:
            self._earlier.clear()
            self.unproven = ()

    def may_knock(self) -> bool:
        """Whether a reading may connect where nobody waits: a slow service shall not be busy with us."""
        return self._clock.now() - self._knocked >= KNOCK_EVERY

    def _judge(self, reading: Reading) -> Proven:
        return prove(reading, self.baseline, tuple(self._earlier))

    async def _passive(self, epoch: Epoch, ours: Ours, knock: bool) -> Reading:
        queues: list[Queues] = []
        streams: tuple[Stream, ...] = ()
        with contextlib.ExitStack() as connections:

            def between(sample: Sample) -> None:
                nonlocal streams
                self._learn_sockets(sample)
                queues.append(self.queues())
                if len(queues) == 1:
                    streams = self._streams_before() or self._streams(queues[0])
                if len(queues) <= WINDOWS:
                    self._connect(queues[-1], ours, connections, knock)

            samples, lacks = await self._samples(epoch, between=between)
        if not queues:
            queues.append(self.queues())
        after = self._streams(queues[-1])
        if self.abroad:  # up to 65 ms for 19,000 sockets [M]: not in the loop
            after = (await asyncio.to_thread(streams_of, self.abroad, queues[-1].queues)).streams
        return Reading(
            samples=samples,
            queues=tuple(queues),
            streams=streams,
            streams_after=after,
            lacks=(*lacks, *self._unlisted),
        )

    async def _samples(
        self, epoch: Epoch, *, copy: bool = False, between: Callable[[Sample], None] = lambda _sample: None
    ) -> tuple[tuple[Sample, ...], tuple[Lack, ...]]:
        """Samples over `SPAN`, and one more after the grace; `between` is called after each but the last."""
        samples: list[Sample] = []
        for number in range(WINDOWS + 2):
            if number:
                last = number == WINDOWS + 1
                due = self._clock.now() + GRACE if last else samples[0].began + number * PAUSE
                await asyncio.sleep(max(0.0, due - self._clock.now()) + 0.001)
            found = await self._hands.examine(self._service, epoch, copy=copy)
            if isinstance(found, Lack):
                return tuple(samples), (found,)
            samples.append(found)
            if number <= WINDOWS:
                between(found)
        return tuple(samples), ()

    def _connect(self, queues: Queues, ours: Ours, connections: contextlib.ExitStack, knock: bool) -> None:
        """One connection to each place where some wait, or to each: a thread that is sound wakes, or takes them.

        Several listeners may share a place (SO_REUSEPORT), and the kernel chooses one: they share the count, too.
        """
        full = {_place(queue) for queue in queues.queues if queue.full}
        waiting = {_place(queue): queue for queue in queues.queues if queue.length or knock}
        for place, queue in () if self.abroad else waiting.items():
            if place not in full and self._may_be_reached(queue) and ours(queue) + self._made[place] < MOST_OURS:
                with contextlib.suppress(OSError):
                    connections.enter_context(_connection(*place))
                    self._made[place] += 1

    def _may_be_reached(self, queue: Queue) -> bool:
        """Whether its address, as seen from here, is surely this listener's.

        A path may be another socket's in our mount namespace, and an address of no interface (IP_FREEBIND) may be of
        another host; what a probe asks, and loopback, are not.
        """
        if queue.reached_by(self._addresses) or queue.address.startswith("@"):
            return True
        host = queue.asked_at.rpartition(":")[0]
        return queue.family is Family.TCP and (host.startswith("127.") or host in ("[::1]", "0.0.0.0", "[::]"))

    # --- what is known ------------------------------------------------------------------------------------------------

    async def recheck(self, epoch: Epoch) -> Reading | None:
        """Whether the proofs still hold: one look at their threads. None where nothing is proven."""
        self.enter(epoch)
        if not self.proofs:
            return None
        found = await self._hands.examine(self._service, epoch)
        if isinstance(found, Lack):
            self.proofs = ()
            return Reading(lacks=(found,))
        self.proofs = tuple(proof for proof in self.proofs if holds(proof, found))
        self.unproven = ()
        return Reading(samples=(found,), queues=(self.queues(),))

    def must_learn(self) -> bool:
        """Whether the baseline should be read, now that the service is healthy."""
        known = self.baseline
        if known is None or known.samples < LEARNT_WELL:
            return True
        return self._clock.now() - known.at >= LEARN_EVERY

    async def learn(self, epoch: Epoch) -> None:
        """Read the baseline of a healthy service, or add to it; at another time, where too many do.

        All that begin at once, as after a start, would keep the helper busy for longer than it has for an answer: none
        would learn a thing, and the evidence of who is ill would come too late, too [M: seven in the lab's machine].
        """
        self.enter(epoch)
        try:
            async with asyncio.timeout(LEARN_WITHIN if self.baseline is None else 0):
                await self._learners.acquire()
        except TimeoutError:
            return
        try:
            samples, _lacks = await self._samples(epoch, between=self._learn_sockets)
        finally:
            self._learners.release()
        if samples:
            self.baseline = learn(self.baseline, samples)


def _connection(family: int, address: str | tuple[str, int]) -> socket.socket:
    """A connection to a listener of this host, made or under way. Raises `OSError`."""
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.connect(address)
    except BlockingIOError:
        if family == socket.AF_UNIX:  # its backlog is full
            made.close()
            raise
    except BaseException:
        made.close()
        raise
    return made


def _place(queue: Queue) -> Place:
    """The family and address by which a listener is reached from here."""
    if queue.family is Family.UNIX:
        abstract = queue.address.startswith("@")
        return socket.AF_UNIX, f"\0{queue.address[1:]}" if abstract else queue.address
    host, _, port = queue.asked_at.rpartition(":")
    host = host.strip("[]")
    return socket.AF_INET6 if ":" in host else socket.AF_INET, (LOOPBACK.get(host, host), int(port))


def _own_space() -> int:
    return Path("/proc/self/ns/net").stat().st_ino
