"""Brings the outbox's letters to their channels: at least once and in order, or says loudly that it could not.

Rules of this file: a channel says what happened (delivered; or failed, and whether an attempt soon makes sense), the
loop here decides when to try again, and never the channel. One `Courier` a channel, so that a dead one delays no other.
Letters of one incident keep their order; one that its receiver refuses over and over holds up no other incident's.
Only age ends the attempts: what a receiver refuses today it may take once its settings, or ours, are mended.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Protocol, runtime_checkable

from watchdog.alerts.routing import Rate, Routing
from watchdog.clock import FAR
from watchdog.messages import Event, of_event
from watchdog.model import Severity
from watchdog.settings import format_duration

if TYPE_CHECKING:
    from watchdog.store import Letter

log = logging.getLogger(__name__)

BATCH = 100  # letters read at once
FAIR_TRIES = 10  # no letter is too old before so many attempts
MANY = 30  # attempts after which the wait between two is the longest


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver took it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not. `error` is one line without a secret; `after`: seconds that the receiver asked to be left alone.

    Without `retry` an attempt soon would go no better: it waits as long as after many.
    """

    retry: bool
    error: str
    after: float | None = None


@dataclass(slots=True)
class Pace:
    """Keeps a rate limit. Times are of the loop's clock."""

    rate: Rate
    uses: list[float]
    limited: bool = False  # letters had to wait, so what waits of one incident is told in one

    def use(self, now: float) -> None:
        """A letter was delivered."""
        self.uses = [at for at in self.uses if now - at < self.rate.interval]
        self.uses.append(now)

    def wait(self, now: float) -> float:
        """Seconds until the next letter may go."""
        counted = [at for at in self.uses if now - at < self.rate.interval]
        if len(counted) < self.rate.burst:
            return 0.0
        return sorted(counted)[-self.rate.burst] + self.rate.interval - now


class Channel(Protocol):
    """A road to people. `send` takes its own time-out and raises nothing but CancelledError."""

    async def send(self, letter: Letter) -> Delivered | Failed:
        """One attempt."""

    async def close(self) -> None:
        """Release what it holds; nothing is sent afterwards."""


@runtime_checkable
class Busy(Protocol):
    """A channel with work of its own besides letters, as to tell again of what stands. `run` raises nothing."""

    async def run(self) -> NoReturn:
        """Work until cancelled, which is before `close`."""


class Outbox(Protocol):
    """The store's letters that wait for their delivery; an undelivered one is never forgotten."""

    async def outbox(self, channel: str, limit: int) -> Sequence[Letter]:
        """Of each incident the first letter that waits for the channel; those that are due first."""

    async def told(self, channel: str, incident: str) -> bool:
        """Whether any letter of this incident was delivered over the channel."""

    async def delivered(self, key: str) -> None:
        """It is done with."""

    async def postponed(self, key: str, not_before: float, error: str) -> None:
        """One more attempt failed; the next not before this wall-clock time."""

    async def given_up(self, key: str, error: str) -> None:
        """It is done with, undelivered."""

    async def merged(self, letter: Letter) -> Letter:
        """The newest letter of its incident that waits, which from now on stands for all of them."""

    async def gravest(self, channel: str) -> Mapping[tuple[str, str], str]:
        """Of each incident and service, how severe the letter would be that stood for all that waits."""

    async def delivered_since(self, channel: str, since: float) -> Sequence[float]:
        """When letters reached the channel, after that wall-clock time."""


