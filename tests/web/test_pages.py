"""The status page over HTTP: what it tells, to whom, and what it never lets through."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
import bcrypt
import pytest

from tests.web.test_web import INCIDENT, NOW, RAVENDB, STALLED, Answer, Daemon, ask, request, serving
from watchdog.config.web import Web
from watchdog.history import HOURS
from watchdog.model import (
    Case,
    Certainty,
    Diagnosis,
    Kind,
    Looked,
    Observation,
    Policy,
    Round,
    State,
    Verdict,
)
from watchdog.reading import Family, Queue, Queues, Reading, Sample, Thread
from watchdog.recording import Entry, Recorded, Recording, Summary, decision, dump
from watchdog.web import events
from watchdog.web.events import STREAMS
from watchdog.web.evidence import MOST_LOOKS, MOST_THREADS, looks
from watchdog.web.pages import FEW, PAGE, WAITING
from watchdog.web.server import CONNECTIONS, Server, serve
from watchdog.web.view import IncidentView, ProbeView, ServiceView, TimelineView, Unavailable

PAGES = ("/", "/services/ravendb", "/incidents", "/incidents/01J")
ALL_PAGES = (*PAGES, "/incidents/01J/evidence")
SO_ATTACH_FILTER = 26  # socket(7); Python has no name for it
EVIL = "<script>alert(1)</script>\x1b[31m\u202e\"onload='x"
HEALED = IncidentView(
    id="0a1b2c3d-1111",
    service="ravendb",
    opened=1_700_000_000.0,
    closed=1_700_000_002.5,
    verdict="epoll_stall",
    certainty="confirmed",
    timeline=(
        TimelineView(
            at=1_700_000_000.0,
            kind="opened",
            text="epoll_stall (confirmed): a wake-up was lost: its loop sleeps in epoll_wait",
            severity="warning",
            detail={
                "reasons": ["thread 4711 (loop) waits on epoll 7", "https: silent, no answer", "snmp: alive, 42"],
                "against": ["overloaded: no late answer"],
                "since": 1_699_999_999.0,
            },
        ),
        TimelineView(
            at=1_700_000_000.1,
            kind="nudged",
            text="nudge done: 1 thread nudged, longest stop 0.78 ms",
            severity="info",
            detail={"outcome": "done", "longest_stop_seconds": 0.00078},
        ),
        TimelineView(
            at=1_700_000_000.2, kind="answered", text="the first good answer came 26ms after the nudge was decided"
        ),
        TimelineView(at=1_700_000_002.5, kind="resolved", text="healed by nudge after 163ms", severity="info"),
    ),
)


class Text(HTMLParser):
    """What a reader sees of a page, and the tags that make it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.words.append(data)

    @property
    def text(self) -> str:
        """Without the breaks of the lines."""
        return " ".join(" ".join(self.words).split())


async def text_of(daemon: Daemon, path: str) -> str:
    """What is read there."""
    answer = await ask(daemon, path)
    assert answer.status == 200, answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return Text(answer.text).text


def many(number: int, healthy: bool = True) -> list[ServiceView]:
    return [replace(RAVENDB if healthy else STALLED, name=f"web{each}") for each in range(number)]


# --- what it tells ----------------------------------------------------------------------------------------------------


async def test_a_healthy_service_is_told_in_words() -> None:
    text = await text_of(Daemon(), "/")
    assert "The service is healthy" in text
    assert "ravendb healthy answers on every road" in text
    assert "https http, socket ✓ alive 1.2ms answered 200" in text
    assert "mode full, PID 4711, left: 5 nudges and 2 restarts" in text


async def test_a_dark_one_is_told_with_its_reasons_and_its_incident() -> None:
    text = await text_of(Daemon(guarded=(STALLED,)), "/")
    assert "1 of 1 service not healthy: ravendb" in text
    assert (
        "ravendb epoll_stall (suspected) a wake-up was lost: its loop sleeps in epoll_wait. Open incident 01J" in text
    )
    assert "sockets dark, a witness alive second" in text


