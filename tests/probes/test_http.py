"""The http probe against a real nginx, and against servers that break the protocol in one way each."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

import watchdog
from tests import servers
from tests.probes.asking import Start, address, ask
from watchdog.model import Kind, Observation, Plane, Transport
from watchdog.probes import http
from watchdog.probes.http_settings import Authorization, BasicAuth, HeaderMatch
from watchdog.probes.tls import TlsConfig
from watchdog.settings import Secret

LOCATIONS = """
    location = /503 { return 503; }
    location = /empty { return 204; }
    location = /agent { return 200 "agent $http_user_agent."; }
    location = /host { return 200 "host $host."; }
    location = /authorization { return 200 "authorization $http_authorization."; }
    location = /asked { return 200 "asked $request_method $content_length $http_x_test."; }
    location = /typed { add_header X-Role primary; add_header X-Role backup; return 200 "ok"; }
    location = /there { return 302 /agent; }
    location = /elsewhere { return 302 http://localhost:$server_port/authorization; }
    location = /loop { return 302 /loop; }
    location = /out { return 302 ftp://example.org/; }
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Nginx]:
    """nginx with a location for each thing to expect."""
    with servers.nginx(tmp_path_factory.mktemp("site"), server_config=LOCATIONS) as server:
        yield server


def at(site: servers.Nginx, path: str) -> str:
    return f"{site.url}{path.removeprefix('/')}"


async def get(url: str, **settings: object) -> Observation:
    return await ask("http", http.Settings(url=url, **settings))  # type: ignore[arg-type]


async def test_nginx_that_answers_is_alive(site: servers.Nginx) -> None:
    found = await get(site.url)
    assert found.kind is Kind.ALIVE
    assert re.fullmatch(r"answered 200 in [0-9.]+m?s", found.reason)


async def test_nginx_is_asked_over_its_unix_socket(site: servers.Nginx) -> None:
    found = await get(
        "http://service/host", unix_socket=str(site.path), fail_if_body_not_matches_regexp=("host service",)
    )
    assert found.kind is Kind.ALIVE


async def test_another_status_is_wrong(site: servers.Nginx) -> None:
    found = await get(at(site, "/503"))
    assert (found.kind, found.reason) == (Kind.WRONG, "answered 503, expected 2xx")


async def test_the_status_that_is_asked_for_is_alive(site: servers.Nginx) -> None:
    assert (await get(at(site, "/503"), valid_status_codes=(503,))).kind is Kind.ALIVE
    assert (await get(site.url, valid_status_codes=(503, 500))).reason == "answered 200, expected 503 or 500"


async def test_an_answer_without_a_body_is_an_answer(site: servers.Nginx) -> None:
    assert (await get(at(site, "/empty"))).kind is Kind.ALIVE


async def test_head_is_answered_without_a_body(site: servers.Nginx) -> None:
    assert (await get(site.url, method="HEAD")).kind is Kind.ALIVE


async def test_the_probe_names_itself(site: servers.Nginx) -> None:
    expected = (f"agent epoll-watchdog/{re.escape(watchdog.__version__)}\\.",)
    assert (await get(at(site, "/agent"), fail_if_body_not_matches_regexp=expected)).kind is Kind.ALIVE


async def test_method_headers_and_body_are_sent(site: servers.Nginx) -> None:
    expected = ("asked PUT 5 yes\\.",)
    found = await get(
        at(site, "/asked"),
        method="PUT",
        body="hello",
        headers={"X-Test": "yes"},
        fail_if_body_not_matches_regexp=expected,
    )
    assert found.kind is Kind.ALIVE


async def test_a_body_that_matches_may_fail_the_probe(site: servers.Nginx) -> None:
    found = await get(site.url, fail_if_body_matches_regexp=("hel+o",))
    assert (found.kind, found.reason) == (Kind.WRONG, 'the body matches "hel+o"')


async def test_a_body_that_does_not_match_may_fail_the_probe(site: servers.Nginx) -> None:
    found = await get(site.url, fail_if_body_not_matches_regexp=("hello", "goodbye"))
    assert (found.kind, found.reason) == (Kind.WRONG, 'the body does not match "goodbye"')


@pytest.mark.parametrize(
    ("matches", "not_matches", "kind"),
    [
        (HeaderMatch(header="X-Role", regexp="backup"), None, Kind.WRONG),
        (HeaderMatch(header="x-role", regexp="other"), None, Kind.ALIVE),
        (HeaderMatch(header="X-None", regexp="."), None, Kind.WRONG),
        (HeaderMatch(header="X-None", regexp=".", allow_missing=True), None, Kind.ALIVE),
        (None, HeaderMatch(header="X-Role", regexp="backup"), Kind.ALIVE),
        (None, HeaderMatch(header="X-Role", regexp="other"), Kind.WRONG),
        (None, HeaderMatch(header="X-None", regexp="."), Kind.WRONG),
        (None, HeaderMatch(header="X-None", regexp=".", allow_missing=True), Kind.ALIVE),
    ],
)
async def test_headers_are_judged_as_blackbox_exporter_does(
    site: servers.Nginx, matches: HeaderMatch | None, not_matches: HeaderMatch | None, kind: Kind
) -> None:
    found = await get(
        at(site, "/typed"),
        fail_if_header_matches=(matches,) if matches else (),
        fail_if_header_not_matches=(not_matches,) if not_matches else (),
    )
    assert found.kind is kind


async def test_a_redirect_is_followed(site: servers.Nginx) -> None:
    assert (await get(at(site, "/there"), fail_if_body_not_matches_regexp=("agent",))).kind is Kind.ALIVE


async def test_a_redirect_is_an_answer_where_it_is_not_to_be_followed(site: servers.Nginx) -> None:
    found = await get(at(site, "/there"), follow_redirects=False)
    assert (found.kind, found.reason) == (Kind.WRONG, "answered 302, expected 2xx")


async def test_redirects_without_end_are_wrong(site: servers.Nginx) -> None:
    found = await get(at(site, "/loop"))
    assert (found.kind, found.reason) == (Kind.WRONG, "more than 10 redirects")


async def test_a_redirect_out_of_http_is_wrong(site: servers.Nginx) -> None:
    found = await get(at(site, "/out"))
    assert (found.kind, found.reason) == (Kind.WRONG, "answered 302 with a Location that is no URL of HTTP")


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"basic_auth": BasicAuth(username="me", password=Secret(env="HTTP_SECRET"))}, "Basic bWU6czNjcmV0"),
        ({"bearer_token": Secret(env="HTTP_SECRET")}, "Bearer s3cret"),
        ({"authorization": Authorization(type="Token", credentials=Secret(env="HTTP_SECRET"))}, "Token s3cret"),
    ],
)
async def test_a_secret_is_sent(
    site: servers.Nginx, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], sent: str
) -> None:
    monkeypatch.setenv("HTTP_SECRET", "s3cret")
    expected = (f"^authorization {sent}\\.$",)
    found = await get(at(site, "/authorization"), fail_if_body_not_matches_regexp=expected, **settings)
    assert found.kind is Kind.ALIVE


