"""The channel `alertmanager`: alerts for Alertmanager's API v2, which routes, groups and silences them.

Rules of this file. Alertmanager forgets an alert that it is not told again by its `endsAt`; so what is open is told
again at each `interval`, with an end a few of them ahead (`standing.py` sees to it): a watchdog that dies lets its
alerts lapse. One that is over is told of until its end has come, and that is at least `firing_at_least` after it was
first told: what is healed within Alertmanager's `group_wait` would else reach nobody. The replicas of a cluster share
what was notified, and not the alerts; so each URL is told everything, and one that took it is enough. One that is slow
keeps nobody waiting: its request goes on, and what comes later waits for it, so that no old news overtakes what is new.

The URLs and headers are credentials (`outgoing.py`). What is known by which labels: `alert.py`.
github.com/prometheus/alertmanager: api/v2/openapi.yaml, postableAlerts; types.go, Alert.Merge.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from watchdog.alerts import alert, answers
from watchdog.alerts.delivery import Delivered, Failed
from watchdog.alerts.message import TEST
from watchdog.alerts.outgoing import Answer, Sender, Unusable, check_url, value_of
from watchdog.alerts.routing import HttpRouting
from watchdog.clock import rfc3339
from watchdog.settings import Seconds, Secret, check_above_zero
from watchdog.store import Letter, Stood

log = logging.getLogger(__name__)

URL = "http://alertmanager.example.org:9093"
PATH = "/api/v2/alerts"
MISSED = 4  # intervals without a word after which an alert ends
LAST_WAIT = 1.0  # s that requests under way are left at the close


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(HttpRouting):
    """A `[channel.NAME]` table with `type = "alertmanager"`."""

    urls: tuple[str | Secret, ...] = field(repr=False)  # of all replicas, with their path prefix if they have one
    interval: Seconds = 60.0
    firing_at_least: Seconds = 300.0  # more than the group_wait of every route
    external_url: str = ""  # where people see this watchdog; Alertmanager shows it as the alert's source

    def __post_init__(self) -> None:
        HttpRouting.__post_init__(self)
        if not self.urls:
            raise Unusable(f'urls: names no Alertmanager; give one or more, such as ["{URL}"]')
        for index, url in enumerate(self.urls):
            if isinstance(url, str):
                check_url(url, URL, f"urls[{index}]")
        if not self.send_resolved:
            raise Unusable(
                "send_resolved: an alert that does not end fires on; its receivers in Alertmanager have that setting"
            )
        check_above_zero("interval", self.interval, "1m")
        if self.external_url and urlsplit(self.external_url).scheme not in ("http", "https"):
            raise Unusable('external_url: must be like "https://watchdog.example.org"')


class Alertmanager:
    """One Alertmanager, or the replicas of one."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.interval = settings.interval
        self._settings = settings
        self._clock = clock
        self._sender = Sender(settings.timeout, settings.ca_file, settings.proxy)
        self._host = socket.gethostname()
        self._failing: set[int] = set()  # of the URLs
        self._turns = [asyncio.Lock() for _ in settings.urls]
        self._under_way: set[asyncio.Task[Delivered | Failed]] = set()

    async def send(self, letter: Letter) -> Delivered | Failed:
        """One letter on its own: it fires for as long as any alert does at least."""
        if not alert.tells(letter):
            return Delivered()
        return await self.tell([Stood(letter=letter, began=alert.began(letter), first=self._clock())])

    async def tell(self, standing: Sequence[Stood]) -> Delivered | Failed:
        """Every URL is told; the first that took it is enough, and the others are told on."""
        alerts = [each for stood in standing for each in self.alerts(stood)]
        if not alerts:
            return Delivered()
        content = json.dumps(alerts, ensure_ascii=False).encode()
        channel = standing[0].letter.channel
        tasks = [asyncio.create_task(self._in_turn(channel, index, content)) for index in range(len(self._turns))]
        for task in tasks:
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        waiting = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(isinstance(task.result(), Delivered) for task in done):
                return Delivered()
        return _of_all([task.result() for task in tasks])

    def ends(self, stood: Stood) -> float | None:
        """The end of its last alert."""
        if not alert.is_resolved(stood.letter):
            return None
        return max(stood.letter.created, (stood.critical or stood.first) + self._settings.firing_at_least)

    async def close(self) -> None:
        """Close the session; what is under way is given a moment."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=LAST_WAIT)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self._sender.close()

    def alerts(self, stood: Stood) -> list[dict[str, Any]]:
        """Its alerts as Alertmanager takes them."""
        letter = stood.letter
        names = {alert.TRIED if letter.kind == TEST else alert.INCIDENT: (stood.began, stood.first)}
        if stood.critical is not None:
            names[alert.UNHEALED] = (stood.critical, stood.critical)
        words = alert.notes(letter, self._host)
        return [
            {
                "labels": alert.labels(letter, self._host, name),
                "annotations": words,
                "startsAt": rfc3339(began),
                "endsAt": rfc3339(self._end(letter, first)),
                **({"generatorURL": self._settings.external_url} if self._settings.external_url else {}),
            }
            for name, (began, first) in names.items()
        ]

    def _end(self, letter: Letter, first: float) -> float:
        least = first + self._settings.firing_at_least
        if letter.kind == TEST:
            return least
        return max(least, letter.created if alert.is_resolved(letter) else self._clock() + MISSED * self.interval)

    async def _in_turn(self, channel: str, index: int, content: bytes) -> Delivered | Failed:
        """Tell one URL, once it has answered what it was told before. Raises nothing but CancelledError."""
        turn = self._turns[index]
        try:
            async with asyncio.timeout(2 * self._settings.timeout):  # for one that hangs, and a little more
                await turn.acquire()
        except TimeoutError:  # it will be told at the next interval
            return Failed(retry=True, error="it has not answered yet what it was told before")
        try:
            result = await answers.attempt(self._post(index, content))
        except Exception as error:  # one URL's is none of the others'
            log.exception("channel %s: a fault of ours", channel)
            result = Failed(retry=True, error=f"a fault of ours: {type(error).__name__}")
        finally:
            turn.release()
        self._note(channel, index, result)
        return result

    async def _post(self, index: int, content: bytes) -> Answer:
        settings = self._settings
        url = value_of(settings.urls[index])
        check_url(url, URL, f"urls[{index}]")
        headers = {name: value_of(value) for name, value in settings.headers.items()}
        headers |= {"Content-Type": "application/json"}
        return await self._sender.post(url.rstrip("/") + PATH, content, headers)

    def _note(self, channel: str, index: int, result: Delivered | Failed) -> None:
        """A replica that fails is told of once: the channel as a whole may do well."""
        if isinstance(result, Delivered):
            if index in self._failing:
                self._failing.discard(index)
                log.info("channel %s: urls[%d] takes alerts again", channel, index)
        elif index not in self._failing:
            self._failing.add(index)
            log.warning("channel %s: urls[%d]: %s", channel, index, result.error)


def _of_all(results: Sequence[Delivered | Failed]) -> Delivered | Failed:
    failed = [result for result in results if isinstance(result, Failed)]
    if len(failed) < len(results):
        return Delivered()
    errors = [each.error if len(failed) == 1 else f"urls[{index}]: {each.error}" for index, each in enumerate(failed)]
    afters = [each.after for each in failed if each.after is not None]
    return Failed(
        retry=any(each.retry for each in failed),
        error="; ".join(errors),
        after=min(afters) if len(afters) == len(failed) else None,
    )