async def test_what_keeps_the_daemon_from_acting_is_told() -> None:
    service = replace(
        STALLED,
        restart_due=True,
        held_for="settling for 2s",
        passes=("nudge: budget",),
        paused=True,
        pause_by="root",
        pause_reason="a move",
        pause_until=1_700_000_000.0,
        window="nightly until 04:00",
        acknowledged_by="ann",
    )
    text = await text_of(Daemon(guarded=(service,)), "/services/ravendb")
    assert "A restart is due." in text
    assert "The next rung waits: settling for 2s" in text
    assert "Passed over: nudge: budget" in text
    assert re.search(r"Paused by root until 2023-11-1\d \d\d:13:20 \S+: a move", text)
    assert "Maintenance: nightly until 04:00" in text
    assert "Acknowledged by ann" in text


async def test_of_many_services_the_ill_ones_are_on_top_and_have_cards() -> None:
    ill = replace(STALLED, name="redis")
    page = Text((await ask(Daemon(guarded=(*many(40), ill)), "/")).text)
    cards = [attributes["aria-label"] for tag, attributes in page.tags if tag == "section"]
    assert cards == ["redis"]
    assert page.text.index("redis") < page.text.index("web0")
    assert "1 of 41 services not healthy: redis" in page.text
    assert all(f"web{number}" in page.text for number in range(40))


async def test_where_much_is_ill_a_few_have_cards_and_all_are_there() -> None:
    page = Text((await ask(Daemon(guarded=many(40, healthy=False)), "/")).text)
    assert len([tag for tag, _ in page.tags if tag == "section"]) == 5
    assert all(f"web{number} " in page.text for number in range(40))


async def test_a_service_that_nobody_looked_at_yet_is_told_so() -> None:
    unseen = replace(RAVENDB, healthy=False, verdict="unsettled", last_round_at=None)
    assert "1 of 1 service not looked at yet" in await text_of(Daemon(guarded=(unseen,)), "/")


def found(verdict: str, name: str = "ravendb") -> ServiceView:
    return replace(STALLED, name=name, verdict=verdict, incident=None)


@pytest.mark.parametrize(
    ("services", "summary"),
    [
        ([found("stopped")], "■ 1 of 1 service stopped: ravendb"),
        ([RAVENDB, found("stopped", "redis")], "■ 1 of 2 services stopped: redis"),
        (
            [RAVENDB, found("stopped", "redis"), found("starting", "nginx")],
            "… 1 of 3 services not settled: nginx; 1 stopped: redis",
        ),
        (
            [found("stopped", "redis"), found("hung"), found("unsettled", "nginx")],
            "✕ 1 of 3 services not healthy: ravendb; 1 not settled: nginx; 1 stopped: redis",
        ),
        (
            [found("stopped"), replace(RAVENDB, name="redis", last_round_at=None)],
            "… 1 of 2 services not looked at yet: redis; 1 stopped: ravendb",
        ),
        ([found("of a later version")], "✕ 1 of 1 service not healthy: ravendb"),
        (
            [found("hung", f"web{each}") for each in range(5)],
            "✕ 5 of 5 services not healthy: web0, web1, web2 and 2 more",
        ),
    ],
)
async def test_only_what_is_ill_turns_the_page_red(services: Sequence[ServiceView], summary: str) -> None:
    page = await ask(Daemon(guarded=services), "/")
    assert f"<title>{summary} · epoll-watchdog</title>" in page.text
    assert f"/static/{'bad' if '✕' in summary else 'good'}.svg" in page.text


async def test_without_a_service_it_says_so() -> None:
    assert "No service is guarded" in await text_of(Daemon(guarded=(), stored=()), "/")


async def test_the_last_hours_are_drawn_and_told_in_words() -> None:
    daemon = Daemon()
    for minute in range(30):
        kind = Kind.SILENT if minute in (10, 11) else Kind.ALIVE
        at = NOW - 60 * (29 - minute)
        daemon.history.looked("ravendb", at, {"https": Observation(kind, 0.002, "")}, 30.0)
        daemon.history.queued(
            "ravendb", at, Queues(at, (Queue(1, Family.TCP, "*:443", 130 if minute == 11 else 0, 128),))
        )
    page = Text((await ask(daemon, "/")).text)
    labels = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert "https, last 6h: silent 2m, alive 28m, not looked at 5h 30m" in labels
    assert any(
        label.startswith("accept queue, longest in each 1m of the last 6h: up to 130 of 128")
        for label in labels
        if label
    )
    assert "0 of 128 at *:443" in page.text
    assert re.search(r"silent, \d\d:\d\d to \d\d:\d\d", page.text)