async def test_a_secret_does_not_go_to_another_origin(site: servers.Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_SECRET", "s3cret")
    found = await get(
        at(site, "/elsewhere"),
        bearer_token=Secret(env="HTTP_SECRET"),
        preferred_ip_protocol="ip4",
        fail_if_body_not_matches_regexp=("^authorization \\.$",),
    )
    assert found.kind is Kind.ALIVE


async def test_a_secret_that_cannot_be_read_is_our_own_error(site: servers.Nginx) -> None:
    found = await get(site.url, bearer_token=Secret(env="NOBODY_SETS_THIS"))
    assert found.kind is Kind.ERROR
    assert "NOBODY_SETS_THIS is not set" in found.reason


async def test_plain_http_may_fail_the_probe(site: servers.Nginx) -> None:
    found = await get(site.url, fail_if_not_ssl=True)
    assert (found.kind, found.reason) == (Kind.WRONG, "answered without TLS (fail_if_not_ssl)")


async def test_another_version_of_http_may_fail_the_probe(site: servers.Nginx) -> None:
    assert (await get(site.url, valid_http_versions=("HTTP/1.1",))).kind is Kind.ALIVE
    found = await get(site.url, valid_http_versions=("HTTP/1.0",))
    assert (found.kind, found.reason) == (Kind.WRONG, "answered in HTTP/1.1, expected HTTP/1.0")


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, str]]:
    """nginx over TLS: the ports of a good certificate (of ten days) and of an expired one, and the CA's file."""
    directory = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    ends = {"good": datetime.now(UTC) + timedelta(days=10), "old": datetime.now(UTC) - timedelta(days=1)}
    parts = []
    ports = [servers.free_port(), servers.free_port()]
    for (name, end), port in zip(ends.items(), ports, strict=True):
        issued = authority.issue_cert("127.0.0.1", not_after=end)
        issued.private_key_and_cert_chain_pem.write_to_path(directory / f"{name}.pem")
        parts.append(
            f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {directory}/{name}.pem;"
            f' ssl_certificate_key {directory}/{name}.pem; location / {{ return 200 "secure"; }} }}'
        )
    with servers.nginx(directory, http_config="\n".join(parts)):
        yield ports[0], ports[1], str(directory / "ca.pem")


