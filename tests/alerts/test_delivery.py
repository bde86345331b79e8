"""Couriers between the real store and real receivers: order, attempts, giving up, and that no trouble spreads."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.letters import letter
from tests.alerts.receiver import CUT, HANG, Receiver, answer, receiver
from tests.store.make import sick
from watchdog.alerts.delivery import BATCH, Courier, Delivered, Failed
from watchdog.alerts.routing import Rate
from watchdog.alerts.webhook import Settings, Webhook
from watchdog.clock import Clock
from watchdog.store import Letter, Squeezed, Store

DAY = 86400.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store on disk."""
    opened = Store(tmp_path, Clock(), deadline=30)
    yield opened
    await opened.close()


class Counts:
    """What was counted of the attempts."""

    def __init__(self) -> None:
        self.attempts: list[tuple[str, bool]] = []

    def notified(self, channel: str, ok: bool) -> None:
        """One attempt ended."""
        self.attempts.append((channel, ok))


@contextlib.asynccontextmanager
async def running(store: Store, place: Receiver, name: str = "ops", **changed: Any) -> AsyncIterator[Courier]:
    """A courier from this store to this receiver, at work."""
    wanted: dict[str, Any] = {"url": place.url, "timeout": 5.0} | changed.pop("settings", {})
    settings = Settings(**wanted)
    parts: dict[str, Any] = {
        "channel": Webhook(settings),
        "routing": settings,
        "notified": Counts().notified,
        "first_retry": 0.02,
    }
    courier = Courier(name=name, outbox=store, **parts | changed)
    task = asyncio.create_task(courier.run())
    try:
        yield courier
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def post(store: Store, *letters: Letter) -> None:
    """Commit these letters, in this order; those of one incident with the incident open."""
    await store.commit("ravendb", sick("01JINCIDENT"), [], None, letters)


def fresh(**changed: Any) -> Letter:
    """A letter written just now, which the store gives a key."""
    return letter(**{"created": time.time(), "key": ""} | changed)


def numbered(count: int, **changed: Any) -> list[Letter]:
    """So many letters, each of an incident of its own, which are known by their texts."""
    return [fresh(incident=f"i{number}", payload={"text": f"{number}"}, **changed) for number in range(count)]


async def emptied(store: Store, left: int = 0) -> None:
    """Wait until no more than this waits in the outbox."""
    async with asyncio.timeout(10):
        while await store.outbox_length() > left:  # noqa: ASYNC110  (another thread's doing)
            await asyncio.sleep(0.01)


def fates(tmp_path: Path) -> list[tuple[str, str]]:
    """What became of each letter, and the last error."""
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as db:
        return db.execute("SELECT status, error FROM outbox ORDER BY id").fetchall()


async def test_what_waits_at_the_start_is_delivered_in_order(store: Store) -> None:
    await post(store, fresh(kind="opened"), fresh(kind="nudged"), fresh(kind="resolved"))
    async with receiver() as place, running(store, place):
        await emptied(store)
    assert [request.json["kind"] for request in place.requests] == ["opened", "nudged", "resolved"]


async def test_a_commit_wakes_the_courier(store: Store) -> None:
    async with receiver() as place, running(store, place) as courier:
        await post(store, fresh())
        courier.wake()
        await emptied(store)
    assert len(place.requests) == 1


async def test_more_letters_than_one_batch_all_arrive(store: Store) -> None:
    await post(store, *(fresh(service=f"s{number}") for number in range(150)))
    async with receiver() as place, running(store, place):
        await emptied(store)
    assert [request.json["service"] for request in place.requests] == [f"s{number}" for number in range(150)]


@pytest.mark.parametrize(("trouble", "timeout"), [(answer(500), 10.0), (CUT, 10.0), (answer(429), 10.0), (HANG, 1.0)])
async def test_a_letter_is_tried_until_it_is_taken(store: Store, trouble: bytes, timeout: float) -> None:
    counts = Counts()
    await post(store, fresh())
    async with (
        receiver(trouble, trouble) as place,
        running(store, place, notified=counts.notified, settings={"timeout": timeout}),
    ):
        await emptied(store)
    assert len({request.json["id"] for request in place.requests}) == 1
    assert len(place.requests) == 3
    assert counts.attempts == [("ops", False), ("ops", False), ("ops", True)]