async def test_soon_after_the_start_the_plots_show_minutes() -> None:
    daemon = Daemon()
    for ago in range(300, -1, -5):
        daemon.history.looked("ravendb", NOW - ago, {"https": Observation(Kind.ALIVE, 0.002, "")}, 5.0)
    assert "Longest wait, 5 minutes" in await text_of(daemon, "/")
    daemon.history.looked("ravendb", NOW + 900, {"https": Observation(Kind.ALIVE, 0.002, "")}, 5.0)
    daemon.past = lambda service, spans: daemon.history.of(service, NOW + 900, spans)  # type: ignore[method-assign]
    assert "Longest wait, 6 hours" in await text_of(daemon, "/")


async def test_a_strip_is_as_wide_as_what_was_seen() -> None:
    daemon = Daemon()
    daemon.history.looked("ravendb", NOW - 600, {"https": Observation(Kind.ALIVE, 0.002, "")}, 0.0)
    page = Text((await ask(daemon, "/")).text)
    rectangles = [attributes for tag, attributes in page.tags if tag == "rect"]
    assert {"class": "good", "x": str(HOURS.count - 11), "y": "15", "width": "1", "height": "5"} in rectangles


# --- incidents --------------------------------------------------------------------------------------------------------


async def test_an_incident_is_a_story() -> None:
    text = await text_of(Daemon(stored=(HEALED,)), f"/incidents/{HEALED.id}")
    assert "ravendb : epoll_stall (confirmed)" in text
    assert "Opened 2023-11-1" in text
    assert ", 1s after the first bad round" in text
    assert ", after 2.5s" in text
    assert "Done nudge Came back the first good answer came 26ms after the nudge was decided" in text
    assert "Longest stop 0.78ms of a thread" in text
    assert "Ended healed by nudge after 163ms" in text
    assert "Why this verdict thread 4711 (loop) waits on epoll 7 https: silent, no answer snmp: alive, 42" in text
    assert "What spoke against others overloaded: no late answer" in text
    assert "+0.10s → nudge nudge done: 1 thread nudged, longest stop 0.78 ms" in text
    assert "+2.50s ✓ over healed by nudge after 163ms" in text


async def test_incidents_are_listed_with_what_was_done() -> None:
    text = await text_of(Daemon(stored=(INCIDENT, HEALED)), "/")
    opened, past = text.split("Past incidents", 1)
    assert "✕ 01J ravendb epoll_stall (suspected)" in opened
    assert "✓ 0a1b2c3d ravendb epoll_stall (confirmed)" in past
    assert "2.5s nudge" in past
    assert "01J" not in past


async def test_past_incidents_are_paged() -> None:
    stored = [replace(HEALED, id=f"i{number:05}x") for number in range(2 * PAGE + 1)]
    daemon = Daemon(stored=stored)
    first, second, third = [await ask(daemon, f"/incidents?page={number}") for number in (1, 2, 3)]
    assert f"i{PAGE - 1:05}" in first.text
    assert f"i{PAGE:05}" not in first.text
    assert 'href="/incidents?page=2"' in first.text
    assert f"i{PAGE:05}" in second.text
    assert 'href="/incidents"' in second.text
    assert 'rel="next"' not in third.text
    assert f"i{2 * PAGE:05}" in third.text


async def test_the_incidents_of_a_service_are_its_own() -> None:
    other = replace(HEALED, id="other", service="redis")
    daemon = Daemon(guarded=(RAVENDB, replace(RAVENDB, name="redis")), stored=(HEALED, other))
    assert "0a1b2c3d" not in await text_of(daemon, "/services/redis")
    assert "0a1b2c3d" not in await text_of(daemon, "/incidents?service=redis")
    assert "0a1b2c3d" in await text_of(daemon, "/incidents?service=ravendb")