async def test_https_is_alive(secure: tuple[int, int, str]) -> None:
    port, _, ca_file = secure
    settings = {"tls_config": TlsConfig(ca_file=ca_file), "fail_if_not_ssl": True}
    found = await get(f"https://127.0.0.1:{port}/", fail_if_body_not_matches_regexp=("secure",), **settings)
    assert found.kind is Kind.ALIVE


async def test_https_may_fail_the_probe(secure: tuple[int, int, str]) -> None:
    port, _, ca_file = secure
    found = await get(f"https://127.0.0.1:{port}/", tls_config=TlsConfig(ca_file=ca_file), fail_if_ssl=True)
    assert (found.kind, found.reason) == (Kind.WRONG, "answered over TLS (fail_if_ssl)")


async def test_an_expired_certificate_is_wrong(secure: tuple[int, int, str]) -> None:
    _, port, ca_file = secure
    found = await get(f"https://127.0.0.1:{port}/", tls_config=TlsConfig(ca_file=ca_file))
    assert (found.kind, found.reason) == (Kind.WRONG, "TLS certificate refused: certificate has expired")


async def test_a_certificate_that_nobody_vouches_for_is_wrong(secure: tuple[int, int, str]) -> None:
    port, _, _ = secure
    found = await get(f"https://127.0.0.1:{port}/")
    assert found.kind is Kind.WRONG
    assert found.reason.startswith("TLS certificate refused: ")


async def test_a_certificate_that_ends_too_soon_is_wrong(secure: tuple[int, int, str]) -> None:
    port, _, ca_file = secure
    config = TlsConfig(ca_file=ca_file)
    long, short = 11 * 86400.0, 9 * 86400.0
    found = await get(f"https://127.0.0.1:{port}/", tls_config=config, certificate_min_validity=long)
    assert found.kind is Kind.WRONG
    assert re.fullmatch(r"the certificate expires in (10d|9d23h\w*), sooner than 11d", found.reason)
    good = await get(f"https://127.0.0.1:{port}/", tls_config=config, certificate_min_validity=short)
    assert good.kind is Kind.ALIVE


async def test_plain_http_has_no_certificate_that_could_be_valid(site: servers.Nginx) -> None:
    found = await get(site.url, certificate_min_validity=60.0)
    assert (found.kind, found.reason) == (Kind.WRONG, "answered without TLS (certificate_min_validity)")


# --- darkness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_server_that_never_accepts_is_silent(silent: socket.socket, scheme: str) -> None:
    found = await ask("http", http.Settings(url=f"{scheme}://{address(silent)}/"), within_s=0.1)
    assert found.kind is Kind.SILENT


async def test_a_full_unix_backlog_is_unreachable_at_once(silent_unix: Path) -> None:
    settings = http.Settings(url="http://localhost/", unix_socket=str(silent_unix))
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.connect(str(silent_unix))
        second.connect(str(silent_unix))
        found = await ask("http", settings)
    assert (found.kind, found.reason) == (Kind.UNREACHABLE, "backlog full (EAGAIN)")


async def test_a_port_without_a_listener_is_refused() -> None:
    found = await get(f"http://127.0.0.1:{servers.free_port()}/")
    assert (found.kind, found.reason) == (Kind.REFUSED, "connection refused")


async def test_a_unix_socket_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    found = await get("http://localhost/", unix_socket=f"{tmp_path}/none")
    assert (found.kind, found.reason) == (Kind.REFUSED, f"{tmp_path}/none does not exist")


