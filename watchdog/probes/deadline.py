"""How long a probe may go on, and how far it has come.

The caller (`look`) starts a probe as a task and asks again at the probe's time-out. A probe on a socket is not
cancelled then: its one open connection is waited on for up to 30 s, because a late answer tells a slow service from a
dark one, is the first to be answered after a nudge, and because a new connection each round would fill the backlog.
What the caller says of the probe in the meantime is `so_far`; the probe itself ends with the same words at `at`.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from watchdog.model import Kind, Observation
from watchdog.settings import format_duration


@dataclass(slots=True)
class Deadline:
    """`at`: the loop time at which the probe itself must give up. A probe calls `watch` with its socket.

    `connected`, `sent`, `did` and `heard` tell how far it came: `did` says it in words where nothing was sent; `heard`
    is an answer that came and is not, or not yet, the expected one, told as the reason of *wrong*. `ours` is what has
    not come yet and is not the service's to give (a resolver's answer, a disk's), told as *error*; `note` is what else
    might explain silence.
    """

    at: float
    sock: socket.socket | None = None
    connected: bool = False
    sent: int = 0
    heard: str = ""
    did: str = "connected"
    ours: str = ""
    note: str = ""

    def watch(self, sock: socket.socket) -> None:
        """Remember the socket, so that `reached` can ask the kernel about it."""
        self.sock = sock

    @property
    def reached(self) -> bool:
        """Whether the kernel took the connection: then no answer is *silent*, else it is *unreachable*."""
        if self.connected:
            return True
        if self.sock is None or self.sock.fileno() < 0:
            return False
        try:
            self.sock.getpeername()
        except OSError:
            return False
        return True

    def so_far(self, waited: float) -> Observation:
        """What the probe has to say after `waited` seconds, if it must say it now."""
        time = format_duration(waited)
        if self.heard:
            return Observation(Kind.WRONG, waited, f"{self.heard} (waited {time})")
        if self.ours:
            return Observation(Kind.ERROR, waited, f"{self.ours} in {time}")
        if not self.reached:
            return Observation(Kind.UNREACHABLE, waited, f"no connection in {time}")
        told = f"sent {self.sent} bytes" if self.sent else self.did
        return Observation(Kind.SILENT, waited, f"{told}, no answer in {time}{self.note}")