@pytest.mark.parametrize("path", ["/services/nobody", "/incidents/nothing", "/incidents?page=0", "/incidents?page=x"])
async def test_what_there_is_not_is_not_found(path: str) -> None:
    answer = await ask(Daemon(), path)
    assert answer.status == 404
    assert "<h1>Not Found</h1>" in answer.text


async def test_the_services_are_shown_though_the_store_cannot_be_read() -> None:
    daemon = Daemon(guarded=(STALLED,), fault=Unavailable("the disk is gone"))
    for path in ("/", "/services/ravendb"):
        text = await text_of(daemon, path)
        assert "epoll_stall" in text
        assert "Incidents can't be told now: the disk is gone" in text
    assert (await ask(daemon, "/incidents")).status == 503


# --- what never gets through ------------------------------------------------------------------------------------------


def evil() -> Daemon:
    probe = ProbeView(type="http", plane="socket", kind="wrong", latency_s=0.1, reason=EVIL)
    service = replace(
        STALLED,
        reasons=(EVIL,),
        against=(EVIL,),
        probes={"https": probe},
        held_for=EVIL,
        pause_reason=EVIL,
        paused=True,
    )
    record = TimelineView(at=1.0, kind="opened", text=EVIL, severity=None, detail={"reasons": [EVIL], "hint": EVIL})
    return Daemon(guarded=(service,), stored=(replace(INCIDENT, timeline=(record,)),))


@pytest.mark.parametrize("path", PAGES)
async def test_what_a_server_said_is_text_and_never_markup(path: str) -> None:
    answer = await ask(evil(), path)
    page = Text(answer.text)
    assert [attributes for tag, attributes in page.tags if tag == "script" and "src" not in attributes] == []
    assert [name for _, attributes in page.tags for name in attributes if name.startswith("on")] == []
    assert not any(each in answer.text for each in "\x1b\u202e")


@pytest.mark.parametrize("path", ["/services/ravendb", "/incidents/01J"])
async def test_it_is_shown_all_the_same(path: str) -> None:
    text = await text_of(evil(), path)
    assert "<script>alert(1)</script>\\x1b[31m\\u202e\"onload='x" in text