async def test_an_unreadable_answer_leaves_no_descriptor_behind(silent: socket.socket) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    await ask("http", http.Settings(url=f"https://{address(silent)}/"), within_s=0.05)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# --- broken protocol --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal", "answered 200, but not to the end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", "answered 200, but not to the end"),
        (b"220 mail ready\r\n", "no valid HTTP answer (BadStatusLine)"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "closed the connection without an answer"),
    ],
)
async def test_an_answer_that_is_none_is_wrong(serve: Start, answer: bytes, reason: str) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    found = await get(f"http://{await serve(broken)}/")
    assert (found.kind, found.reason) == (Kind.WRONG, reason)


async def test_a_body_that_does_not_end_is_wrong_at_the_deadline(serve: Start) -> None:
    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal")
        await reader.read()

    found = await ask("http", http.Settings(url=f"http://{await serve(stuck)}/"), within_s=0.5)
    assert found.kind is Kind.WRONG
    assert re.fullmatch(r"answered 200, but not to the end \(waited [\d.]+m?s\)", found.reason)
    assert 0.45 < found.latency < 5


async def test_a_body_that_ends_with_the_connection_is_whole(serve: Start) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhal")
        await writer.drain()
        writer.write(b"lo")

    found = await get(f"http://{await serve(old)}/", fail_if_body_not_matches_regexp=("^hallo$",))
    assert found.kind is Kind.ALIVE


async def test_an_interim_answer_is_not_the_answer(serve: Start) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    found = await get(f"http://{await serve(early)}/")
    assert found.kind is Kind.ALIVE
    assert found.reason.startswith("answered 200 ")


async def test_a_body_without_end_is_read_to_its_first_mebibyte(serve: Start) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nbegin")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    found = await get(f"http://{await serve(flood)}/", fail_if_body_not_matches_regexp=("^beginx",))
    assert found.kind is Kind.ALIVE


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "127.0.0.1:80"}, "no URL of HTTP"),
        ({"url": "ftp://host/"}, "no URL of HTTP"),
        ({"url": "http://host:0/"}, "no URL of HTTP"),
        ({"url": "http://host:99999/"}, "no URL"),
        ({"url": "http://me:pw@host/"}, "basic_auth"),
        ({"method": "GET /"}, "no HTTP method"),
        ({"headers": {"X": "a\r\nb"}}, "one line"),
        ({"headers": {"Authorization": "Bearer x"}}, "bearer_token"),
        ({"valid_status_codes": (99,)}, "100 to 599"),
        ({"fail_if_body_matches_regexp": ("(",)}, "no regular expression"),
        ({"fail_if_ssl": True, "fail_if_not_ssl": True}, "exclude each other"),
        ({"bearer_token": Secret(env="A"), "basic_auth": BasicAuth(username="u", password=Secret(env="A"))}, "exclude"),
        ({"unix_socket": "run/s"}, "no absolute path"),
        (
            {"certificate_min_validity": 1.0, "tls_config": TlsConfig(insecure_skip_verify=True)},
            "name the server's own certificate as tls_config.ca_file",
        ),
        ({"certificate_min_validity": 1.0, "follow_redirects": False}, "https://"),
    ],
)
def test_settings_are_refused_with_what_would_be_right(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        http.Settings(**{"url": "http://host/", **settings})  # type: ignore[arg-type]


def test_a_password_in_a_url_is_not_told() -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        http.Settings(url="http://me:hunter2@host/")
    assert "hunter2" not in str(refused.value)


def test_a_unix_socket_is_a_road_of_its_own() -> None:
    over_tcp = http.road(http.Settings(url="http://host/"))
    over_unix = http.road(http.Settings(url="http://host/", unix_socket="/run/s"))
    assert (over_tcp.plane, over_tcp.transport) == (Plane.SOCKET, Transport.TCP)
    assert (over_unix.plane, over_unix.transport) == (Plane.SOCKET, Transport.UNIX)


def test_an_unverified_certificate_is_warned_of() -> None:
    (warning,) = http.warnings(http.Settings(url="https://h/", tls_config=TlsConfig(insecure_skip_verify=True)))
    assert "insecure_skip_verify" in warning
