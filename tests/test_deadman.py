"""The dead-man ping, against a real receiver on loopback that answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

import watchdog
from tests.alerts.receiver import CUT, HANG, Receiver, answer, receiver
from watchdog import deadman
from watchdog.deadman import DeadMan, Ping, Settings, address
from watchdog.messages import MESSAGES, Event
from watchdog.settings import Secret

PATH = "/hook/path-that-nobody-may-see"
INTERVAL = 0.1  # s; shorter than the config allows
OK = answer(200, body=b"OK")


class Pinging:
    """A dead man that runs, what is wrong with the watchdog it watches, and what came of its pings."""

    def __init__(self, settings: Settings) -> None:
        self.wrong = ""
        self.outcomes: asyncio.Queue[Ping] = asyncio.Queue()
        self.dead_man = DeadMan(settings, lambda: self.wrong, lambda: 3, self.outcomes.put_nowait)

    async def next(self, count: int = 1) -> list[Ping]:
        """So many outcomes."""
        async with asyncio.timeout(10):
            return [await self.outcomes.get() for _ in range(count)]

    async def until(self, outcome: Ping) -> None:
        """Wait for such an outcome."""
        async with asyncio.timeout(10):
            while await self.outcomes.get() is not outcome:
                pass


@contextlib.asynccontextmanager
async def pinging(place: Receiver, wrong: str = "", **settings: Any) -> AsyncIterator[Pinging]:
    """A dead man who pings this receiver."""
    values: dict[str, Any] = {"url": place.url, "interval": INTERVAL, "timeout": 5.0} | settings
    made = Pinging(Settings(**values))
    made.wrong = wrong
    task = asyncio.create_task(made.dead_man.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait({task})


def lines(caplog: pytest.LogCaptureFixture, event: Event) -> list[str]:
    """What was logged of an event."""
    return [line.getMessage() for line in caplog.records if vars(line).get("MESSAGE_ID") == MESSAGES[event]]


async def test_it_pings_at_once_and_then_each_interval() -> None:
    async with receiver() as place, pinging(place, interval=0.4) as pings:
        began = asyncio.get_running_loop().time()
        assert await pings.next(4) == [Ping.SUCCESS] * 4
        times = [request.at for request in place.requests]
    assert times[0] - began < 5.0  # with an import of the HTTP client
    # The second is due when the first has ended, at the earliest: so two intervals are between, however late one came.
    assert 0.79 <= times[3] - times[0] < 5


async def test_the_next_ping_is_not_due_before_its_interval_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    clock = loop.time
    async with receiver() as place, pinging(place, interval=60.0) as pings:
        assert await pings.next() == [Ping.SUCCESS]
        monkeypatch.setattr(loop, "time", lambda: clock() + 50.0)
        await asyncio.sleep(0.1)  # nothing happens: there is no event to wait for
        assert pings.outcomes.empty()
        monkeypatch.setattr(loop, "time", lambda: clock() + 60.0)
        assert await pings.next() == [Ping.SUCCESS]


async def test_a_ping_is_a_short_text_posted_to_the_url() -> None:
    async with receiver(OK) as place, pinging(place) as pings:
        await pings.next()
        request = place.requests[0]
    assert request.target == PATH
    assert request.body == f"epoll-watchdog on {socket.gethostname()}: guarding 3 services".encode()
    assert request.headers["content-type"] == "text/plain; charset=utf-8"
    assert request.headers["user-agent"] == f"epoll-watchdog/{watchdog.__version__}"


async def test_what_is_wrong_is_told_once_and_no_ping_says_meanwhile_that_all_is_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with receiver() as place, pinging(place, wrong="its own loop lags") as pings:
        assert await pings.next() == [Ping.FAIL]
        await asyncio.sleep(5 * INTERVAL)
        assert pings.outcomes.empty()
        pings.wrong = ""
        assert await pings.next(2) == [Ping.SUCCESS, Ping.SUCCESS]
        told = [(request.target, request.body.decode()) for request in place.requests]
    host = socket.gethostname()
    assert told[0] == (f"{PATH}/fail", f"epoll-watchdog on {host}: its own loop lags")
    assert [target for target, _ in told[1:]] == [PATH] * (len(told) - 1)
    assert lines(caplog, Event.DEAD_MAN_ALARM) == ["the dead-man monitor was told: its own loop lags"]


async def test_what_is_wrong_anew_is_told_anew() -> None:
    async with receiver() as place, pinging(place, wrong="one") as pings:
        await pings.next()
        pings.wrong = ""
        await pings.until(Ping.SUCCESS)
        pings.wrong = "two"
        await pings.until(Ping.FAIL)
        bodies = [request.body.decode() for request in place.requests if request.target.endswith("/fail")]
    assert [body.rpartition(": ")[2] for body in bodies] == ["one", "two"]


async def test_what_is_well_at_a_second_look_is_no_ailment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadman, "SECOND_LOOK", 0.02)
    looks = iter(["the disk was slow for a second", "", ""])
    async with receiver() as place:
        outcomes: asyncio.Queue[Ping] = asyncio.Queue()
        made = DeadMan(Settings(url=place.url, interval=60.0), lambda: next(looks), lambda: 1, outcomes.put_nowait)
        task = asyncio.create_task(made.run())
        async with asyncio.timeout(10):
            assert await outcomes.get() is Ping.SUCCESS
        task.cancel()
        await asyncio.wait({task})


async def test_a_failure_that_could_not_be_told_is_told_at_the_next_interval() -> None:
    async with receiver(answer(500), answer(500)) as place, pinging(place, wrong="its own loop lags") as pings:
        assert await pings.next(3) == [Ping.UNDELIVERED, Ping.UNDELIVERED, Ping.FAIL]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (answer(500), "answered 500"),
        (answer(404, body=b"not found"), "answered 404"),
        (answer(429), "answered 429"),
        (answer(200, body=b"OK (not found)"), "answered that it knows no such check"),
        (answer(200, body=b"OK (rate limited)"), "answered that it is pinged too often"),
        (answer(302, "Location: http://127.0.0.1:1/"), "answered 302, a redirect: configure the URL that it leads to"),
        (CUT, "it closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "its answer is no HTTP"),
        (HANG, "no answer within 1s"),
    ],
)
async def test_a_failing_ping_is_told_once_and_once_when_it_works_again(
    reply: bytes, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    timeout = 1.0 if reply == HANG else 10.0
    async with receiver(reply, reply, OK, OK) as place, pinging(place, timeout=timeout) as pings:
        outcomes = await pings.next(4)
        await place.received(4)
    assert outcomes == [Ping.UNDELIVERED] * 2 + [Ping.SUCCESS] * 2
    assert lines(caplog, Event.DEAD_MAN_FAILS) == [f"the dead-man ping fails: {told}"]
    assert lines(caplog, Event.DEAD_MAN_WORKS) == ["the dead-man ping works again"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with receiver() as elsewhere:
        async with receiver(answer(status, f"Location: {elsewhere.url}")) as place, pinging(place) as pings:
            assert await pings.next() == [Ping.UNDELIVERED]
        assert not elsewhere.requests


async def test_a_huge_answer_is_not_read_to_its_end() -> None:
    async with receiver(answer(200, body=b"OK" + b"x" * 10_000_000)) as place, pinging(place, interval=60.0) as pings:
        assert await pings.next() == [Ping.SUCCESS]
        await place.all_ended()
    assert place.cut_short == 1


async def test_an_answer_whose_body_never_ends_counts_by_its_status() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nO"
    async with receiver(endless) as place, pinging(place) as pings:
        assert await pings.next() == [Ping.SUCCESS]


async def test_a_monitor_that_hangs_keeps_nobody_waiting() -> None:
    """The loop runs on while a ping hangs; it ends at its time-out, and cancelling it takes no time at all."""
    loop = asyncio.get_running_loop()
    longest = 0.0
    async with receiver(HANG, HANG) as place:
        async with pinging(place, timeout=60.0):
            await place.received(1)
            last = loop.time()
            for _ in range(20):
                await asyncio.sleep(0.01)
                longest, last = max(longest, loop.time() - last), loop.time()
            began = loop.time()
        assert loop.time() - began < 5
    assert longest < 5


async def test_nobody_listening_is_told_in_our_own_words(caplog: pytest.LogCaptureFixture) -> None:
    async with receiver() as place:
        pass
    async with pinging(place) as pings:
        assert await pings.next(2) == [Ping.UNDELIVERED] * 2
    assert lines(caplog, Event.DEAD_MAN_FAILS) == ["the dead-man ping fails: connection failed: Connection refused"]


async def test_a_fault_of_ours_ends_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError(f"about {PATH}")

    async with receiver() as place, pinging(place) as pings:
        await pings.next()
        monkeypatch.setattr(socket, "gethostname", broken)
        await pings.next()
        assert await pings.next() == [Ping.UNDELIVERED]
        monkeypatch.undo()
        await pings.next()
        assert await pings.next() == [Ping.SUCCESS]
    assert lines(caplog, Event.DEAD_MAN_FAILS) == ["the dead-man ping fails: a fault of ours (RuntimeError)"]
    assert PATH not in caplog.text


def tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context with a certificate of this authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_tls_is_trusted_by_the_configured_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with (
        receiver(tls=tls(authority)) as place,
        pinging(place, ca_file=str(tmp_path / "ca.pem")) as pings,
    ):
        assert await pings.next() == [Ping.SUCCESS]


async def test_an_unknown_authority_is_not_trusted(caplog: pytest.LogCaptureFixture) -> None:
    async with receiver(tls=tls(trustme.CA())) as place, pinging(place) as pings:
        assert await pings.next() == [Ping.UNDELIVERED]
        assert not place.requests
    [line] = lines(caplog, Event.DEAD_MAN_FAILS)
    assert "its certificate is not trusted: " in line


async def test_the_url_is_read_from_where_it_is_kept(tmp_path: Path) -> None:
    async with receiver() as place:
        (tmp_path / "url").write_text(f"{place.url}\n")
        async with pinging(place, url=Secret(file=str(tmp_path / "url"))) as pings:
            assert await pings.next() == [Ping.SUCCESS]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"gopher://x{PATH}", 'url: must be like "https://hc-ping.com/UUID" (the value is not shown, it is a secret)'),
        (f"http://[x{PATH}", 'url: must be like "https://hc-ping.com/UUID" (the value is not shown, it is a secret)'),
        ("", "is empty"),
    ],
)
async def test_what_is_kept_there_and_is_no_url_is_told_without_it(
    content: str, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "url").write_text(content)
    async with receiver() as place, pinging(place, url=Secret(file=str(tmp_path / "url"))) as pings:
        assert await pings.next() == [Ping.UNDELIVERED]
    [line] = lines(caplog, Event.DEAD_MAN_FAILS)
    assert told in line
    assert PATH not in line


async def test_the_url_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    replies = [HANG, CUT, answer(500), answer(404, body=f"{PATH} was not found".encode()), b"no http\r\n\r\n", OK]
    async with receiver(*replies) as place, pinging(place, timeout=1.0) as pings:
        outcomes = await pings.next(len(replies))
        shown = "\n".join([caplog.text, repr(outcomes), repr(pings.dead_man), repr(pings.dead_man.settings)])
    assert len(place.requests) >= len(replies)
    assert "path-that-nobody-may-see" not in shown


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": f"ftp://example.org{PATH}"}, 'url: must be like "https://hc-ping.com/UUID"'),
        ({"interval": 0.0}, "interval: 0s is too short"),
        ({"timeout": 0.0}, "timeout: 0s is too short"),
    ],
)
def test_wrong_settings_are_refused_without_their_values(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        Settings(**{"url": "https://example.org/"} | settings)
    assert PATH not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("https://hc-ping.com/uuid", "https://hc-ping.com/uuid/fail"),
        ("https://hc-ping.com/uuid/", "https://hc-ping.com/uuid/fail"),
        ("https://hc-ping.com/key/web?create=1", "https://hc-ping.com/key/web/fail?create=1"),
        ("http://[::1]:8000/ping/uuid", "http://[::1]:8000/ping/uuid/fail"),
        ("https://user:pass@example.org", "https://user:pass@example.org/fail"),
    ],
)
def test_a_failure_goes_to_the_path_below(url: str, where: str) -> None:
    assert address(url, Ping.FAIL) == where


words = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_%", max_size=10)


@given(words, words, words)
def test_a_failure_goes_to_no_other_host_and_keeps_the_query(first: str, second: str, query: str) -> None:
    url = f"https://hc-ping.com/{first}/{second}?{query}" if query else f"https://hc-ping.com/{first}/{second}"
    assert address(url, Ping.SUCCESS) == url
    told = address(url, Ping.FAIL)
    assert told.startswith("https://hc-ping.com/")
    assert told.partition("?")[0].endswith("/fail")
    assert told.partition("?")[2] == query


def test_importing_it_imports_no_http_client() -> None:
    code = "import sys, watchdog.deadman; sys.exit('aiohttp' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
