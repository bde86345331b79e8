"""One attempt of a probe, from its start to its observation: the clock, the deadline, and errors turned into words.

Rules of this file: whatever an attempt raises becomes an observation (but its cancellation); whether an errno speaks of
the service or of ourselves is decided here and nowhere else. connect(2), tcp(7), unix(7), send(2).
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Coroutine
from typing import Any

from watchdog.model import Kind, Observation
from watchdog.probes.deadline import Deadline
from watchdog.secret import SecretUnreadable
from watchdog.settings import format_duration

Finding = tuple[Kind, str]  # what an attempt found, and why

OF_THE_SERVICE = {
    errno.ECONNREFUSED: (Kind.REFUSED, "connection refused"),
    errno.ENOENT: (Kind.REFUSED, "no such socket"),
    errno.ECONNRESET: (Kind.WRONG, "closed the connection without an answer (reset)"),
    errno.EPIPE: (Kind.WRONG, "closed the connection without an answer"),
    errno.EHOSTUNREACH: (Kind.UNREACHABLE, "no route to the host"),
    errno.ENETUNREACH: (Kind.UNREACHABLE, "no route to its network"),
    errno.EHOSTDOWN: (Kind.UNREACHABLE, "the host is down"),
    errno.ENETDOWN: (Kind.UNREACHABLE, "the network is down"),
    errno.ETIMEDOUT: (Kind.UNREACHABLE, "the connection timed out"),
}


class Found(Exception):
    """Ends an attempt with its finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.finding = finding


async def observe(attempt: Coroutine[Any, Any, Finding], deadline: Deadline) -> Observation:
    """Run `attempt` until its end or `deadline.at`, and make an observation of what came of it. Never raises."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout_at(deadline.at) as limit:
            kind, reason = await attempt
    except Found as end:
        kind, reason = end.finding
    except Exception as error:
        if limit.expired():
            return deadline.so_far(loop.time() - started)
        kind, reason = explain(error)
    latency = loop.time() - started
    if kind is Kind.ALIVE:
        reason = f"{reason} in {format_duration(latency)}"
    return Observation(kind, latency, reason)


def explain(error: Exception) -> Finding:
    """What an exception of an attempt says: of the service, or (*error*) of ourselves."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Kind.WRONG, f"TLS certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return Kind.WRONG, f"TLS failed: {error.reason or error.args[-1]}"
    if isinstance(error, SecretUnreadable):
        return Kind.ERROR, str(error)
    if isinstance(error, OSError) and error.errno is not None:
        known = OF_THE_SERVICE.get(error.errno)
        return known or (Kind.ERROR, f"the probe could not run: {os.strerror(error.errno)}")
    return Kind.ERROR, f"the probe failed: {type(error).__name__}: {one_line(str(error))}"


def one_line(text: str) -> str:
    """At most 120 characters, in one line."""
    text = " ".join(text.split())
    return text if len(text) <= 120 else f"{text[:119]}…"