async def test_no_later_word_of_an_incident_comes_before_an_earlier_one(store: Store) -> None:
    await post(store, fresh(kind="opened"), fresh(kind="resolved"))
    async with receiver(answer(500), answer(500)) as place, running(store, place):
        await emptied(store)
    assert [request.json["kind"] for request in place.requests] == ["opened", "opened", "opened", "resolved"]


async def test_a_letter_that_is_never_taken_holds_up_no_other_incident(store: Store) -> None:
    await post(store, fresh(incident="poisoned"), fresh(incident="poisoned", kind="resolved"), fresh(incident="sound"))
    async with receiver(answer(500)) as place, running(store, place, first_retry=60.0):
        requests = await place.received(2)
        await emptied(store, left=2)
    assert [(request.json["incident"], request.json["kind"]) for request in requests] == [
        ("poisoned", "opened"),
        ("sound", "opened"),
    ]


async def test_a_hundred_incidents_that_are_never_taken_hold_up_no_other(store: Store) -> None:
    await post(store, *numbered(BATCH + 1))
    async with receiver(*[answer(500)] * BATCH) as place, running(store, place, first_retry=60.0):
        requests = await place.received(BATCH + 1)
    assert requests[-1].json["text"] == f"{BATCH}"


async def test_waits_grow_between_the_attempts(store: Store) -> None:
    await post(store, fresh())
    async with receiver(*[answer(500)] * 5) as place, running(store, place, first_retry=0.02, longest_retry=0.16):
        requests = await place.received(6)
    gaps = [after.at - before.at for before, after in itertools.pairwise(requests)]
    shortest = [0.01, 0.02, 0.04, 0.08, 0.08]  # half of each wait is left to chance
    assert [gap >= least for gap, least in zip(gaps, shortest, strict=True)] == [True] * 5


async def test_a_receiver_that_asks_for_quiet_hears_nothing_until_then(store: Store) -> None:
    await post(store, fresh(service="ravendb"), fresh(service="redis"))
    async with receiver(answer(429, "Retry-After: 1")) as place, running(store, place):
        requests = await place.received(3)
    assert requests[1].at - requests[0].at >= 0.95
    assert [request.json["service"] for request in requests] == ["ravendb", "ravendb", "redis"]


async def test_a_channel_that_hangs_delays_no_other(store: Store) -> None:
    await post(store, fresh(channel="dead"), fresh(channel="ops"))
    async with receiver(HANG) as dead, receiver() as place, running(store, dead, name="dead"):
        await dead.received(1)
        async with running(store, place):
            await place.received(1)
        assert len(dead.requests) == 1


async def test_an_ended_courier_leaves_what_it_could_not_deliver(store: Store) -> None:
    await post(store, fresh())
    async with receiver(HANG) as place:
        async with running(store, place):
            await place.received(1)
        assert await store.outbox_length() == 1
        async with running(store, place):
            await emptied(store)
    first, second = place.requests
    assert first.json["id"] == second.json["id"]


async def test_the_end_of_a_courier_comes_at_once_and_closes_its_connections(store: Store) -> None:
    await post(store, fresh())
    async with receiver(HANG) as place:
        async with running(store, place):
            await place.received(1)
            began = time.monotonic()
        await place.all_ended()
        assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("refusal", [answer(404), answer(410), answer(302, "Location: /elsewhere")])
async def test_a_refused_letter_is_tried_again_as_late_as_after_many_attempts(store: Store, refusal: bytes) -> None:
    await post(store, fresh())
    async with receiver(refusal) as place, running(store, place, first_retry=0.001, longest_retry=0.4):
        first, second = await place.received(2)
        await emptied(store)
    assert second.at - first.at >= 0.2  # half of the longest wait is left to chance


