"""Alerts to Debian's Alertmanager by its API, and from there to a webhook: one an incident, told again, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.alerts.am import alertmanager
from tests.alerts.letters import letter
from tests.alerts.receiver import HANG, Receiver, answer, receiver
from tests.prometheus.server import RULES
from tests.store.make import sick
from watchdog.alerts import alert, answers
from watchdog.alerts.alertmanager import LAST_WAIT, MISSED, Alertmanager, Settings
from watchdog.alerts.delivery import Courier, Delivered, Failed
from watchdog.alerts.outgoing import Answer
from watchdog.alerts.standing import LINGERS, Kept, advanced
from watchdog.clock import Clock
from watchdog.model import State
from watchdog.store import Letter, Stood, Store, StoreUnwritable

HOST = socket.gethostname()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store on disk."""
    opened = Store(tmp_path, Clock(), deadline=30)
    yield opened
    await opened.close()


def told(**changed: Any) -> Letter:
    """A letter of now."""
    now = time.time()
    payload = letter().payload | {"since": now - 2} | changed.pop("payload", {})
    return letter(**{"created": now, "payload": payload} | changed)


@contextlib.asynccontextmanager
async def kept(store: Store, *urls: str, **settings: Any) -> AsyncIterator[Kept]:
    """The channel to these Alertmanagers as the daemon has it, at work."""
    values: dict[str, Any] = {"urls": urls, "timeout": 2.0} | settings
    channel = Kept(
        name="ops", channel=Alertmanager(Settings(**values)), ledger=store, guarded=lambda name: name != "former"
    )
    work = asyncio.create_task(channel.run())
    while channel._told_at is None:  # noqa: ASYNC110 – its first telling again, of what an earlier daemon left, is over
        await asyncio.sleep(0)
    try:
        yield channel
    finally:
        work.cancel()
        await asyncio.wait({work})
        await channel.close()


def posted(place: Receiver) -> list[dict[str, Any]]:
    """The alerts of every request, in order."""
    return [each for request in place.requests for each in request.json]


def at(text: str) -> float:
    """The wall-clock time that an alert writes."""
    return datetime.fromisoformat(text).timestamp()


# --- with a real Alertmanager -----------------------------------------------------------------------------------------


async def test_an_incident_is_one_alert_that_reaches_the_receiver_and_is_resolved(store: Store, tmp_path: Path) -> None:
    async with (
        receiver() as hook,
        alertmanager(tmp_path, hook.url) as real,
        kept(store, real.url, firing_at_least=0.5) as channel,
    ):
        assert await channel.send(told()) == Delivered()
        [shown] = await real.shows(bool)
        [first] = await hook.received(1)
        assert await channel.send(told(kind="resolved", severity="info", key="8")) == Delivered()
        *_, last = await hook.received(2)
    labels = {"alertname": "EpollWatchdogIncident", "name": "ravendb", "instance": HOST, "severity": "warning"}
    assert shown["labels"] == labels | {"team": "storage"}
    assert shown["fingerprint"] == alert.fingerprint(shown["labels"])
    assert shown["annotations"]["verdict"] == "epoll_stall"
    assert shown["annotations"]["done"].endswith("nudge refused: Yama forbids it")
    assert shown["annotations"]["runbook_url"] == "https://runbooks.example.org/ravendb"
    assert (first.json["status"], first.json["commonLabels"]) == ("firing", shown["labels"])
    assert (last.json["status"], last.json["commonLabels"]) == ("resolved", shown["labels"])


async def test_what_was_healed_within_group_wait_is_told_and_resolved_all_the_same(
    store: Store, tmp_path: Path
) -> None:
    async with (
        receiver() as hook,
        alertmanager(tmp_path, hook.url, wait="2s") as real,  # both letters must come within it
        kept(store, real.url, firing_at_least=4.0) as channel,
    ):
        just_now = {"since": time.time()}  # what began a group_wait ago would be told of at once
        await channel.send(told(payload=just_now))
        await channel.send(told(kind="resolved", severity="info", key="8", payload=just_now))
        assert not hook.requests  # it was healed before Alertmanager told of it
        first, second = await hook.received(2, within_s=30.0)
    assert (first.json["status"], second.json["status"]) == ("firing", "resolved")


