"""What a tcp and a unix probe share once they are connected: bytes are sent, and an answer is expected.

Rules of this file: only bytes from the program prove that it lives; a connection proves nothing, for the kernel makes
it for a dark service too. An answer that is not (yet) the expected one may still become it until the deadline.

After blackbox_exporter's query_response, with one difference: the expression is searched in all that was received so
far, not line by line (`^` and `$` match at each line's ends).
"""

from __future__ import annotations

import re
import socket

from watchdog.model import Kind
from watchdog.probes import sockets
from watchdog.probes.attempt import Finding
from watchdog.probes.deadline import Deadline

LIMIT = 64 * 1024  # of an answer


def check(send: str | None, expect: str | None, connect_only: bool) -> None:
    """Raise `ValueError` for a talk that proves nothing or contradicts itself."""
    if connect_only and (send is not None or expect is not None):
        raise ValueError("connect_only = true contradicts send and expect; leave out one or the other")
    if not connect_only and not send and not expect:
        raise ValueError(
            "the kernel accepts connections for a dark service too, so a connection alone proves nothing; "
            "give send and expect, or say connect_only = true"
        )
    if expect is not None:
        pattern(expect)


def pattern(expression: str) -> re.Pattern[bytes]:
    """A regular expression over bytes. Raises `ValueError`."""
    try:
        return re.compile(expression.encode(), re.MULTILINE)
    except re.error as error:
        raise ValueError(f'"{expression}" is no regular expression: {error}') from None


def warnings(connect_only: bool) -> tuple[str, ...]:
    """What an operator should know of such a probe."""
    if not connect_only:
        return ()
    return ("connect_only = true: the kernel accepts connections for a dark service until its backlog is full",)


async def exchange(sock: socket.socket, send: str | None, expect: str | None, deadline: Deadline) -> Finding:
    """Send, then read until the expected answer came, over a connection that stands. Raises `OSError`."""
    if send:
        data = send.encode()
        await sockets.send(sock, data)
        deadline.sent = len(data)
    expected = pattern(expect) if expect else None
    received = b""
    while True:
        chunk = await sockets.receive(sock)
        received += chunk
        if received and (expected is None or expected.search(received)):
            return Kind.ALIVE, "answered"
        if not received:
            return Kind.WRONG, "closed the connection without an answer"
        deadline.heard = f'expected "{expect}", got "{shown(received)}"'
        if not chunk:
            return Kind.WRONG, f"{deadline.heard}, then the end"
        if len(received) > LIMIT:
            return Kind.WRONG, f"{deadline.heard}, in the first 64 KiB"


def shown(received: bytes) -> str:
    """The beginning of an answer, in one line of printable characters."""
    text = received[:60].decode("ascii", "backslashreplace")
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return line + ("…" if len(received) > 60 else "")