async def test_an_old_letter_is_given_up_loudly_after_it_was_really_tried(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given_up: list[str] = []
    await post(store, fresh(created=time.time() - 3 * DAY - 60))
    async with (
        receiver(*[answer(503)] * 20) as place,
        running(store, place, first_retry=0.001, longest_retry=0.002, gave_up=given_up.append),
    ):
        await emptied(store)
    assert len(place.requests) == 10
    assert fates(tmp_path) == [("given_up", "answered 503")]
    assert given_up == ["ops"]
    [told] = [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]
    assert told == (
        'channel ops: GAVE UP the message "opened" of ravendb (incident 01JINCIDENT) after 10 attempts: answered 503'
    )


async def test_a_channel_says_how_long_is_too_long(store: Store, tmp_path: Path) -> None:
    settings = {"give_up_after": 60.0}
    await post(store, fresh(created=time.time() - 61), fresh(created=time.time() - 30, incident="young"))
    async with (
        receiver(*[answer(503)] * 20) as place,
        running(store, place, first_retry=0.001, longest_retry=0.002, settings=settings),
    ):
        await emptied(store)
    assert [status for status, _ in fates(tmp_path)] == ["given_up"]  # the young one's incident is not known
    assert place.requests[-1].json["incident"] == "young"


async def test_a_young_letter_is_never_given_up(store: Store) -> None:
    await post(store, fresh())
    async with receiver(*[answer(503)] * 25) as place, running(store, place, first_retry=0.001, longest_retry=0.002):
        await emptied(store)
    assert len(place.requests) == 26


async def test_a_clock_that_jumped_back_delays_a_letter_by_an_hour_at_most(store: Store) -> None:
    await post(store, fresh(), fresh(service="redis"))
    far, near = await store.outbox("ops", 10)
    await store.postponed(far.key, time.time() + 30 * DAY, "before the jump")
    await store.postponed(near.key, time.time() + 1800, "as it should be")
    async with receiver() as place, running(store, place):
        await emptied(store, left=1)
    assert [request.json["service"] for request in place.requests] == ["ravendb"]


async def test_an_end_that_waited_in_memory_is_for_who_was_told(store: Store) -> None:
    await post(store, fresh(kind="opened"))
    async with receiver() as place, running(store, place):
        await emptied(store)
        store._unsaved = [fresh(key="a", only_if_told=True), fresh(key="b", incident="other", only_if_told=True)]
    async with receiver() as place, running(store, place):
        await emptied(store)
    assert [request.json["id"] for request in place.requests] == ["01JINCIDENT.a"]


# --- the rate limit ---------------------------------------------------------------------------------------------------

SLOW = {"rate_limit": Rate(burst=2, interval=0.5)}
SLOWER = {"rate_limit": Rate(burst=2, interval=60.0)}  # a stall can't outlast it


async def rate_allows_more(courier: Courier) -> None:
    """The rate's interval is over, once letters have had to wait for it."""
    async with asyncio.timeout(10):
        while courier._pace is None or not courier._pace.limited:  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0.01)
    courier._pace.uses.clear()
    courier.wake()


async def test_letters_beyond_the_rate_wait_and_all_arrive(store: Store) -> None:
    await post(store, *numbered(5))
    async with receiver() as place, running(store, place, settings=SLOW):
        await emptied(store)
    assert sorted(request.json["text"] for request in place.requests) == ["0", "1", "2", "3", "4"]
    times = [request.at for request in place.requests]
    assert min(later - earlier for earlier, later in zip(times, times[2:], strict=False)) >= 0.49


async def test_what_waits_of_one_incident_is_told_in_one(store: Store, tmp_path: Path) -> None:
    squeezed: list[Squeezed] = []
    store.squeezed = squeezed.append
    story = [fresh(kind=kind) for kind in ("opened", "nudged", "verdict", "nudged", "resolved")]
    await post(store, *story)
    async with receiver() as place, running(store, place, settings=SLOWER) as courier:
        await rate_allows_more(courier)
        await emptied(store)
    told = [(request.json["kind"], request.json["merged"]) for request in place.requests]
    assert told == [("opened", 0), ("nudged", 0), ("resolved", 2)]
    assert squeezed == [Squeezed("ops", 2, 0)]


async def test_what_waits_for_the_rate_goes_by_severity(store: Store) -> None:
    quiet = numbered(4, severity="info")
    await post(store, *quiet, fresh(incident="worst", severity="critical"))
    async with receiver() as place, running(store, place, settings=SLOWER) as courier:
        await rate_allows_more(courier)
        requests = await place.received(3)
    assert requests[2].json["severity"] == "critical"