async def test_an_alert_whose_verdict_changed_on_the_way_is_the_same_alert(store: Store, tmp_path: Path) -> None:
    changed = {"verdict": "loop_blocked"}
    async with (
        receiver() as hook,
        alertmanager(tmp_path, hook.url) as real,
        kept(store, real.url, firing_at_least=0.5) as channel,
    ):
        await channel.send(told())
        await hook.received(1)
        await channel.send(told(kind="verdict", key="8", severity="info", payload=changed))
        await real.shows(lambda alerts: [each["annotations"]["verdict"] for each in alerts] == ["loop_blocked"])
        await channel.send(told(kind="resolved", key="9", severity="info", payload=changed))
        notices = [request.json for request in await hook.received(2)]
    assert [notice["status"] for notice in notices] == ["firing", "resolved"]
    [[first], [last]] = [notice["alerts"] for notice in notices]
    assert (first["annotations"]["verdict"], last["annotations"]["verdict"]) == ("epoll_stall", "loop_blocked")
    assert first["fingerprint"] == last["fingerprint"]


async def test_what_remedies_could_not_heal_is_a_critical_alert_too(store: Store, tmp_path: Path) -> None:
    async with receiver() as hook, alertmanager(tmp_path, hook.url) as real, kept(store, real.url) as channel:
        await channel.send(told())
        await channel.send(told(kind="escalated", key="8", severity="critical"))
        shown = await real.shows(lambda alerts: len(alerts) == 2)
    assert {(each["labels"]["alertname"], each["labels"]["severity"]) for each in shown} == {
        ("EpollWatchdogIncident", "warning"),
        ("EpollWatchdogUnhealed", "critical"),
    }


