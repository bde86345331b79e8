"""Brings the outbox's letters to their channels: at least once and in order, or says loudly that it could not.

Rules of this file: a channel says what happened (delivered; or failed, and whether a later attempt makes sense), the
loop here decides when to try again, and never the channel. One `Courier` a channel, so that a dead one delays no other.
Letters of one service keep their order; a letter that its receiver refuses over and over holds up no other service's.
Whatever goes wrong, in a channel or in the store, ends up as one line in the log and a later attempt: an alert's
troubles must never reach the guards.

Times here are wall-clock: they outlive the daemon, and a Retry-After may be a date. A clock that jumps back delays a
letter by at most `FAR`; one that jumps ahead can't make a letter too old before it was really tried.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Protocol

from watchdog.model import RecordKind, Severity
from watchdog.settings import format_duration

if TYPE_CHECKING:
    from watchdog.store import Letter

log = logging.getLogger(__name__)

BATCH = 100  # letters read at once
FAR = 3600.0  # the longest wait that anything asks for, a Retry-After too
FAIR_TRIES = 10  # no letter is too old before so many attempts


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver took it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not. `error` is one line without a secret; `after`: seconds that the receiver asked to be left alone."""

    retry: bool
    error: str
    after: float | None = None


class Channel(Protocol):
    """A road to people. `send` takes its own time-out and raises nothing but CancelledError."""

    async def send(self, letter: Letter) -> Delivered | Failed:
        """One attempt."""

    async def close(self) -> None:
        """Release what it holds; nothing is sent afterwards."""


class Routing(Protocol):
    """What the Settings of every channel have: which letters it wants."""

    @property
    def min_severity(self) -> Severity:
        """Nothing below it."""

    @property
    def services(self) -> tuple[str, ...]:
        """Of these services only; empty: of all."""

    @property
    def send_resolved(self) -> bool:
        """Whether the end of an incident is told too."""


class Outbox(Protocol):
    """The store's letters that wait for their delivery; an undelivered one is never forgotten."""

    async def outbox(self, channel: str, limit: int) -> Sequence[Letter]:
        """The oldest letters of the channel that are neither delivered nor given up, oldest first."""

    async def told(self, channel: str, incident: str) -> bool:
        """Whether any letter of this incident was delivered over the channel."""

    async def delivered(self, letter_id: int) -> None:
        """It is done with."""

    async def postponed(self, letter_id: int, not_before: float, error: str) -> None:
        """One more attempt failed; the next not before this wall-clock time."""

    async def given_up(self, letter_id: int, error: str) -> None:
        """It is done with, undelivered."""


@dataclass(slots=True, kw_only=True)
class Courier:
    """Drains one channel's letters. `notified(channel, ok)` hears of every attempt."""

    name: str
    channel: Channel
    routing: Routing
    outbox: Outbox
    notified: Callable[[str, bool], None]
    give_up_after: float = 3 * 86400.0  # a letter's age
    first_retry: float = 1.0
    longest_retry: float = 600.0
    clock: Callable[[], float] = time.time
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _sent: set[int] = field(default_factory=set)  # delivered, but the store could not note it yet
    _quiet_until: float = 0.0  # of the loop's clock: the receiver asked to be left alone
    _failing: bool = False
    _store_failures: int = 0

    def wake(self) -> None:
        """Letters were committed: look now."""
        self._woken.set()

    async def run(self) -> NoReturn:
        """Deliver until cancelled; then the channel is closed."""
        try:
            while True:
                self._woken.clear()
                pause = await self._round_or_wait()
                try:
                    async with asyncio.timeout(pause):
                        await self._woken.wait()
                except TimeoutError:
                    pass
        finally:
            await self.channel.close()

    async def _round_or_wait(self) -> float | None:
        try:
            pause = await self._round()
        except Exception as error:  # whatever ails the store, the letters are still in it
            self._store_failures += 1
            if self._store_failures == 1:
                log.error("channel %s: the outbox can't be read or written: %s", self.name, error)
            return min(60.0, 2.0**self._store_failures)
        self._store_failures = 0
        return pause

    async def _round(self) -> float | None:
        """Send what is due. Seconds until more is due; None: nothing waits."""
        letters = await self.outbox.outbox(self.name, BATCH)
        waiting: dict[str, float] = {}  # the service whose letter must wait, and how long
        for letter in letters:
            if letter.service in waiting:
                continue
            wait = self._wait(letter)
            if wait <= 0:
                wait = await self._deliver(letter)
            if wait > 0:
                waiting[letter.service] = wait
        if not waiting:
            return 0.0 if len(letters) == BATCH else None
        return min(waiting.values())

    def _wait(self, letter: Letter) -> float:
        quiet = self._quiet_until - asyncio.get_running_loop().time()
        own = letter.not_before - self.clock()
        return max(quiet, own if own <= FAR else 0.0)

    async def _deliver(self, letter: Letter) -> float:
        """One attempt. 0: the letter is done with; else the seconds until the next one."""
        if letter.id not in self._sent:
            if not await self._wanted(letter):
                await self.outbox.given_up(letter.id, "not wanted by the channel's settings")
                return 0.0
            result = await self._send(letter)
            if isinstance(result, Failed):
                return await self._failed(letter, result)
            self._recovered()
            self._sent.add(letter.id)
        await self.outbox.delivered(letter.id)
        self._sent.discard(letter.id)
        return 0.0

    async def _wanted(self, letter: Letter) -> bool:
        if self.routing.services and letter.service not in self.routing.services:
            return False
        if letter.kind == RecordKind.RESOLVED:  # whoever heard of an incident hears of its end, and nobody else
            return self.routing.send_resolved and (
                self._severe(letter) or await self.outbox.told(self.name, letter.incident)
            )
        return self._severe(letter)

    def _severe(self, letter: Letter) -> bool:
        return Severity(letter.severity).rank >= self.routing.min_severity.rank

    async def _send(self, letter: Letter) -> Delivered | Failed:
        try:
            result = await self.channel.send(letter)
        except Exception as error:  # a channel's fault is its own: it must not end the other tasks
            log.exception("channel %s: a fault of ours", self.name)
            result = Failed(retry=True, error=f"a fault of ours: {type(error).__name__}")
        self.notified(self.name, isinstance(result, Delivered))
        return result

    async def _failed(self, letter: Letter, failed: Failed) -> float:
        now = self.clock()
        too_old = now - letter.created > self.give_up_after and letter.attempts + 1 >= FAIR_TRIES
        if too_old or not failed.retry:
            log.error(
                'channel %s: GAVE UP the message "%s" of %s (incident %s) after %d attempts: %s',
                self.name,
                letter.kind,
                letter.service,
                letter.incident,
                letter.attempts + 1,
                failed.error,
            )
            await self.outbox.given_up(letter.id, failed.error)
            return 0.0
        wait = self._backoff(letter.attempts)
        if failed.after is not None:
            wait = min(max(wait, failed.after), FAR)
            self._quiet_until = asyncio.get_running_loop().time() + min(failed.after, FAR)
        if not self._failing:
            self._failing = True
            log.warning("channel %s: %s; next attempt in %s", self.name, failed.error, format_duration(wait))
        await self.outbox.postponed(letter.id, now + wait, failed.error)
        return wait

    def _backoff(self, attempts: int) -> float:
        """Doubled each time, with half of it left to chance: many channels don't come back all at once."""
        longest = min(self.longest_retry, self.first_retry * 2.0 ** min(attempts, 30))
        return longest * random.uniform(0.5, 1.0)

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            log.info("channel %s: delivers again", self.name)
