"""The dead-man ping: a monitor elsewhere is told at each interval that we guard, and alarms when it hears nothing.

So nobody has to notice that the watchdog, its host or the network between has gone. Where only part of the watchdog is
sick (`Ailing` says of what), it tells so at once instead of falling silent, and once.

Rules of this file: a ping is given up at its time-out and never made good: the next one says it all. Whatever goes
wrong ends up as one line in the log, and one when it works again. The URL is a secret and shows up nowhere
(`alerts/outgoing.py`); the body says how many services are guarded, or what is wrong, and names no secret either.

Fact: healthchecks.io/docs/http_api: POST to URL for success, to URL/fail for failure. Its hosted form answers a check
that it does not know, or that is pinged too often, with 200, and says so in the body: "OK (not found)".
"""

from __future__ import annotations

import asyncio
import enum
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import urlsplit

from watchdog.alerts.outgoing import Answer, Sender, Undelivered, Unusable, check_url, value_of
from watchdog.messages import Event, of_event
from watchdog.secret import SecretUnreadable
from watchdog.settings import Seconds, Secret, check_above_zero

URL = "https://hc-ping.com/UUID"
SECOND_LOOK = 5.0  # s until an ailment is believed: the disk may have had one bad second, the guards just been started
LONGEST = 500  # characters of a body
HEADERS = {"Content-Type": "text/plain; charset=utf-8"}

log = logging.getLogger(__name__)

Ailing = Callable[[], str]  # what is wrong with the watchdog itself, in a clause; empty: nothing
Guarded = Callable[[], int]  # how many services


class Ping(enum.StrEnum):
    """What came of an interval."""

    SUCCESS = "success"  # the monitor was told that all is well
    FAIL = "fail"  # it was told that something is wrong with the watchdog
    UNDELIVERED = "undelivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The `[dead_man]` table."""

    url: str | Secret = field(repr=False)
    interval: Seconds = 60.0
    timeout: Seconds = 10.0  # of one ping
    ca_file: str | None = None  # PEM; the monitor's certificate must come from it, not from the system's CAs

    def __post_init__(self) -> None:
        if isinstance(self.url, str):
            check_url(self.url, URL)
        check_above_zero("interval", self.interval, "1m")
        check_above_zero("timeout", self.timeout, "10s")


class DeadMan:
    """Pings until it is cancelled. `pinged` hears of every attempt."""

    def __init__(self, settings: Settings, ailing: Ailing, guarded: Guarded, pinged: Callable[[Ping], None]) -> None:
        self.settings = settings
        self._ailing = ailing
        self._guarded = guarded
        self._pinged = pinged
        self._sender = Sender(settings.timeout, settings.ca_file)
        self._alarmed = False  # the monitor knows that something is wrong
        self._failing = False

    async def run(self) -> NoReturn:
        """A ping at once, so that the monitor need not wait for it after a start, and then one each interval."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                await self._turn()
                due = max(due + self.settings.interval, loop.time())
                await asyncio.sleep(due - loop.time())
        finally:
            await self._sender.close()

    async def _turn(self) -> None:
        wrong = await self._wrong()
        if not wrong:
            if await self._ping(Ping.SUCCESS, f"guarding {self._guarded()} services"):
                self._alarmed = False
        elif not self._alarmed and await self._ping(Ping.FAIL, wrong):
            self._alarmed = True
            log.error("the dead-man monitor was told: %s", wrong, extra=of_event(Event.DEAD_MAN_ALARM))

    async def _wrong(self) -> str:
        """What is wrong, and still is at a second look."""
        if not self._ailing():
            return ""
        await asyncio.sleep(min(SECOND_LOOK, self.settings.interval / 2))
        return self._ailing()

    async def _ping(self, ping: Ping, text: str) -> bool:
        """One attempt; whether the monitor took it."""
        try:
            fault = await self._send(ping, text)
        except Exception as error:  # whatever it is, it must not end the guarding; its text might quote the URL
            fault = f"a fault of ours ({type(error).__name__})"
        self._pinged(Ping.UNDELIVERED if fault else ping)
        if fault and not self._failing:
            log.warning("the dead-man ping fails: %s", fault, extra=of_event(Event.DEAD_MAN_FAILS))
        elif self._failing and not fault:
            log.info("the dead-man ping works again", extra=of_event(Event.DEAD_MAN_WORKS))
        self._failing = bool(fault)
        return not fault

    async def _send(self, ping: Ping, text: str) -> str:
        """What went wrong; empty: nothing."""
        try:
            url = value_of(self.settings.url)
            check_url(url, URL)
            body = f"epoll-watchdog on {socket.gethostname()}: {text}"[:LONGEST]
            answer = await self._sender.post(address(url, ping), body.encode(errors="replace"), HEADERS)
        except (Undelivered, SecretUnreadable, Unusable) as error:
            return str(error)
        return _fault(answer)


def address(url: str, ping: Ping) -> str:
    """Where a ping goes: a failure to the path URL/fail; a query ("?create=1") stays."""
    if ping is Ping.SUCCESS:
        return url
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/fail").geturl()


def _fault(answer: Answer) -> str:
    status = answer.status
    if 300 <= status < 400:
        return f"answered {status}, a redirect: configure the URL that it leads to"
    if not 200 <= status < 300:
        return f"answered {status}"
    if answer.body.startswith(b"OK (not found)"):
        return "answered that it knows no such check"
    return "answered that it is pinged too often" if answer.body.startswith(b"OK (rate limited)") else ""
