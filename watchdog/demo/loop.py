"""An event loop as the postmortem's server has one: a thread in raw `epoll_wait(-1)`, edge-triggered.

Rules of this file: `epoll_wait` is called through ctypes, because `select.epoll` repeats it after EINTR by itself
(PEP 475) and would hide what heals. A lost wake-up, imitated on a sound kernel: the thread waits without a time-out on
a second epoll in which nothing can become ready, until EINTR; then it goes on with the real one, whose ready list has
kept every edge. So nothing that came meanwhile is lost.

It speaks lines ("ping" gets "pong") and enough of HTTP/1.1 for a GET. epoll(7), epoll_wait(2), RFC 9112.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

MOST_INPUT = 64 * 1024
MOST_OUTPUT = 1024 * 1024  # of a client that asks and never reads
FOR_EVER = -1

LINE_ANSWERS = {b"ping": b"pong\n"}
PAGE = b"awake\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(PAGE)


class _Event(ctypes.Structure):
    """`struct epoll_event`: packed on x86-64 and nowhere else (EPOLL_PACKED in linux/eventpoll.h)."""

    if platform.machine() == "x86_64":
        _pack_ = 1
    _fields_ = (("events", ctypes.c_uint32), ("fd", ctypes.c_int32), ("rest_of_data", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)


def epoll_wait(epfd: int, most: int = 64) -> list[int]:
    """The descriptors that are ready; waits for ever. Raises `InterruptedError` on EINTR; Python's own never does."""
    events = (_Event * most)()
    count = _libc.epoll_wait(epfd, events, most, FOR_EVER)
    if count < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return [event.fd for event in events[:count]]


@dataclass(slots=True)
class _Client:
    sock: socket.socket
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    ended: bool = False  # nothing more will come, or nothing more will be answered


class Loop:
    """Serves `listeners` in the thread that calls `run`.

    `report` is called from that thread with "lost", "useless" (an EINTR that did not heal) and "woken". A stall
    outlives `stubborn` EINTRs; a negative number stands for every one.
    """

    def __init__(self, listeners: list[socket.socket], report: Callable[[str], None], stubborn: int = 0) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._clients: dict[int, _Client] = {}
        self._report = report
        self._stubborn = stubborn
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._nothing = select.epoll()
        self._epoll = select.epoll()
        self._epoll.register(self._bell, select.EPOLLIN | select.EPOLLET)
        for listener in listeners:
            listener.setblocking(False)
            self._epoll.register(listener, select.EPOLLIN | select.EPOLLET)

    def lose_wakeup(self) -> None:
        """Make the loop's thread sleep through whatever comes next. Any thread may call it."""
        os.eventfd_write(self._bell, 1)

    def run(self) -> None:
        """Serve for ever."""
        while True:
            try:
                ready = epoll_wait(self._epoll.fileno())
            except InterruptedError:
                continue
            for fd in ready:
                if fd in self._listeners:
                    self._accept(self._listeners[fd])
                elif fd in self._clients:
                    self._serve(self._clients[fd])
            if self._bell in ready:
                os.eventfd_read(self._bell)
                self._sleep_through()

    def _sleep_through(self) -> None:
        """The lost wake-up."""
        self._report("lost")
        left = self._stubborn
        while True:
            try:
                epoll_wait(self._nothing.fileno())
            except InterruptedError:
                if left == 0:
                    break
                left -= 1
                self._report("useless")
        self._report("woken")

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            sock.setblocking(False)
            self._clients[sock.fileno()] = _Client(sock)
            self._epoll.register(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)

    def _serve(self, client: _Client) -> None:
        """Edge-triggered: read and write until the kernel says EAGAIN, for it will not tell again."""
        try:
            self._read(client)
            self._write(client)
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT):
                raise
            client.ended = True
            client.unsent.clear()
        if client.ended and not client.unsent:
            del self._clients[client.sock.fileno()]
            client.sock.close()

    def _read(self, client: _Client) -> None:
        while not client.ended:
            try:
                data = client.sock.recv(MOST_INPUT)
            except BlockingIOError:
                return
            client.received += data
            _answer(client)
            if not data or len(client.received) > MOST_INPUT or len(client.unsent) > MOST_OUTPUT:
                client.ended = True

    def _write(self, client: _Client) -> None:
        while client.unsent:
            try:
                sent = client.sock.send(client.unsent)
            except BlockingIOError:
                return
            del client.unsent[:sent]


def _answer(client: _Client) -> None:
    """Put the answers to all that was received whole into `unsent`."""
    if client.received.startswith((b"GET ", b"HEAD ")):
        if b"\r\n\r\n" in client.received:
            client.unsent += HEAD if client.received.startswith(b"HEAD ") else HEAD + PAGE
            client.received.clear()
            client.ended = True
        return
    *lines, rest = client.received.split(b"\n")
    client.received = rest
    for line in lines:
        client.unsent += LINE_ANSWERS.get(bytes(line.rstrip(b"\r")), b"what?\n")