@dataclass(slots=True, kw_only=True)
class Courier:
    """Drains one channel's letters. `notified(channel, ok)` hears of every attempt, `gave_up(channel)` of the last."""

    name: str
    channel: Channel
    routing: Routing
    outbox: Outbox
    notified: Callable[[str, bool], None]
    gave_up: Callable[[str], None] = lambda _: None
    first_retry: float = 1.0
    longest_retry: float = 600.0
    clock: Callable[[], float] = time.time
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _sent: set[str] = field(default_factory=set)  # keys of letters delivered, but the store could not note it yet
    _quiet_until: float = 0.0  # of the loop's clock: the receiver asked to be left alone
    _pace: Pace | None = None  # of the rate limit, from the first round on
    _failing: bool = False
    _store_failures: int = 0

    def wake(self) -> None:
        """Letters were committed: look now."""
        self._woken.set()

    async def run(self) -> NoReturn:
        """Deliver until cancelled; then the channel is closed."""
        own_work = asyncio.create_task(self.channel.run()) if isinstance(self.channel, Busy) else None
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
            if own_work is not None:
                own_work.cancel()
                await asyncio.wait({own_work})
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
        pace = self._pace = self._pace or await self._paced()
        limited = pace is not None and pace.limited
        if limited:
            letters = await self._worst_first(letters)
        waits: list[float] = []
        tried = held = False
        for letter in letters:
            wait = self._wait(letter)
            if wait <= 0 and pace is not None:
                wait = pace.wait(asyncio.get_running_loop().time())
                held = held or wait > 0
            if wait <= 0:
                tried = True
                wait = await self._deliver(await self.outbox.merged(letter) if limited else letter)
            waits.append(wait)
        if pace is not None:
            pace.limited = held
        if tried and len(letters) == BATCH:  # others may be due
            return 0.0
        return min(waits, default=None)  # 0 where a letter is done with: the next one of its incident is due

    async def _worst_first(self, letters: Sequence[Letter]) -> Sequence[Letter]:
        """By the worst that waits of each one's incident, for that is what it will tell of."""
        gravest = await self.outbox.gravest(self.name)

        def rank(letter: Letter) -> int:
            return Severity(gravest.get((letter.incident, letter.service), letter.severity)).rank

        return sorted(letters, key=rank, reverse=True)

    async def _paced(self) -> Pace | None:
        """What counts against the rate limit outlives the daemon."""
        rate = self.routing.rate_limit
        if rate is None:
            return None
        now, here = self.clock(), asyncio.get_running_loop().time()
        ended = await self.outbox.delivered_since(self.name, now - rate.interval)
        return Pace(rate, [here - max(0.0, now - at) for at in ended])

    def _wait(self, letter: Letter) -> float:
        quiet = self._quiet_until - asyncio.get_running_loop().time()
        own = letter.not_before - self.clock()
        return max(quiet, own if own <= FAR else 0.0)

    async def _deliver(self, letter: Letter) -> float:
        """One attempt. 0: the letter is done with; else the seconds until the next one."""
        if letter.key not in self._sent:
            if letter.only_if_told and not await self.outbox.told(self.name, letter.incident):
                await self.outbox.given_up(letter.key, "the channel heard nothing of its incident")
                return 0.0
            result = await self._send(letter)
            if isinstance(result, Failed):
                return await self._failed(letter, result)
            self._recovered()
            if self._pace is not None:
                self._pace.use(asyncio.get_running_loop().time())
            self._sent.add(letter.key)
        await self.outbox.delivered(letter.key)
        self._sent.discard(letter.key)
        return 0.0

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
        if now - letter.created > self.routing.give_up_after and letter.attempts + 1 >= FAIR_TRIES:
            await self._give_up(letter, failed)
            return 0.0
        wait = self._backoff(letter.attempts if failed.retry else MANY)
        if failed.after is not None:
            wait = min(max(wait, failed.after), FAR)
            self._quiet_until = asyncio.get_running_loop().time() + min(failed.after, FAR)
        if not self._failing:
            self._failing = True
            log.warning("channel %s: %s; next attempt in %s", self.name, failed.error, format_duration(wait))
        await self.outbox.postponed(letter.key, now + wait, failed.error)
        return wait

    async def _give_up(self, letter: Letter, failed: Failed) -> None:
        await self.outbox.given_up(letter.key, failed.error)
        self.gave_up(self.name)
        log.critical(
            'channel %s: GAVE UP the message "%s" of %s (incident %s) after %d attempts: %s',
            self.name,
            letter.kind,
            letter.service,
            letter.incident or "none",
            letter.attempts + 1,
            failed.error,
            extra=of_event(Event.LETTERS_LOST, SERVICE=letter.service, INCIDENT=letter.incident),
        )

    def _backoff(self, attempts: int) -> float:
        """Doubled each time, with half of it left to chance: many channels don't come back all at once."""
        longest = min(self.longest_retry, self.first_retry * 2.0 ** min(attempts, MANY))
        return longest * random.uniform(0.5, 1.0)

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            log.info("channel %s: delivers again", self.name)