async def test_what_waits_behind_a_lesser_letter_of_its_incident_counts_with_it_and_its_severity_is_told(
    store: Store,
) -> None:
    quiet = numbered(4, severity="info")
    worst = [fresh(incident="worst", severity=word) for word in ("info", "critical", "info")]
    await post(store, *quiet, *worst)
    async with receiver() as place, running(store, place, settings=SLOWER) as courier:
        await rate_allows_more(courier)
        requests = await place.received(3)
    told = requests[2].json
    assert (told["incident"], told["severity"], told["merged"]) == ("worst", "critical", 2)


async def test_the_rate_counts_what_the_last_daemon_sent(store: Store) -> None:
    slow = {"rate_limit": Rate(burst=2, interval=60.0)}
    await post(store, *[fresh() for _ in range(3)])
    async with receiver() as place:
        async with running(store, place, settings=slow):
            await place.received(2)
            await emptied(store, left=1)
        async with running(store, place, settings=slow):
            await asyncio.sleep(0.3)  # nothing happens: there is no event to wait for
        assert len(place.requests) == 2


async def test_a_rate_that_is_not_used_up_merges_nothing(store: Store) -> None:
    slow = {"rate_limit": Rate(burst=3, interval=60.0)}
    await post(store, fresh(kind="opened"), fresh(kind="nudged"), fresh(kind="resolved"))
    async with receiver() as place, running(store, place, settings=slow):
        await emptied(store)
    assert [request.json["merged"] for request in place.requests] == [0, 0, 0]


# --- trouble ----------------------------------------------------------------------------------------------------------


async def test_trouble_is_told_once_and_so_is_its_end(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "watchdog.alerts")
    await post(store, fresh())
    async with receiver(*[answer(500)] * 4) as place, running(store, place):
        await emptied(store)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO"]
    assert caplog.records[0].getMessage().startswith("channel ops: answered 500; next attempt in ")
    assert caplog.records[1].getMessage() == "channel ops: delivers again"


class Broken:
    """A channel with a bug, at its first letter."""

    def __init__(self) -> None:
        self.sent = 0

    async def send(self, letter: Letter) -> Delivered | Failed:
        """Fail as no channel may."""
        self.sent += 1
        if self.sent == 1:
            raise KeyError(letter.kind)
        return Delivered()

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_bug_in_a_channel_ends_nothing(store: Store) -> None:
    broken = Broken()
    await post(store, fresh())
    async with receiver() as place, running(store, place, channel=broken):
        await emptied(store)
    assert broken.sent == 2


async def test_a_store_that_fails_is_told_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path / "later", Clock(), deadline=30)
    async with receiver() as place, running(store, place) as courier:
        async with asyncio.timeout(10):
            while not caplog.records:  # noqa: ASYNC110  (a log has no event)
                await asyncio.sleep(0.01)
        (tmp_path / "later").mkdir()
        await post(store, fresh())
        courier.wake()
        await emptied(store)
    await store.close()
    assert caplog.records[0].getMessage().startswith("channel ops: the outbox can't be read or written: ")
    assert len(place.requests) == 1


class Lock:
    """A channel that delivers, and meanwhile the database gets another writer."""

    def __init__(self, path: Path) -> None:
        self.sent = 0
        self.db = sqlite3.connect(path, isolation_level=None)

    async def send(self, _letter: Letter) -> Delivered | Failed:
        """Deliver, and lock."""
        self.sent += 1
        self.db.execute("BEGIN IMMEDIATE")
        return Delivered()

    async def close(self) -> None:
        """Give the database back."""
        self.db.close()


async def test_a_letter_whose_delivery_could_not_be_noted_is_not_sent_again(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await post(store, fresh())
    lock = Lock(tmp_path / "state.db")
    async with receiver() as place, running(store, place, channel=lock) as courier:
        async with asyncio.timeout(10):
            while not caplog.records:  # noqa: ASYNC110  (a log has no event)
                await asyncio.sleep(0.01)
        lock.db.execute("ROLLBACK")
        courier.wake()
        await emptied(store)
    assert lock.sent == 1
