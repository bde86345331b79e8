"""Who is connected to the helper: whom it lets in, what each of them has said, and what each is still owed.

Rules: root and one other user are let in, and nobody else; of nobody more than a line is kept that is not complete yet;
who reads no replies is not read from; each has its turn, a chunk long; who has gone takes nobody's time. Whoever says
that it will ask no more (shutdown(2), SHUT_WR) still gets its replies.

Sources: unix(7), SO_PEERCRED; poll(2); sd_listen_fds(3): a connection that comes while the helper ends is not lost, it
waits in the socket that systemd holds, and starts the next one.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping

from watchdog.helper.protocol import MAX_REQUEST, Lines, Reply, encode_reply
from watchdog.model import Outcome

MAX_PEERS = 8
CHUNK = 4096  # bytes read at once: no more replies than they ask for can be owed to a peer that does not read
ACCEPTED_AT_ONCE = 32  # before those that are connected have their turn
DEAF = 1.0  # s without accepting, where the host has no descriptor or memory for a connection
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid


class Peer:
    """One connection. `under_way`: how many of its requests are."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.pid, self.uid = _credentials(connection)
        self.under_way = 0
        self.gone = False
        self._connection = connection
        self._lines = Lines(MAX_REQUEST)
        self._owed = bytearray()
        self._asks = True

    @property
    def file(self) -> int:
        """Its descriptor."""
        return self._connection.fileno()

    @property
    def owed(self) -> int:
        """How many bytes of replies it has not taken yet."""
        return len(self._owed)

    @property
    def awaits(self) -> int:
        """What to poll for. That it has hung up comes unasked."""
        if self._owed:
            return select.POLLOUT
        return select.POLLIN if self._asks else 0

    def owe(self, line: bytes) -> None:
        """Send a reply as soon as it can be sent; none to who has gone."""
        if not self.gone:
            self._owed += line

    def exchange(self, events: int) -> list[bytes | None]:
        """Write what is owed, or read what is asked: the lines that came."""
        lines: list[bytes | None] = []
        try:
            if self._owed:
                del self._owed[: self._connection.send(self._owed)]
            elif self._asks:
                data = self._connection.recv(CHUNK)
                self._asks = bool(data)
                lines = self._lines.feed(data)
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True
        self.gone |= not self._asks and bool(events & (select.POLLHUP | select.POLLERR))
        return lines

    def over(self) -> bool:
        """Whether it has gone, or asks no more and has all its replies."""
        return self.gone or not (self._asks or self._owed or self.under_way)

    def close(self) -> None:
        """Part with it; what is under way for it goes on."""
        self.gone = True
        self._owed = bytearray()
        self._connection.close()


class Peers:
    """All that are connected: the one at the other end of a socket pair, or those who come to a listening socket."""

    def __init__(self, listener: socket.socket | None, allowed: frozenset[int], idle: float) -> None:
        self._listener = listener
        self._allowed = allowed
        self._idle = idle
        self._peers: list[Peer] = []
        self._quiet_since: float | None = None  # time.monotonic, as the next
        self._deaf_until = 0.0

    @classmethod
    def one(cls, connection: socket.socket) -> Peers:
        """The one at the other end, until it goes."""
        peers = cls(None, frozenset(), 0.0)
        peers._peers.append(Peer(connection))
        return peers

    @classmethod
    def at(cls, listener: socket.socket, allowed: frozenset[int], idle: float) -> Peers:
        """Who comes to this socket and has one of these uids, until nobody has been there for `idle` seconds."""
        listener.setblocking(False)
        return cls(listener, allowed, idle)

    @property
    def come_and_go(self) -> bool:
        """Whether others may come when all have gone."""
        return self._listener is not None

    def pids(self) -> frozenset[int]:
        """The processes that connected."""
        return frozenset(peer.pid for peer in self._peers)

    def left(self, busy: bool) -> float | None:
        """Seconds until the helper is not needed any more; None: it is needed. `busy`: something is under way."""
        if self._peers or (busy and self._listener is not None):
            self._quiet_since = None
            return None
        if self._listener is None:
            return 0.0
        now = time.monotonic()
        if self._quiet_since is None:
            self._quiet_since = now
        return max(0.0, self._quiet_since + self._idle - now)

    def stay(self) -> None:
        """Be there for another `idle` seconds."""
        self._quiet_since = None

    def register(self, poll: select.poll) -> float | None:
        """Tell what to poll; seconds until that must be told anew, or None."""
        for peer in self._peers:
            poll.register(peer.file, peer.awaits)
        if self._listener is None:
            return None
        deaf = self._deaf_until - time.monotonic()
        if deaf > 0:
            return deaf
        poll.register(self._listener, select.POLLIN)
        return None

    def exchange(self, ready: Mapping[int, int]) -> Iterator[tuple[Peer, bytes | None]]:
        """Give each of those who are ready (their events) its turn: the lines that came, and from whom."""
        for peer in self._peers:
            if peer.file in ready:
                for line in peer.exchange(ready[peer.file]):
                    yield peer, line
        for peer in [peer for peer in self._peers if peer.over()]:
            self._peers.remove(peer)
            peer.close()
        if self._listener is not None and self._listener.fileno() in ready:
            self._accept(self._listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            for _ in range(ACCEPTED_AT_ONCE):
                connection, _ = listener.accept()
                self._admit(connection)
        except (BlockingIOError, ConnectionError):  # nobody else is there, or somebody has left again
            return
        except OSError as error:
            self._deaf_until = time.monotonic() + DEAF
            print(f"epoll-watchdog helper: no connection can be taken: {error}", file=sys.stderr, flush=True)

    def _admit(self, connection: socket.socket) -> None:
        peer = Peer(connection)
        if peer.uid not in self._allowed:
            _turn_away(connection, f"uid {peer.uid} may not ask the helper: root may, and the user of --peer-user")
        elif len(self._peers) >= MAX_PEERS:
            _turn_away(connection, f"{MAX_PEERS} connections to the helper are open, and it takes no more")
        else:
            self._peers.append(peer)


def _turn_away(connection: socket.socket, reason: str) -> None:
    with connection, contextlib.suppress(OSError):
        connection.send(encode_reply(Reply(None, Outcome.REFUSED, reason)))


def _credentials(connection: socket.socket) -> tuple[int, int]:
    """PID and uid of whoever connected, as the kernel kept them then."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid
