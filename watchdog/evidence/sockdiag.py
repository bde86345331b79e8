"""Accept queues and unread bytes, asked of the kernel over netlink: nothing is woken and no privilege is needed.

Only of our own network namespace; `netns.py` reads another one's. A listening socket's accept queue holds the
connections that the kernel has made and the program has not taken. One family that can't be read does not cost the
other: what is missing is told as a `Lack`.

- The kernel answers a dump while we ask, so no answer is waited for in vain: after `ANSWER_WITHIN_S` it is a fault.
- After a fault the socket is closed, since the rest of an answer may still be in it, and opened anew at the next use.
- Where a module lacks (`unix_diag`), each request would make the kernel start modprobe: for `MODULE_LACKS_S` the lack
  is told without asking again.
- A TCP connection that was not accepted yet has inode 0. A Unix one is not dumped at all (sk_diag_dump() in
  net/unix/diag.c); its listener tells the inode of the client that waits, and nobody its bytes: the client's send queue
  is memory, 768 for 5 bytes [M].

Measured on 6.18 with 262,144 slots for TCP connections, in CPU time of ours: `listeners` 45 µs and 2 µs for each
listener, 150 µs among 19,000 connections; `streams` 0.2 ms, 1.3 ms among 19,000 TCP connections of others, 20 ms among
19,000 Unix ones (which the kernel can't filter by name), 15 ms for `MOST` of its own.

Sources: sock_diag(7), netlink(7), net/core/sock_diag.c.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from watchdog.evidence import sockdiag_wire as wire
from watchdog.evidence.addresses import Locals
from watchdog.evidence.sockdiag_wire import Unreadable
from watchdog.reading import Lack, Queue, Stream

T = TypeVar("T")

NETLINK_SOCK_DIAG = 4
ANSWER_WITHIN_S = 0.5
MODULE_LACKS_S = 60.0
TRIES = 3  # of a dump under which the table changed
MOST = 4096  # sockets of one family that are told in one reading
DATAGRAM = 65536  # the kernel sends at most 32 KiB at once (netlink_dump())


@dataclass(frozen=True, slots=True)
class Listening:
    """Listening sockets with their accept queues, and what could not be read."""

    queues: tuple[Queue, ...] = ()
    lacks: tuple[Lack, ...] = ()


@dataclass(frozen=True, slots=True)
class Connected:
    """Connections with their unread bytes, and what could not be read."""

    streams: tuple[Stream, ...] = ()
    lacks: tuple[Lack, ...] = ()


class _Answer(NamedTuple, Generic[T]):
    found: tuple[T, ...]
    lacks: tuple[Lack, ...]


def open_netlink() -> socket.socket:
    """A sock_diag socket for our own network namespace. Raises `OSError`."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
    sock.bind((0, 0))
    return sock