@pytest.mark.parametrize("path", [*ALL_PAGES, "/services/nobody"])
async def test_the_policy_allows_our_own_files_and_nothing_else(path: str) -> None:
    answer = await ask(Daemon(), path)
    assert answer.headers["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    page = Text(answer.text)
    assert [attributes for tag, attributes in page.tags if tag == "style" or "style" in attributes] == []
    outside = [value for _, each in page.tags for name, value in each.items() if name in ("href", "src") and value]
    assert [value for value in outside if not value.startswith(("/", "#"))] == []


@pytest.mark.parametrize("path", ["/", "/services/ravendb", "/incidents/01J"])
async def test_without_javascript_it_reloads_itself(path: str) -> None:
    answer = await ask(Daemon(), path)
    assert '<noscript><meta http-equiv="refresh" content="30"></noscript>' in answer.text
    assert f'<a href="{path}">Reload</a>' in answer.text


async def test_what_changes_no_more_is_left_alone() -> None:
    answer = await ask(Daemon(stored=(HEALED,)), f"/incidents/{HEALED.id}")
    assert "refresh" not in answer.text
    assert "data-live" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", [*ALL_PAGES, "/events", "/static/page.css"])
async def test_it_is_read_only(path: str, method: str) -> None:
    assert (await ask(Daemon(), path, method)).status == 405


# --- to whom ----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def guarded(daemon: Daemon) -> AsyncIterator[Server]:
    """A server that asks for a password."""
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    server = await serve(daemon, "127.0.0.1:0", Web(users={"ann": hashed}))
    try:
        yield server
    finally:
        await server.close()


@pytest.mark.parametrize("path", [*ALL_PAGES, "/events", "/static/page.css"])
async def test_nobody_sees_any_of_it_whom_the_gate_does_not_let_in(path: str) -> None:
    async with guarded(Daemon()) as server, aiohttp.ClientSession() as client:
        answer = await request(client, server, path)
    assert answer.status == 401
    assert "ravendb" not in answer.text


async def as_known(daemon: Daemon, path: str) -> Answer:
    """What somebody with a password is answered."""
    authorization = aiohttp.encode_basic_auth("ann", "secret")
    async with guarded(daemon) as server, aiohttp.ClientSession() as client:
        return await request(client, server, path, Authorization=authorization)


async def test_evidence_is_offered_to_whom_is_known_only() -> None:
    assert 'href="/incidents/01J/evidence"' in (await as_known(Daemon(), "/incidents/01J")).text
    assert "/evidence" not in (await ask(Daemon(), "/incidents/01J")).text


async def test_evidence_is_shown_to_whom_is_known_only() -> None:
    assert (await as_known(Daemon(), "/incidents/01J/evidence")).status == 200
    answer = await ask(Daemon(), "/incidents/01J/evidence")
    assert answer.status == 403
    assert "<h1>Forbidden</h1>" in answer.text


@dataclass
class Witness(Daemon):
    """One that kept what it saw."""

    kept: bytes = b""

    async def evidence(self, incident: str) -> bytes | None:
        """As set."""
        return self.kept


def thread(tid: int, name: str, call: str, switches: int, epfd: int | None = None) -> Thread:
    return Thread(1, tid, 1, name, "S", call, epfd, False, "ep_poll", switches, 0.0, 0.0)


def kept_of(case: Case, looks: int = 1) -> bytes:
    """What is kept of an incident with this look, so many times."""
    opened = datetime.fromtimestamp(INCIDENT.opened, UTC)
    diagnosis = Diagnosis(Verdict.EPOLL_STALL, Certainty.CONFIRMED, ())
    looked = Entry(1.0, State(), Looked("i", diagnosis))
    summary = Summary("01J", opened, None, Verdict.EPOLL_STALL, Certainty.CONFIRMED)
    entry = Recorded(opened, looked, decision(looked.event, None, ()), case)
    return dump(Recording("ravendb", summary, None, {}, [entry] * looks)).encode()


async def test_evidence_tells_what_was_dark_and_which_thread_slept_where() -> None:
    def sample(at: float) -> Sample:
        threads = (thread(12, "gc", "futex", int(at)), thread(11, EVIL, "epoll_wait", 5, 7))
        return Sample(began=at, ended=at, threads=threads)

    observations = {"https": Observation(Kind.SILENT, 2.0, EVIL), "snmp": Observation(Kind.ALIVE, 0.004, "42")}
    queues = tuple(Queues(at, (Queue(1, Family.TCP, "*:443", waiting, 128),)) for at, waiting in ((1.0, 3), (2.0, 5)))
    reading = Reading(samples=(sample(1.0), sample(2.0)), queues=queues)
    case = Case(now=1.0, policy=Policy(), roads={}, round=Round("i", 1.0, 2.0, observations), reading=reading)
    answer = await as_known(Witness(kept=kept_of(case)), "/incidents/01J/evidence")

    text = Text(answer.text).text
    spelled = "<script>alert(1)</script>\\x1b[31m\\u202e\"onload='x"
    assert "+0.00s epoll_stall (confirmed)" in text
    assert f"https ✕ silent 2s {spelled} snmp ✓ alive 4ms 42" in text
    assert f"11 ({spelled}) S epoll_wait on epoll 7, without a time-out +0 12 (gc) S futex +1" in text
    assert "*:443: 3, 5 of 128" in text


def of_many_threads(looks: int) -> bytes:
    """Evidence of a process with 1,000 threads, each look of three samples: a megabyte a look."""
    threads = tuple(thread(tid, f"http-{tid}", "futex", 5) for tid in range(1000))
    reading = Reading(samples=tuple(Sample(began=at, ended=at, threads=threads) for at in (1.0, 2.0, 3.0)))
    found = Round("i", 1.0, 2.0, {"https": Observation(Kind.SILENT, 2.0, "")})
    return kept_of(Case(now=1.0, policy=Policy(), roads={}, round=found, reading=reading), looks)


async def test_megabytes_of_evidence_let_the_loop_tick() -> None:
    raw, loop = of_many_threads(MOST_LOOKS), asyncio.get_running_loop()
    began = time.monotonic()
    json.loads(raw)
    at_once, longest = time.monotonic() - began, []
    for _ in range(10):
        made, lags = asyncio.ensure_future(looks(raw, INCIDENT.opened)), []
        while not made.done():
            due = loop.time() + 0.001
            await asyncio.sleep(0.001)
            lags.append(loop.time() - due)
        longest.append(max(lags))
        assert [look.more_threads for look in made.result()[0]] == [1000 - MOST_THREADS] * MOST_LOOKS
    print(f"{len(raw)} bytes, read at once in {at_once * 1000:.0f} ms; the loop {min(longest) * 1000:.1f} ms late")
    assert min(longest) < at_once / 3  # the machine is shared: the best of ten


async def test_of_evidence_no_more_is_understood_than_is_shown() -> None:
    kept = json.loads(of_many_threads(MOST_LOOKS + 1))
    kept["entries"][-1]["case"]["round"] = "of another version"
    kept["entries"].append({**kept["entries"][0], "case": None})
    shown, more = await looks(json.dumps(kept).encode(), INCIDENT.opened)
    assert (len(shown), more) == (MOST_LOOKS, 1)


async def test_evidence_that_nobody_understands_is_told_so() -> None:
    answer = await as_known(Witness(kept=b"{"), "/incidents/01J/evidence")
    assert answer.status == 503
    assert "understood" in answer.text


# --- our own files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tag", "attribute"), [("link", "href"), ("script", "src")])
async def test_the_files_of_a_page_are_there_and_kept_for_ever(tag: str, attribute: str) -> None:
    async with serving(Daemon()) as server, aiohttp.ClientSession() as client:
        page = Text((await request(client, server, "/")).text)
        found = [each[attribute] for name, each in page.tags if name == tag]
        answers = [await request(client, server, str(path)) for path in found]
    assert answers
    assert {answer.status for answer in answers} == {200}
    assert {answer.headers["Cache-Control"] for answer in answers} == {"public, max-age=31536000, immutable"}


async def test_a_file_without_its_fingerprint_is_asked_for_each_time() -> None:
    async with serving(Daemon()) as server, aiohttp.ClientSession() as client:
        first = await request(client, server, "/static/page.css?v=old")
        again = await request(client, server, "/static/page.css", **{"If-None-Match": first.headers["Etag"]})
    assert first.headers["Cache-Control"] == "no-cache"
    assert (again.status, again.text) == (304, "")


@pytest.mark.parametrize("name", ["nothing.css", "..%2Fpages.py", "%2e%2e/pages.py"])
async def test_no_other_file_is_served(name: str) -> None:
    assert (await ask(Daemon(), f"/static/{name}")).status == 404


# --- events -----------------------------------------------------------------------------------------------------------


async def next_line(response: aiohttp.ClientResponse, wanted: str, within: float = 8.0) -> str:
    """The next line that begins so."""
    async with asyncio.timeout(within):
        async for line in response.content:
            if line.decode().startswith(wanted):
                return line.decode().strip()
    raise AssertionError("the stream has ended")


async def test_a_stream_tells_that_something_changed() -> None:
    daemon = Daemon()
    async with (
        serving(daemon) as server,
        aiohttp.ClientSession() as client,
        client.get(f"http://{server.address}/events") as response,
    ):
        assert response.headers["Content-Type"] == "text/event-stream"
        assert await next_line(response, "retry:") == "retry: 2000"
        daemon.bell.ring()
        assert await next_line(response, "data:") == "data: 1"
        daemon.bell.ring()
        daemon.bell.ring()
        assert await next_line(response, "data:") == "data: 3"


async def test_no_more_than_so_many_streams_are_open() -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(Daemon()))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        opened = [
            await stack.enter_async_context(client.get(f"http://{server.address}/events")) for _ in range(STREAMS + 1)
        ]
        assert [response.status for response in opened] == [200] * STREAMS + [503]
        assert (await request(client, server, "/")).status == 200


