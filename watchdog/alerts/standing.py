"""Tells a receiver that forgets of what still stands, again and again: a channel around such a channel.

Rules of this file. What was told is kept in the store, so a restart of the daemon neither lets an alert lapse nor
shortens it; and in memory, so a full disk does not either. One alert a service: of two incidents the later one counts,
and a late letter of the earlier one is not told. A letter that failed is the courier's to try again; what stands is
told again at its next turn. What was healed, with nobody left to tell it, is told no more, and lapses. Nothing here
raises.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn, Protocol, runtime_checkable

from watchdog.alerts import alert
from watchdog.alerts.delivery import Delivered, Failed
from watchdog.store import Letter, Stood

log = logging.getLogger(__name__)

AT_ONCE = 64  # alerts
AFTER = 0.1  # s after an end, until it is told that it came
LINGERS = 900.0  # s after its end that an alert is told of, for a receiver that could not be reached


@runtime_checkable
class Standing(Protocol):
    """A channel whose receiver forgets what it is not told again."""

    interval: float  # s between two times

    async def send(self, letter: Letter) -> Delivered | Failed:
        """One letter on its own."""

    async def tell(self, standing: Sequence[Stood]) -> Delivered | Failed:
        """All that is known of these. Raises nothing but CancelledError."""

    def ends(self, stood: Stood) -> float | None:
        """The wall-clock time when it stands no more; None while its incident is open."""

    async def close(self) -> None:
        """Release what it holds."""


class Ledger(Protocol):
    """Where it is kept what stands: the store. Each may raise."""

    async def standing(self, channel: str) -> Sequence[Stood]:
        """What the channel knows, without incidents that ended and whose end will never be told."""

    async def stands(self, stood: Stood) -> None:
        """The channel knows this now."""

    async def ended(self, stood: Stood) -> None:
        """It is told no more."""


@dataclass(slots=True, kw_only=True)
class Kept:
    """The channel that a courier is given. `guarded`: whether a service is still one of the config's.

    `notified(channel, ok)` hears of every attempt to tell again; of a letter's the courier tells.
    """

    name: str
    channel: Standing
    ledger: Ledger
    guarded: Callable[[str], bool]
    notified: Callable[[str, bool], None] = lambda *_: None
    clock: Callable[[], float] = time.time
    _known: dict[str, Stood] = field(default_factory=dict)
    _unwritten: set[str] = field(default_factory=set)  # services of which the ledger does not know what is known here
    _read: bool = False
    _told_at: float | None = None  # of the loop's clock
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _telling: asyncio.Lock = field(default_factory=asyncio.Lock)  # what is old news must not arrive after what is new

    async def send(self, letter: Letter) -> Delivered | Failed:
        """Tell it, and from now on again."""
        await self._recall()
        stood = advanced(self._known.get(letter.service), letter, self.clock())
        if stood is None:
            return Delivered()
        async with self._telling:
            result = await self.channel.tell([stood])
            if isinstance(result, Delivered):
                self._known[letter.service] = stood
        if isinstance(result, Delivered):
            await self._write(stood)
            self._changed.set()
        return result

    async def run(self) -> NoReturn:
        """Tell again until cancelled."""
        while True:
            await self._recall()
            self._changed.clear()
            try:
                async with asyncio.timeout(self._pause()):
                    await self._changed.wait()
            except TimeoutError:
                await self._again()

    async def close(self) -> None:
        """Close the channel."""
        await self.channel.close()

    def _pause(self) -> float:
        """Seconds until what stands is told again: at each interval, and when something ended."""
        now = self.clock()
        here = asyncio.get_running_loop().time()
        regular = self._told_at + self.channel.interval - here if self._told_at is not None else 0.0
        ends = [end - now + AFTER for stood in self._known.values() if (end := self.channel.ends(stood)) is not None]
        return max(0.0, min([regular, *(wait for wait in ends if wait > 0)]))

    async def _again(self) -> None:
        self._told_at = asyncio.get_running_loop().time()
        await self._let_go()
        services = [service for service in self._known if self.guarded(service)]
        for start in range(0, len(services), AT_ONCE):
            async with self._telling:
                standing = [self._known[service] for service in services[start : start + AT_ONCE]]
                try:
                    took = isinstance(await self.channel.tell(standing), Delivered)
                except Exception:  # a channel's fault is its own
                    log.exception("channel %s: a fault of ours", self.name)
                    took = False
            self.notified(self.name, took)

    async def _let_go(self) -> None:
        now = self.clock()
        for stood in list(self._known.values()):
            end = self.channel.ends(stood)
            if end is not None and now > end + LINGERS:
                await self._forget(stood)
        for stood in await self._healed_untold():
            await self._forget(stood)

    async def _healed_untold(self) -> list[Stood]:
        """What was told as open, while its end waits for nobody: it was given up, or there was no room for it.

        Only the ledger knows, so what it could not be told of is told to it first; where it can't tell, all stands on.
        """
        for service in list(self._unwritten):
            await self._write(self._known[service])
        known = {
            service: stood
            for service, stood in self._known.items()
            if service not in self._unwritten and self.channel.ends(stood) is None
        }
        if not known:
            return []
        try:
            standing = await self.ledger.standing(self.name)
        except Exception as error:
            log.debug("channel %s: what stands can't be read: %s", self.name, error)
            return []
        incidents = {stood.letter.incident for stood in standing}
        return [
            stood
            for service, stood in known.items()
            if stood.letter.incident not in incidents and self._known.get(service) is stood  # not told of since
        ]

    async def _forget(self, stood: Stood) -> None:
        service = stood.letter.service
        if self._known.get(service) is stood:
            del self._known[service]
            self._unwritten.discard(service)
            await self._attempt(self.ledger.ended(stood))

    async def _write(self, stood: Stood) -> None:
        self._unwritten.add(stood.letter.service)
        if await self._attempt(self.ledger.stands(stood)) and self._known.get(stood.letter.service) is stood:
            self._unwritten.discard(stood.letter.service)

    async def _recall(self) -> None:
        """What stood before this daemon began; where the store can't tell, it is asked again."""
        if self._read:
            return
        try:
            standing = await self.ledger.standing(self.name)
        except Exception as error:
            log.debug("channel %s: what stands can't be read: %s", self.name, error)
            return
        self._read = True
        self._known = {stood.letter.service: stood for stood in standing} | self._known

    async def _attempt(self, work: Awaitable[None]) -> bool:
        """Whether it went well. The store tells of its own troubles; memory goes on without it."""
        try:
            await work
        except Exception as error:
            log.debug("channel %s: what stands can't be written: %s", self.name, error)
            return False
        return True


def advanced(known: Stood | None, letter: Letter, now: float) -> Stood | None:
    """What stands once the receiver took this letter; None: it changes nothing."""
    if not letter.incident:
        return None
    if known is None or known.letter.incident != letter.incident:
        # By when it was written, not by the ids: SQLite gives them anew once the highest are deleted. What is known may
        # be of a clock that was ahead, and then shows nothing.
        if known is not None and letter.created < known.letter.created <= now:
            return None
        known = Stood(letter=letter, began=alert.began(letter), first=now)
    else:  # labels that were edited since would make another alert of it
        letter = replace(letter, payload=letter.payload | {"labels": known.letter.payload.get("labels", {})})
    critical = known.critical
    if critical is None and alert.is_critical(letter) and not alert.is_resolved(letter):
        critical = now
    return replace(known, letter=letter, critical=critical)