class SockDiag:
    """Asks the kernel. For one thread; `close` it, or leave it to the end of the process."""

    def __init__(self, connect: Callable[[], socket.socket] = open_netlink) -> None:
        self._connect = connect
        self._socket: socket.socket | None = None
        self._sequence = 0
        self._lacking: dict[str, tuple[float, str]] = {}  # by module: until when, and why

    def listeners(self) -> Listening:
        """Every listening TCP and Unix socket. The tripwire reads them four times a second."""
        show = wire.SHOW_NAME | wire.SHOW_RQLEN
        tcp = self._tcp("TCP listeners", wire.LISTEN, (), wire.tcp_queue)
        unix = self._unix("Unix listeners", wire.LISTEN, show, wire.unix_queue)
        return Listening(tcp.found + unix.found, tcp.lacks + unix.lacks)

    def streams(self, listeners: Collection[Queue], inodes: Collection[int]) -> Connected:
        """The established connections of these listeners; Unix ones with these inodes too, whoever made them.

        A connection that its client has closed is told as long as the service has not closed it.
        """
        locals_, inodes = Locals(listeners), frozenset(inodes)
        states, show = wire.ESTABLISHED | wire.CLOSE_WAIT, wire.SHOW_NAME | wire.SHOW_PEER | wire.SHOW_RQLEN
        answers: list[_Answer[Stream]] = []
        if locals_.ports:
            answers.append(self._tcp("TCP connections", states, locals_.ports, wire.tcp_stream(locals_)))
        answers.append(self._unix("Unix connections", wire.ESTABLISHED, show, wire.unix_stream(locals_, inodes)))
        if locals_.unix:
            show = wire.SHOW_NAME | wire.SHOW_ICONS
            answers.append(self._unix("waiting Unix connections", wire.LISTEN, show, wire.unix_waiting(locals_)))
        return Connected(
            tuple(stream for answer in answers for stream in answer.found),
            tuple(lack for answer in answers for lack in answer.lacks),
        )

    def close(self) -> None:
        """Let go of the socket; the next reading opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tcp(self, what: str, states: int, ports: Collection[int], read: wire.Read[T]) -> _Answer[T]:
        return self._ask(what, "tcp_diag", lambda number: wire.tcp_request(number, states, ports), read)

    def _unix(self, what: str, states: int, show: int, read: wire.Read[T]) -> _Answer[T]:
        return self._ask(what, "unix_diag", lambda number: wire.unix_request(number, states, show), read)

    def _ask(self, what: str, module: str, request: Callable[[int], bytes], read: wire.Read[T]) -> _Answer[T]:
        until, reason = self._lacking.get(module, (0.0, ""))
        if time.monotonic() < until:
            return _Answer((), (Lack(what, reason),))
        try:
            found = self._dump(request, read)
        except Unreadable as error:
            self.close()
            reason = f"the kernel has no {module}: {error}" if error.module_lacks else str(error)
            if error.module_lacks:
                self._lacking[module] = time.monotonic() + MODULE_LACKS_S, reason
            return _Answer((), (Lack(what, reason),))
        except OSError as error:
            self.close()
            return _Answer((), (Lack(what, f"no answer by netlink: {error.strerror or error}"),))
        if len(found) > MOST:
            self.close()  # the rest of the answer was not read
            return _Answer(tuple(found[:MOST]), (Lack(what, f"there are more than {MOST}; no more were read"),))
        return _Answer(tuple(found), ())

    def _dump(self, request: Callable[[int], bytes], read: wire.Read[T]) -> list[T]:
        for _ in range(TRIES):
            self._sequence = (self._sequence + 1) & 0xFFFFFFFF
            found: list[T] = []
            if not self._dump_once(request(self._sequence), read, found):
                return found
        raise Unreadable(f"the table of sockets changed under each of {TRIES} readings")

    def _dump_once(self, request: bytes, read: wire.Read[T], found: list[T]) -> bool:
        """Whether the table changed meanwhile. With more than `MOST` found the rest of the answer is left unread."""
        if self._socket is None:
            self._socket = self._connect()
            self._socket.setblocking(False)
        deadline = time.monotonic() + ANSWER_WITHIN_S
        self._socket.send(request)
        ended = torn = False
        while not ended and len(found) <= MOST:
            ended, changed = wire.take(_receive(self._socket, deadline), self._sequence, read, found)
            torn = torn or changed
        return torn and ended


def _receive(sock: socket.socket, deadline: float) -> bytes:
    """The next datagram. Raises `Unreadable`, `OSError`."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            datagram, _, flags, _ = sock.recvmsg(DATAGRAM)
        except BlockingIOError:
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            poll.poll(left * 1000)
            continue
        if flags & socket.MSG_TRUNC:
            raise Unreadable(f"a datagram of the kernel's answer is longer than {DATAGRAM} bytes")
        if not datagram:
            raise Unreadable("the kernel's answer ended too early")
        return datagram
    raise Unreadable(f"the kernel did not answer within {ANSWER_WITHIN_S:g} s")