async def test_the_server_ends_at_once_though_streams_are_open() -> None:
    server = await serve(Daemon(), "127.0.0.1:0")
    async with aiohttp.ClientSession() as client, client.get(f"http://{server.address}/events") as response:
        await next_line(response, "retry:")
        began = time.monotonic()
        await server.close()
        assert time.monotonic() - began < 0.5
        assert [line async for line in response.content if line.strip()] == []


async def silent_stream(server: Server) -> socket.socket:
    """A client that asks for the stream and reads nothing of it but the header."""
    loop, client = asyncio.get_running_loop(), socket.socket()
    client.setblocking(False)
    host, _, port = server.address.rpartition(":")
    await loop.sock_connect(client, (host, int(port)))
    await loop.sock_sendall(client, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await loop.sock_recv(client, 12)) == b"HTTP/1.1 200"
    return client


async def none_open(server: Server, daemon: Daemon) -> None:
    """Wait until no stream holds a place; something happens all the time."""
    async with asyncio.timeout(20):
        while server._apps[0][events.STREAMING].open:
            daemon.bell.ring()
            await asyncio.sleep(0.02)


async def test_whoever_is_gone_without_a_word_holds_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a laptop that sleeps, nothing comes of its kernel any more: neither an acknowledgement nor a reset."""
    monkeypatch.setattr(events, "UNHEARD", 0.5)
    daemon = Daemon()
    async with serving(daemon) as server:
        with await silent_stream(server) as client:
            assert server._apps[0][events.STREAMING].open == 1
            drop = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: ret #0
            program = struct.pack("HL", 1, ctypes.addressof(drop))
            client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
            await none_open(server, daemon)


async def test_whoever_reads_nothing_holds_a_stream_for_its_lifetime_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LIFETIME", 0.5)
    daemon = Daemon()
    async with serving(daemon) as server:
        with await silent_stream(server):
            assert server._apps[0][events.STREAMING].open == 1
            await none_open(server, daemon)


# --- many ------------------------------------------------------------------------------------------------------------


def crowd(of: type[Daemon] = Daemon) -> Daemon:
    """100 services with three probes each and six hours of ups and downs, 1,000 incidents."""
    probes = {
        name: ProbeView(type=name, plane="socket", kind="alive", latency_s=0.001) for name in ("tcp", "http", "unix")
    }
    daemon = of(guarded=[replace(each, probes=probes) for each in (*many(95), *many(5, healthy=False))])
    for service in daemon.guarded:
        for at in range(0, HOURS.seconds, 60):
            kind = Kind.SILENT if at // 600 % 7 == 3 else Kind.ALIVE
            found = {name: Observation(kind, 0.001 + at % 7 / 1000, "") for name in probes}
            daemon.history.looked(service.name, NOW - HOURS.seconds + at, found, 30.0)
    daemon.stored = [replace(HEALED, id=f"{number:08}-x") for number in range(1000)]
    return daemon


class Restless(Daemon):
    """One with whom something happens while each page is made."""

    async def incidents(
        self, service: str | None, limit: int, skip: int = 0, only_open: bool = False
    ) -> Sequence[IncidentView]:
        """The bell rings meanwhile."""
        self.bell.ring()
        return await super().incidents(service, limit, skip, only_open)


@pytest.mark.parametrize("kind", [Daemon, Restless])
async def test_many_readers_cost_what_one_costs(kind: type[Daemon]) -> None:
    daemon = crowd(kind)
    async with serving(daemon) as server, aiohttp.ClientSession() as client:
        await request(client, server, "/")
        before = len(daemon.asked)
        answers: Sequence[Answer] = await asyncio.gather(*(request(client, server, "/") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert len(daemon.asked) - before <= 2 * 3


@pytest.mark.parametrize("path", ["/", "/services/nobody", "/static/page.css"])
async def test_browsers_that_keep_what_they_may_leave_the_door_open(path: str) -> None:
    async with (
        serving(Daemon()) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS - 1, keepalive_timeout=300)) as browsers,
        aiohttp.ClientSession() as prometheus,
    ):
        await asyncio.gather(*(request(browsers, server, path) for _ in range(CONNECTIONS - 1)))
        async with asyncio.timeout(10):
            while server._doors[0].connected():  # noqa: ASYNC110 (an end has no event)
                await asyncio.sleep(0.01)
        assert (await request(prometheus, server, "/metrics")).status == 200
        assert (await request(prometheus, server, "/metrics")).status == 200
        assert server._doors[0].connected() == 1  # who scrapes keeps his connection


async def test_what_no_page_heeds_makes_no_other_page() -> None:
    daemon = crowd()
    async with serving(daemon) as server, aiohttp.ClientSession() as client:
        answers = await asyncio.gather(*(request(client, server, f"/?{number}") for number in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert len(daemon.asked) <= 2 * 2


@pytest.mark.parametrize(
    ("path", "here"),
    [
        ("/?x=1", "/"),
        ("/incidents?x=1&page=1", "/incidents?page=1"),
        ("/incidents?page=1&service=ravendb", "/incidents?service=ravendb&amp;page=1"),
    ],
)
async def test_a_page_leads_to_itself_by_what_it_heeds(path: str, here: str) -> None:
    assert f'<a href="{here}">Reload</a>' in (await ask(Daemon(), path)).text


@dataclass
class Slow(Daemon):
    """One that tells of incidents and evidence when it is released."""

    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def incidents(
        self, service: str | None, limit: int, skip: int = 0, only_open: bool = False
    ) -> Sequence[IncidentView]:
        """Late."""
        found = await super().incidents(service, limit, skip, only_open)
        self.hanging.set()
        await self.released.wait()
        return found

    async def evidence(self, incident: str) -> bytes | None:
        """Late."""
        self.hanging.set()
        await self.released.wait()
        return await super().evidence(incident)


async def test_of_the_pages_that_wait_there_is_a_bound_and_none_for_who_waits_for_the_same() -> None:
    daemon = Slow()
    async with serving(daemon) as server, aiohttp.ClientSession() as client:
        asked = [
            asyncio.create_task(request(client, server, f"/incidents?service={number}"))
            for number in range(WAITING + 3)
        ]
        refused, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        while len(refused) < 3:
            more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            refused |= more
        assert {(each.result().status, each.result().headers["Retry-After"]) for each in refused} == {(503, "1")}
        same = asyncio.create_task(request(client, server, f"/incidents?service={daemon.asked[0][0]}"))
        daemon.released.set()
        assert {answer.status for answer in await asyncio.gather(same, *waiting)} == {200}


def gone(server: Server) -> int:
    """Clients that are answered no more."""
    return sum(protocol.transport is None for protocol in server._doors[0]._http.connections)


async def test_for_who_is_gone_nothing_is_made() -> None:
    daemon = Slow()
    async with serving(daemon) as server, aiohttp.ClientSession() as client:
        first = asyncio.create_task(request(client, server, "/incidents"))
        await daemon.hanging.wait()
        host, _, port = server.address.rpartition(":")
        for number in range(WAITING - 1):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET /incidents?service={number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await writer.drain()
            writer.close()
        async with asyncio.timeout(20):
            while gone(server) < WAITING - 1:  # noqa: ASYNC110 (an end has no event)
                await asyncio.sleep(0.01)
        daemon.released.set()
        assert (await first).status == 200
        assert (await request(client, server, "/")).status == 200
    assert [service for service, _ in daemon.asked] == [None] * 3


async def test_evidence_that_takes_its_time_holds_up_no_other_page() -> None:
    daemon = Slow()
    async with guarded(daemon) as server, aiohttp.ClientSession() as client:
        known = {"Authorization": aiohttp.encode_basic_auth("ann", "secret")}
        late = asyncio.create_task(request(client, server, "/incidents/01J/evidence", **known))
        await daemon.hanging.wait()
        async with asyncio.timeout(10):
            assert (await request(client, server, "/incidents/01J", **known)).status == 200
        daemon.released.set()
        assert (await late).status == 200


def test_the_templates_put_out_no_markup_of_others() -> None:
    templates = (Path(__file__).parents[2] / "watchdog" / "web" / "templates").glob("*.html")
    assert [path.name for path in templates if re.search(r"\|\s*safe|autoescape", path.read_text())] == []
    assert FEW < PAGE