async def test_of_two_replicas_one_may_be_down_and_is_told_once_it_is_back(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with receiver() as down:
        pass
    async with (
        receiver() as hook,
        alertmanager(tmp_path, hook.url) as real,
        kept(store, down.url, real.url, interval=0.2) as channel,
    ):
        assert await channel.send(told()) == Delivered()
        await real.shows(bool)
        async with receiver_at(down) as back:
            await back.received(2)
    assert {each["labels"]["name"] for each in posted(down)} == {"ravendb"}
    assert [record.getMessage() for record in caplog.records if "urls[" in record.getMessage()][:2] == [
        "channel ops: urls[0]: connection failed: Connection refused",
        "channel ops: urls[0] takes alerts again",
    ]
    assert "path-that-nobody-may-see" not in caplog.text


@contextlib.asynccontextmanager
async def receiver_at(place: Receiver) -> AsyncIterator[Receiver]:
    """The receiver again, where it was."""
    port = int(re.search(r":(\d+)/", place.url)[1])  # type: ignore[index]
    async with await asyncio.start_server(place.serve, "127.0.0.1", port):
        yield place


async def test_a_test_is_an_alert_of_its_own_that_wakes_nobody_and_ends(tmp_path: Path) -> None:
    async with receiver() as hook, alertmanager(tmp_path, hook.url) as real:
        channel = Alertmanager(Settings(urls=(real.url,), firing_at_least=1.5))
        assert await channel.send(told(kind="test", incident="test-1", severity="critical")) == Delivered()
        await channel.close()
        first, last = await hook.received(2)
    [shown] = first.json["alerts"]
    assert (shown["labels"]["alertname"], shown["labels"]["severity"]) == ("EpollWatchdogTest", "info")
    assert shown["annotations"]["summary"].startswith("[TEST] ")
    assert (first.json["status"], last.json["status"]) == ("firing", "resolved")


async def test_a_pause_of_a_service_that_is_well_is_no_alert(store: Store) -> None:
    async with receiver() as place, kept(store, place.url) as channel:
        assert await channel.send(told(kind="paused", incident="")) == Delivered()
        assert await channel.channel.send(told(kind="paused", incident="")) == Delivered()
    assert not place.requests


# --- told again -------------------------------------------------------------------------------------------------------


async def test_an_open_incident_is_told_again_with_a_later_end(store: Store) -> None:
    async with receiver() as place, kept(store, place.url, interval=0.1, firing_at_least=0.01) as channel:
        await channel.send(told())
        requests = await place.received(4)
        now = time.time()
    starts, ends = zip(*((each["startsAt"], at(each["endsAt"])) for each in posted(place)), strict=True)
    assert len(set(starts)) == 1
    assert list(ends) == sorted(ends)
    assert ends[-1] > ends[0]
    assert ends[-1] - now <= MISSED * 0.1
    assert len({str(request.json[0]["labels"]) for request in requests}) == 1


async def test_a_restart_of_the_daemon_neither_lets_an_alert_lapse_nor_forgets_when_it_began(store: Store) -> None:
    opened = told()
    await store.commit("ravendb", sick("01JINCIDENT"), [], None, [])
    async with receiver() as place:
        async with kept(store, place.url) as before:
            await before.send(opened)
        first = time.time()
        async with kept(store, place.url, firing_at_least=60.0) as after:
            await place.received(2)  # nobody sent a letter
            await after.send(told(kind="resolved", severity="info", key="8"))
            *_, last = await place.received(3)
    assert {each["startsAt"] for each in posted(place)} == {posted(place)[0]["startsAt"]}
    assert at(last.json[0]["endsAt"]) == pytest.approx(first + 60.0, abs=1.0)


async def test_the_end_of_a_quick_incident_outlives_the_daemon_too(store: Store) -> None:
    async with receiver() as place:
        async with kept(store, place.url, firing_at_least=60.0) as before:
            await before.send(told())
            await before.send(told(kind="resolved", severity="info", key="8"))
        async with kept(store, place.url, firing_at_least=60.0):
            *_, again = await place.received(3)
    alert, before_it = again.json[0], posted(place)[1]
    assert {**alert, "endsAt": ""} == {**before_it, "endsAt": ""}
    assert abs(at(alert["endsAt"]) - at(before_it["endsAt"])) < 0.1  # it was kept by another clock


async def test_when_an_end_has_come_that_is_told_at_once(store: Store) -> None:
    async with receiver() as place, kept(store, place.url, firing_at_least=1.5, interval=30.0) as channel:
        await channel.send(told())
        await channel.send(told(kind="resolved", severity="info", key="8"))
        _, healed, *_ = await place.received(3)
        end = at(healed.json[0]["endsAt"])
        if time.time() <= end:  # the third was the beginning's look at what stands, which may come after the letters
            await place.received(4)
    assert end < time.time() < end + 15.0


class Watched(Store):
    """A store that tells when what stood has ended."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, Clock())
        self.forgotten = asyncio.Event()

    async def ended(self, stood: Stood) -> None:
        """It stands no more."""
        await super().ended(stood)
        self.forgotten.set()


async def test_what_is_over_is_told_of_for_a_while_and_then_forgotten(tmp_path: Path) -> None:
    store = Watched(tmp_path)
    async with receiver() as place, kept(store, place.url, firing_at_least=0.1, interval=0.05) as channel:
        await channel.send(told())
        await channel.send(told(kind="resolved", severity="info", key="8"))
        await place.received(6)
        assert len(await store.standing("ops")) == 1
        channel.clock = lambda: time.time() + LINGERS + 1
        async with asyncio.timeout(5):
            await store.forgotten.wait()
        assert await store.standing("ops") == []
    await store.close()


async def test_a_service_that_is_no_more_guarded_is_told_of_no_more(store: Store) -> None:
    async with receiver() as place, kept(store, place.url, interval=0.05) as channel:
        await channel.send(told(service="former", incident="i1"))
        await channel.send(told())
        await place.received(6)
    assert [each["labels"]["name"] for each in posted(place)].count("former") == 1


async def test_an_incident_that_ended_untold_while_the_daemon_was_away_is_not_told_again(store: Store) -> None:
    await store.commit("ravendb", sick("01JINCIDENT"), [], None, [])
    async with receiver() as place, kept(store, place.url) as channel:
        await channel.send(told())
    assert len(await store.standing("ops")) == 1
    await store.commit("ravendb", sick("01JLATER"), [], None, [])
    assert await store.standing("ops") == []


async def test_what_is_healed_and_its_end_given_up_is_not_told_again_for_ever(tmp_path: Path) -> None:
    store = Watched(tmp_path)
    await store.commit("ravendb", sick("01JINCIDENT"), [], None, [])
    async with receiver() as place, kept(store, place.url, interval=0.05) as channel:
        await channel.send(told())
        await place.received(3)
        await store.commit("ravendb", State(), [], None, [told(kind="resolved", key="8")])
        told_so_far = len(place.requests)
        await place.received(told_so_far + 3)  # its end waits, so the channel may yet take it
        [waiting] = await store.outbox("ops", 10)
        await store.given_up(waiting.key, "refused for days")
        async with asyncio.timeout(5):
            await store.forgotten.wait()
        assert channel._known == {}
    await store.close()


async def test_what_the_full_disk_knew_not_of_is_told_again_until_it_is_known_that_it_was_healed(
    tmp_path: Path,
) -> None:
    class Full(Watched):
        full = True

        async def stands(self, stood: Stood) -> None:
            if self.full:
                raise StoreUnwritable("no space left")
            await super().stands(stood)

    store = Full(tmp_path)
    await store.commit("ravendb", sick("01JINCIDENT"), [], None, [])
    async with receiver() as place, kept(store, place.url, interval=0.05) as channel:
        await channel.send(told())
        await place.received(4)  # the ledger knows nothing of it, and it stands all the same
        await store.commit("ravendb", State(), [], None, [])
        store.full = False
        async with asyncio.timeout(5):
            await store.forgotten.wait()
    await store.close()


async def test_a_late_word_of_an_earlier_incident_does_not_end_the_present_one(store: Store) -> None:
    async with receiver() as place, kept(store, place.url) as channel:
        await channel.send(told(id=9, incident="second"))
        late = told(id=8, incident="first", kind="resolved", created=time.time() - 60)
        assert await channel.send(late) == Delivered()
        await channel.send(told(id=10, incident="second", kind="verdict"))
    assert [each["annotations"]["incident"] for each in posted(place)][-2:] == ["second", "second"]
    assert "first" not in {each["annotations"]["incident"] for each in posted(place)}


async def test_a_new_incident_is_told_though_its_letter_got_a_lower_id(store: Store) -> None:
    async with receiver() as place, kept(store, place.url) as channel:
        await channel.send(told(id=5, incident="first"))
        await channel.send(told(id=1, incident="second"))  # SQLite gave the ids anew
    assert "second" in {each["annotations"]["incident"] for each in posted(place)}


def test_what_a_clock_that_was_ahead_dated_keeps_no_new_incident_back() -> None:
    known = Stood(letter=letter(incident="first", created=9000.0), began=1.0, first=1.0)
    assert advanced(known, letter(incident="second", created=500.0), 501.0) is not None


async def test_a_courier_has_it_told_again_and_ends_with_it(store: Store) -> None:
    await store.commit("ravendb", sick("01JINCIDENT"), [], None, [told(key="")])
    async with receiver() as place:
        settings = Settings(urls=(place.url,), interval=0.05)
        channel = Kept(name="ops", channel=Alertmanager(settings), ledger=store, guarded=lambda _: True)
        courier = Courier(name="ops", channel=channel, routing=settings, outbox=store, notified=lambda *_: None)
        task = asyncio.create_task(courier.run())
        await place.received(3)
        task.cancel()
        await asyncio.wait({task})
        await place.all_ended()
    assert not [each for each in asyncio.all_tasks() if "Kept.run" in repr(each)]


async def test_each_attempt_to_tell_again_is_counted(store: Store) -> None:
    heard: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
    async with receiver() as place, kept(store, place.url, interval=0.05) as channel:
        channel.notified = lambda *told: heard.put_nowait(told)
        await channel.send(told())
        async with asyncio.timeout(5):
            assert await heard.get() == ("ops", True)
            place.answers.append(answer(503))
            while (attempt := await heard.get()) == ("ops", True):
                pass
    assert attempt == ("ops", False)


async def test_a_full_disk_does_not_let_an_alert_lapse(tmp_path: Path) -> None:
    nowhere = Store(tmp_path / "absent", Clock())
    async with receiver() as place, kept(nowhere, place.url, interval=0.05) as channel:
        assert await channel.send(told()) == Delivered()
        await place.received(4)
    await nowhere.close()


# --- what fails -------------------------------------------------------------------------------------------------------


async def test_where_no_replica_takes_it_the_courier_hears_of_each(store: Store) -> None:
    replies = [answer(503, "Retry-After: 7"), answer(400)]
    async with receiver(replies[0]) as one, receiver(replies[1]) as other, kept(store, one.url, other.url) as channel:
        result = await channel.send(told())
    assert result == Failed(retry=True, error="urls[0]: answered 503; urls[1]: answered 400")
    assert await store.standing("ops") == []


async def test_a_replica_that_is_slow_keeps_no_letter_waiting_and_is_told_in_order(store: Store) -> None:
    async with (
        receiver(HANG) as slow,
        receiver() as quick,
        kept(store, slow.url, quick.url, interval=30.0, timeout=2.0) as channel,
    ):
        began = asyncio.get_running_loop().time()
        assert await channel.send(told()) == Delivered()
        assert await channel.send(told(kind="verdict", severity="info", key="8")) == Delivered()
        assert asyncio.get_running_loop().time() - began < 1.5
        await slow.received(1)
        assert [each["annotations"]["event"] for each in posted(slow)] == ["opened"]
        assert slow.ended == 0  # nobody took its request away
        await slow.received(2)
        assert slow.requests[1].at - slow.requests[0].at > 1.5  # only once the first was over
    assert [each["annotations"]["event"] for each in posted(slow)] == ["opened", "verdict"]


async def test_closing_gives_what_is_under_way_a_moment_and_no_more() -> None:
    async with receiver(HANG) as slow, receiver() as quick:
        channel = Alertmanager(Settings(urls=(slow.url, quick.url), timeout=60.0))
        assert await channel.send(told()) == Delivered()
        async with asyncio.timeout(LAST_WAIT + 5.0):
            await channel.close()
        await slow.all_ended()
    assert not [each for each in asyncio.all_tasks() if "_in_turn" in repr(each)]


async def test_a_fault_of_ours_with_one_replica_is_none_with_the_other(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = answers.result

    def faulty(got: Answer) -> Delivered | Failed:
        if got.status == 418:
            raise RuntimeError("of ours")
        return right(got)

    monkeypatch.setattr(answers, "result", faulty)
    async with receiver(answer(418)) as odd, receiver(answer(503)) as other, kept(store, odd.url, other.url) as channel:
        result = await channel.send(told())
    assert result == Failed(retry=True, error="urls[0]: a fault of ours: RuntimeError; urls[1]: answered 503")
    assert "a fault of ours" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"urls": ()}, "urls: names no Alertmanager"),
        ({"urls": ("http://am", "am:9093/path-that-nobody-may-see")}, r"urls\[1\]: must be like"),
        ({"send_resolved": False}, "send_resolved: an alert that does not end fires on"),
        ({"interval": 0.0}, "interval: 0s is too short"),
        ({"external_url": "watchdog"}, "external_url: must be like"),
    ],
)
def test_wrong_settings_are_refused_without_their_values(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message) as refused:
        Settings(**{"urls": ("http://am.example.org",)} | settings)
    assert "path-that-nobody-may-see" not in str(refused.value)


# --- what never changes -----------------------------------------------------------------------------------------------

LETTERS = st.builds(
    lambda kind, severity, verdict, text, worst, team: letter(
        kind=kind,
        severity=severity,
        payload={"verdict": verdict, "text": text, "since": 5.0, "worst": worst} | team,
    ),
    kind=st.sampled_from(["opened", "verdict", "nudged", "escalated", "reminder", "acknowledged", "resolved"]),
    severity=st.sampled_from(["info", "warning", "critical"]),
    verdict=st.sampled_from(["epoll_stall", "hung", "loop_blocked"]),
    text=st.text(max_size=20),
    worst=st.sampled_from([None, "info", "warning", "critical"]),
    team=st.sampled_from([{}, {"labels": {}}, {"labels": {"team": "storage"}}, {"labels": {"team": "other"}}]),
)


@given(st.lists(LETTERS, min_size=1, max_size=8))
def test_the_labels_and_beginnings_of_an_incident_never_change(letters: list[Letter]) -> None:
    channel = Alertmanager(Settings(urls=("http://am.example.org",)), clock=lambda: 1000.0)
    stood: Stood | None = None
    known: dict[str, tuple[Any, str]] = {}
    for now, each in enumerate(letters):
        stood = advanced(stood, each, 100.0 + now)
        assert stood is not None
        shown = {told["labels"]["alertname"]: (told["labels"], told["startsAt"]) for told in channel.alerts(stood)}
        assert shown.items() >= known.items()
        known = shown


@given(LETTERS, st.floats(0, 1e6), st.floats(0, 1e4))
def test_no_alert_ends_before_it_began_or_sooner_than_it_must(last: Letter, first: float, at_least: float) -> None:
    settings = Settings(urls=("http://am.example.org",), firing_at_least=at_least)
    stood = Stood(letter=last, began=5.0, first=first)
    for each in Alertmanager(settings, clock=lambda: first).alerts(stood):
        assert at(each["endsAt"]) >= max(at(each["startsAt"]), first + at_least) - 0.001


def test_no_alertname_is_one_of_the_packaged_rules() -> None:
    packaged = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert "EpollWatchdogIncidentOpen" in packaged
    assert not packaged & set(alert.SEVERITIES)


def test_a_fingerprint_is_that_of_prometheus_common() -> None:
    assert alert.fingerprint({}) == "cbf29ce484222325"  # EmptyLabelSet's, by its own tests
