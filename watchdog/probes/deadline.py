"""How long a probe may go on, and how far it has come.

The caller (`look`) starts a probe as a task and asks again at the probe's time-out. A probe on a socket is not cancelled
then: its one open connection is waited on for up to 30 s, because a late answer tells a slow service from a dark one, is
the first to be answered after a nudge, and because a new connection each round would fill the backlog.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(slots=True)
class Deadline:
    """`at`: the loop time at which the probe itself must give up. `watch` is called by a probe with its socket."""

    at: float
    sock: socket.socket | None = None

    def watch(self, sock: socket.socket) -> None:
        """Remember the socket, so that `reached` can ask the kernel about it."""
        self.sock = sock

    @property
    def reached(self) -> bool:
        """Whether the kernel took the connection: then no answer is *silent*, else it is *unreachable*."""
        if self.sock is None or self.sock.fileno() < 0:
            return False
        try:
            self.sock.getpeername()
        except OSError:
            return False
        return True
