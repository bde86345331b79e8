"""The HTTP server, asked by a real client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import selectors
import socket
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import aiohttp
import pytest
from prometheus_client import parser

from watchdog.history import History, Past, Span
from watchdog.metrics import Metrics
from watchdog.web.bell import Bell
from watchdog.web.server import CONNECTIONS, CannotListen, Server, serve
from watchdog.web.view import IncidentView, ProbeView, ServiceView, TimelineView, Unavailable

NOW = 1_000_000.0  # of the clock of what is remembered
RAVENDB = ServiceView(
    name="ravendb",
    mode="full",
    verdict="healthy",
    certainty="confirmed",
    reasons=("every probe alive",),
    healthy=True,
    sockets_alive=True,
    restart_due=False,
    paused=False,
    pid=4711,
    last_round_at=1_700_000_000.5,
    probes={"https": ProbeView(type="http", plane="socket", kind="alive", latency_s=0.0012, reason="answered 200")},
    budgets={"nudge": 5, "restart": 2},
)
STALLED = replace(
    RAVENDB,
    verdict="epoll_stall",
    certainty="suspected",
    reasons=("sockets dark, a witness alive", "second"),
    healthy=False,
    sockets_alive=False,
    incident="01J",
)
INCIDENT = IncidentView(
    id="01J",
    service="ravendb",
    opened=1_700_000_000.0,
    closed=None,
    verdict="epoll_stall",
    certainty="suspected",
    timeline=(TimelineView(at=1_700_000_000.0, kind="opened", text="dark", severity="warning", detail={"n": 1}),),
)


@dataclass
class Daemon:
    """What the daemon would tell."""

    guarded: Sequence[ServiceView] = (RAVENDB,)
    stored: Sequence[IncidentView] = (INCIDENT,)
    is_ready: bool = True
    is_healthy: bool = True
    fault: Exception | None = None
    hang: bool = False
    asked: list[tuple[str | None, int]] = field(default_factory=list)
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    bell: Bell = field(default_factory=Bell)
    history: History = field(default_factory=History)
    _metrics: Metrics = field(default_factory=Metrics)

    def services(self) -> Sequence[ServiceView]:
        """Every guarded service."""
        return self.guarded

    def past(self, service: str, spans: Collection[Span]) -> Past:
        """As told to `history`, up to now."""
        return self.history.of(service, NOW, spans)

    async def incident(self, incident: str) -> IncidentView | None:
        """Of those that are stored."""
        return next((each for each in self.stored if each.id == incident), None)

    async def incidents(
        self, service: str | None, limit: int, skip: int = 0, only_open: bool = False
    ) -> Sequence[IncidentView]:
        """Every incident."""
        self.asked.append((service, limit))
        if self.hang:
            self.hanging.set()
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        found = [each for each in self.stored if service in (None, each.service)]
        return [each for each in found if not only_open or each.closed is None][skip : skip + limit]

    async def evidence(self, incident: str) -> bytes | None:
        """Of the one incident."""
        return b'{"version": 1}' if incident == INCIDENT.id else None

    def ready(self) -> bool:
        """As set."""
        return self.is_ready

    def healthy(self) -> bool:
        """As set."""
        return self.is_healthy

    def metrics(self, accept: str) -> tuple[Iterator[bytes], str]:
        """Real ones."""
        return self._metrics.render(accept)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    text: str
    headers: dict[str, str]


@contextlib.asynccontextmanager
async def serving(daemon: Daemon) -> AsyncIterator[Server]:
    """A server of this daemon on a free port."""
    server = await serve(daemon, "127.0.0.1:0")
    try:
        yield server
    finally:
        await server.close()


async def ask(daemon: Daemon, path: str, method: str = "GET", **headers: str) -> Answer:
    """One request to a server of this daemon."""
    async with serving(daemon) as server, aiohttp.ClientSession() as client:
        return await request(client, server, path, method, **headers)


async def request(
    client: aiohttp.ClientSession, server: Server, path: str, method: str = "GET", **headers: str
) -> Answer:
    """One request."""
    async with client.request(method, f"http://{server.address}{path}", headers=headers) as response:
        return Answer(response.status, await response.text(), dict(response.headers))


async def test_the_tests_run_on_poll() -> None:
    assert isinstance(asyncio.get_running_loop()._selector, selectors.PollSelector)  # type: ignore[attr-defined]


# --- metrics and health -----------------------------------------------------------------------------------------------


async def test_metrics_are_what_prometheus_reads() -> None:
    answer = await ask(Daemon(), "/metrics", Accept="text/plain;version=0.0.4")
    names = {family.name for family in parser.text_string_to_metric_families(answer.text)}
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "epoll_watchdog_build_info" in names


async def test_openmetrics_is_negotiated() -> None:
    answer = await ask(Daemon(), "/metrics", Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


async def test_healthy_is_said_while_the_loop_ticks() -> None:
    assert (await ask(Daemon(), "/-/healthy")).status == 200
    assert (await ask(Daemon(is_healthy=False), "/-/healthy")).status == 503


async def test_ready_is_said_after_every_first_round() -> None:
    assert (await ask(Daemon(), "/-/ready")).status == 200
    assert (await ask(Daemon(is_ready=False), "/-/ready")).status == 503


async def test_head_is_answered_as_get_without_a_body() -> None:
    answer = await ask(Daemon(), "/-/healthy", "HEAD")
    assert (answer.status, answer.text) == (200, "")


@pytest.mark.parametrize(
    ("service", "status", "text"),
    [
        (RAVENDB, 200, "healthy\n"),
        (STALLED, 503, "epoll_stall (suspected): sockets dark, a witness alive\n"),
        (replace(STALLED, reasons=()), 503, "epoll_stall (suspected)\n"),
        (replace(STALLED, restart_due=True), 503, "epoll_stall: a restart is due\n"),
        (replace(RAVENDB, restart_due=True), 503, "healthy: a restart is due\n"),
        (replace(RAVENDB, healthy=False, last_round_at=None), 503, "no round yet\n"),
        (replace(RAVENDB, paused=True), 200, "healthy\n"),
    ],
)
async def test_a_load_balancer_is_told_who_should_get_traffic(service: ServiceView, status: int, text: str) -> None:
    answer = await ask(Daemon(guarded=(service,)), "/-/service/ravendb")
    assert (answer.status, answer.text) == (status, text)


async def test_a_service_that_is_not_guarded_is_not_found() -> None:
    assert (await ask(Daemon(), "/-/service/redis")).status == 404


# --- API --------------------------------------------------------------------------------------------------------------


async def test_the_api_tells_of_every_service() -> None:
    answer = await ask(Daemon(), "/api/v1/services")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert json.loads(answer.text) == {
        "services": [
            {
                "name": "ravendb",
                "mode": "full",
                "verdict": "healthy",
                "certainty": "confirmed",
                "reasons": ["every probe alive"],
                "against": [],
                "healthy": True,
                "sockets_alive": True,
                "restart_due": False,
                "paused": False,
                "pause_by": "",
                "pause_reason": "",
                "pause_until": None,
                "window": "",
                "acknowledged_by": "",
                "holds": [],
                "held_for": "",
                "passes": [],
                "pid": 4711,
                "last_round_at": "2023-11-14T22:13:20.500+00:00",
                "probes": {
                    "https": {
                        "type": "http",
                        "plane": "socket",
                        "kind": "alive",
                        "latency_s": 0.0012,
                        "reason": "answered 200",
                    }
                },
                "incident": None,
                "budgets": {"nudge": 5, "restart": 2},
            }
        ]
    }


async def test_the_api_tells_of_incidents() -> None:
    answer = await ask(Daemon(), "/api/v1/incidents")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert json.loads(answer.text) == {
        "incidents": [
            {
                "id": "01J",
                "service": "ravendb",
                "opened": "2023-11-14T22:13:20.000+00:00",
                "closed": None,
                "verdict": "epoll_stall",
                "certainty": "suspected",
                "timeline": [
                    {
                        "at": "2023-11-14T22:13:20.000+00:00",
                        "kind": "opened",
                        "text": "dark",
                        "severity": "warning",
                        "detail": {"n": 1},
                    }
                ],
            }
        ]
    }


@pytest.mark.parametrize(
    ("query", "asked"),
    [("", (None, 50)), ("?service=ravendb", ("ravendb", 50)), ("?limit=3&service=a%20b", ("a b", 3))],
)
async def test_incidents_are_asked_for_as_the_query_says(query: str, asked: tuple[str | None, int]) -> None:
    daemon = Daemon()
    answer = await ask(daemon, f"/api/v1/incidents{query}")
    assert (answer.status, daemon.asked) == (200, [asked])


@pytest.mark.parametrize("limit", ["0", "501", "-1", "x", "", "1e2", "٣", "9" * 5000])
async def test_a_senseless_limit_is_told(limit: str) -> None:
    answer = await ask(Daemon(), f"/api/v1/incidents?limit={limit}")
    assert (answer.status, answer.text) == (
        400,
        '{"error": {"status": 400, "message": "limit: must be a number from 1 to 500"}}',
    )


async def test_evidence_is_not_told_over_tcp_to_whom_nobody_knows() -> None:
    answer = await ask(Daemon(), "/api/v1/incidents/01J/evidence")
    assert answer.status == 403
    assert "private Unix socket" in json.loads(answer.text)["error"]["message"]


@pytest.mark.parametrize("path", ["/api/v1/", "/api/v2/services", "/api/v1/services/ravendb"])
async def test_what_the_api_does_not_have_is_told_in_json(path: str) -> None:
    answer = await ask(Daemon(), path)
    assert (answer.status, answer.text) == (404, '{"error": {"status": 404, "message": "404: Not Found"}}')


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_can_be_changed(method: str) -> None:
    answer = await ask(Daemon(), "/api/v1/services", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
    assert answer.headers["Content-Type"].startswith("application/json")


async def test_elsewhere_errors_are_text() -> None:
    answer = await ask(Daemon(), "/nothing")
    assert (answer.status, answer.text) == (404, "404: Not Found\n")
    assert (await ask(Daemon(), "/metrics", "POST")).status == 405


async def test_a_store_that_can_not_be_read_is_told() -> None:
    answer = await ask(Daemon(fault=Unavailable("state.db: no answer")), "/api/v1/incidents")
    assert (answer.status, answer.text) == (503, '{"error": {"status": 503, "message": "state.db: no answer"}}')


async def test_a_fault_of_ours_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    answer = await ask(Daemon(fault=KeyError("inner")), "/api/v1/incidents")
    assert answer.status == 500
    assert "inner" not in answer.text
    assert "KeyError: 'inner'" in caplog.text


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/api/v1/services", "/nothing", "/api/nothing"])
async def test_answers_are_guarded_against_browsers(path: str) -> None:
    headers = (await ask(Daemon(), path, Origin="https://evil.example.org")).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Server"] == "epoll-watchdog"
    assert "Access-Control-Allow-Origin" not in headers


# --- the server -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
async def test_the_address_is_the_real_one(listen: str) -> None:
    server = await serve(Daemon(), listen)
    async with aiohttp.ClientSession() as client:
        answer = await request(client, server, "/-/healthy")
    await server.close()
    assert answer.status == 200
    assert not server.address.endswith(":0")


@pytest.mark.parametrize("listen", ["", "9797", "localhost", "127.0.0.1:", "127.0.0.1:x", ":9797", "127.0.0.1:99999"])
async def test_an_address_that_is_none_is_told(listen: str) -> None:
    with pytest.raises(CannotListen, match="write host:port, such as"):
        await serve(Daemon(), listen)


async def test_an_address_in_use_is_told() -> None:
    async with serving(Daemon()) as server:
        with pytest.raises(CannotListen, match=rf"can't listen on {server.address}: .*[Aa]ddress already in use"):
            await serve(Daemon(), server.address)


async def test_it_ends_within_a_second_whatever_its_clients_do() -> None:
    daemon = Daemon(hang=True)
    server = await serve(daemon, "127.0.0.1:0")
    host, _, port = server.address.rpartition(":")
    async with aiohttp.ClientSession() as client, contextlib.AsyncExitStack() as stack:
        await request(client, server, "/-/healthy")  # kept alive
        hanging = asyncio.create_task(request(client, server, "/api/v1/incidents"))
        await daemon.hanging.wait()
        for half in (b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf"):
            _reader, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            writer.write(half)
            await writer.drain()
        began = time.monotonic()
        await server.close()
        took = time.monotonic() - began
        with pytest.raises(aiohttp.ClientError):
            await hanging
    assert took < 1.0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_a_client_that_never_reads_does_not_hold_up_the_end() -> None:
    big = replace(RAVENDB, reasons=("x" * 10_000_000,))
    server = await serve(Daemon(guarded=(big,)), "127.0.0.1:0")
    host, _, port = server.address.rpartition(":")
    with socket.socket() as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
        await asyncio.get_running_loop().sock_sendall(client, b"GET /api/v1/services HTTP/1.1\r\nHost: [::1]\r\n\r\n")
        first = await asyncio.get_running_loop().sock_recv(client, 100)
        began = time.monotonic()
        await server.close()
        took = time.monotonic() - began
    assert first.startswith(b"HTTP/1.1 200 OK")
    assert took < 1.0


async def test_a_crowd_of_connections_is_bounded_and_those_it_has_are_served() -> None:
    async with serving(Daemon()) as server, aiohttp.ClientSession() as client, contextlib.AsyncExitStack() as stack:
        host, _, port = server.address.rpartition(":")
        await request(client, server, "/-/healthy")  # its connection is kept
        readers = []
        for _ in range(CONNECTIONS - 1):
            reader, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            readers.append(reader)
        refused, writer = await asyncio.open_connection(host, int(port))
        stack.callback(writer.close)
        assert await asyncio.wait_for(refused.read(), 5) == b""
        assert (await request(client, server, "/-/healthy")).status == 200


async def test_nonsense_gets_a_400_and_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Daemon()) as server:
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert b" 400 " in answer.splitlines()[0]
    assert caplog.records == []


async def test_requests_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await ask(Daemon(), "/-/healthy")
    assert caplog.records == []
