"""Under which names it answers: a website's name that leads to this host is none of them."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from tests.web.certified import PASSWORD, USER, USERS, certified
from tests.web.test_web import Daemon
from watchdog.config.web import Web
from watchdog.web.called import is_called
from watchdog.web.server import Server, serve

EVIL = "evil.example"
EVIDENCE = "/api/v1/incidents/01J/evidence"
AS_USER = {"Authorization": aiohttp.encode_basic_auth(USER, PASSWORD)}


async def status(server: Server, path: str, host: str, **headers: str) -> int:
    """What a client that means `host` is answered at the first address."""
    unix = server.address.removeprefix("unix:")
    connector = aiohttp.UnixConnector(unix) if unix != server.address else None
    url = "http://localhost" if connector is not None else f"http://{server.address}"
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.get(f"{url}{path}", headers={"Host": host, **headers}) as answer,
    ):
        return answer.status


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/services", "/events", "/static/page.css", EVIDENCE])
async def test_a_website_whose_name_leads_here_reads_nothing(path: str, tmp_path: Path) -> None:
    for listen in ("127.0.0.1:0", f"unix:{tmp_path}/web.sock"):
        server = await serve(Daemon(), listen)
        try:
            assert await status(server, path, EVIL) == 421
            assert await status(server, path, f"{EVIL}:9797") == 421
        finally:
            await server.close()


async def test_nor_does_it_give_orders(tmp_path: Path) -> None:
    server = await serve(Daemon(), [], control=f"{tmp_path}/control.sock")
    try:
        assert await status(server, EVIDENCE, EVIL) == 421
        assert await status(server, EVIDENCE, "localhost") == 200
    finally:
        await server.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9797", "localhost", "localhost:1", "[::1]:9797", "10.0.0.7", "a.localhost"]
)
async def test_a_tunnel_leads_to_it(host: str, tmp_path: Path) -> None:
    server = await serve(Daemon(), f"unix:{tmp_path}/web.sock")
    try:
        assert await status(server, EVIDENCE, host) == 200
    finally:
        await server.close()


async def test_what_it_is_called_in_the_configuration_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    looked_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **named: looked_up("127.0.0.1" if host == "db7.example" else host, *more, **named),
    )
    server = await serve(Daemon(), "DB7.example:0")
    try:
        assert await status(server, "/metrics", "db7.example:9797") == 200
        assert await status(server, "/metrics", EVIL) == 421
    finally:
        await server.close()


async def test_where_others_reach_it_or_a_secret_is_asked_for_any_name_may_lead_to_it(tmp_path: Path) -> None:
    """Prometheus asks by whatever name its target has."""
    for listen, web, headers in (("0.0.0.0:0", Web(), {}), ("127.0.0.1:0", Web(users=USERS), AS_USER)):
        server = await serve(Daemon(), listen, web)
        try:
            assert await status(server, "/metrics", "db7.example:9797", **headers) == 200
        finally:
            await server.close()


async def test_a_private_socket_is_guarded_though_the_others_ask_for_a_password(tmp_path: Path) -> None:
    web = Web(users=USERS, tls=certified(trustme.CA(), tmp_path))
    server = await serve(Daemon(), f"unix:{tmp_path}/web.sock", web)
    try:
        assert await status(server, EVIDENCE, EVIL) == 421
    finally:
        await server.close()


def test_who_names_nobody_is_no_browser() -> None:
    """So asks a load balancer that speaks HTTP/1.0."""
    assert is_called(None, ())


@pytest.mark.parametrize(
    "header", ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[::1", "x@y"]
)
def test_what_only_looks_like_a_name_of_it_is_none(header: str) -> None:
    assert not is_called(header, ("db7.example",))


@given(st.text())
def test_any_header_is_judged(header: str) -> None:
    assert is_called(header, ()) in (True, False)
