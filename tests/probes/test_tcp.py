"""The tcp probe against real servers and against servers that misbehave in one way each."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import resource
import socket
import ssl
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests import servers
from tests.probes.asking import Start, address, ask, pong, until
from watchdog.model import Kind, Plane, Transport
from watchdog.probes import tcp
from watchdog.probes.attempt import explain
from watchdog.probes.deadline import Deadline
from watchdog.probes.tls import TlsConfig


async def test_redis_that_answers_is_alive(redis: servers.Redis) -> None:
    found = await ask("tcp", tcp.Settings(address=redis.address, send="PING\r\n", expect=r"^\+PONG"))
    assert found.kind is Kind.ALIVE
    assert re.fullmatch(r"answered in [0-9.]+m?s", found.reason)
    assert 0 < found.latency < 1


async def test_any_byte_back_counts_where_nothing_is_expected(serve: Start) -> None:
    found = await ask("tcp", tcp.Settings(address=await serve(pong), send="hello\n"))
    assert found.kind is Kind.ALIVE


async def test_a_server_that_speaks_first_needs_only_expect(serve: Start) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n")
        await reader.read()

    found = await ask("tcp", tcp.Settings(address=await serve(greet), expect="^220 "))
    assert found.kind is Kind.ALIVE


async def test_an_answer_in_pieces_is_put_together(serve: Start) -> None:
    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"po":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"ng")
        await reader.read()

    found = await ask("tcp", tcp.Settings(address=await serve(dribble), send="ping\n", expect="pong"))
    assert found.kind is Kind.ALIVE


async def test_a_connection_proves_nothing_of_a_server_that_never_accepts(silent: socket.socket) -> None:
    found = await ask("tcp", tcp.Settings(address=address(silent), send="ping\n", expect="pong"), within_s=0.1)
    assert found.kind is Kind.SILENT
    assert re.fullmatch(r"sent 5 bytes, no answer in \d+ms", found.reason)


async def test_connect_only_takes_the_connection_for_an_answer(silent: socket.socket) -> None:
    found = await ask("tcp", tcp.Settings(address=address(silent), connect_only=True))
    assert found.kind is Kind.ALIVE
    assert found.reason.startswith("connected in ")


async def test_a_late_answer_still_comes_on_the_one_open_connection(serve: Start) -> None:
    go = asyncio.Event()
    came = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        came.set()
        await go.wait()
        writer.write(b"pong\n")
        await reader.read()

    deadline = Deadline(asyncio.get_running_loop().time() + 5)
    settings = tcp.Settings(address=await serve(slow), send="ping\n", expect="pong")
    task = asyncio.create_task(tcp.probe(settings, None, deadline))
    await came.wait()
    before = deadline.so_far(0.25)
    go.set()
    after = await task
    assert (before.kind, before.reason) == (Kind.SILENT, "sent 5 bytes, no answer in 250ms")
    assert after.kind is Kind.ALIVE


async def test_an_answer_that_is_not_the_expected_one_is_told_before_the_deadline(serve: Start) -> None:
    deadline = Deadline(asyncio.get_running_loop().time() + 0.3)
    settings = tcp.Settings(address=await serve(pong), send="what?\n", expect="pong")
    task = asyncio.create_task(tcp.probe(settings, None, deadline))
    await until(lambda: deadline.heard)
    before = deadline.so_far(0.2)
    assert (before.kind, before.reason) == (Kind.WRONG, 'expected "pong", got "ERR\\n" (waited 200ms)')
    assert (await task).kind is Kind.WRONG


async def test_the_end_before_an_answer_is_wrong(serve: Start) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()

    found = await ask("tcp", tcp.Settings(address=await serve(hang_up), send="ping\n", expect="pong"))
    assert (found.kind, found.reason) == (Kind.WRONG, "closed the connection without an answer")


async def test_the_end_after_another_answer_is_wrong(serve: Start) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"\x00\x01 no\n")

    found = await ask("tcp", tcp.Settings(address=await serve(other), send="ping\n", expect="pong"))
    assert (found.kind, found.reason) == (Kind.WRONG, 'expected "pong", got "\\x00\\x01 no\\n", then the end')


async def test_a_reset_is_wrong(serve: Start) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    found = await ask("tcp", tcp.Settings(address=await serve(reset), send="ping\n", expect="pong"))
    assert found.kind is Kind.WRONG
    assert "reset" in found.reason


async def test_an_answer_without_end_is_given_up_at_64_kib(serve: Start) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 8192)
            await writer.drain()

    found = await ask("tcp", tcp.Settings(address=await serve(flood), send="ping\n", expect="pong"))
    assert found.kind is Kind.WRONG
    assert found.reason.endswith("in the first 64 KiB")


async def test_a_port_without_a_listener_is_refused() -> None:
    found = await ask("tcp", tcp.Settings(address=f"127.0.0.1:{servers.free_port()}", send="ping\n"))
    assert (found.kind, found.reason) == (Kind.REFUSED, "connection refused")


async def test_a_full_backlog_is_unreachable_at_the_deadline() -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        found = await ask("tcp", tcp.Settings(address=address(listener), send="ping\n"), within_s=0.2)
    assert found.kind is Kind.UNREACHABLE
    assert re.fullmatch(r"no connection in [\d.]+m?s", found.reason)
    assert 0.15 < found.latency < 5


async def test_an_address_without_a_route_is_unreachable() -> None:
    # RFC 6666: whoever routes this prefix throws its packets away.
    found = await ask("tcp", tcp.Settings(address="[100::1]:80", send="ping\n"), within_s=0.2)
    assert found.kind is Kind.UNREACHABLE


async def test_ipv6_is_asked_by_an_address_in_brackets(serve: Start) -> None:
    settings = tcp.Settings(address=await serve(pong, host="::1"), send="ping\n", expect="pong")
    assert settings.address.startswith("[::1]:")
    assert (await ask("tcp", settings)).kind is Kind.ALIVE


async def test_a_name_is_resolved_and_its_family_preferred(serve: Start) -> None:
    port = (await serve(pong)).rpartition(":")[2]
    settings = tcp.Settings(address=f"localhost:{port}", send="ping\n", expect="pong", preferred_ip_protocol="ip4")
    assert (await ask("tcp", settings)).kind is Kind.ALIVE


async def test_a_name_that_nobody_knows_is_our_own_error() -> None:
    found = await ask("tcp", tcp.Settings(address="no-such-host.invalid:80", send="ping\n"))
    assert found.kind is Kind.ERROR
    assert "no-such-host.invalid" in found.reason


async def test_no_free_descriptor_is_our_own_error(silent: socket.socket) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = [os.open("/dev/null", os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used[0] + 1, hard))
        found = await ask("tcp", tcp.Settings(address=address(silent), send="ping\n"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(used[0])
    assert (found.kind, found.reason) == (Kind.ERROR, "the probe could not run: Too many open files")


async def test_a_cancelled_probe_leaves_no_connection(silent: socket.socket) -> None:
    deadline = Deadline(asyncio.get_running_loop().time() + 5)
    task = asyncio.create_task(tcp.probe(tcp.Settings(address=address(silent), send="ping\n"), None, deadline))
    await until(lambda: deadline.sent)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert deadline.sock is not None
    assert deadline.sock.fileno() == -1


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EHOSTUNREACH, Kind.UNREACHABLE),
        (errno.ENETUNREACH, Kind.UNREACHABLE),
        (errno.ETIMEDOUT, Kind.UNREACHABLE),
        (errno.ECONNREFUSED, Kind.REFUSED),
        (errno.ECONNRESET, Kind.WRONG),
        (errno.EMFILE, Kind.ERROR),
        (errno.ENFILE, Kind.ERROR),
        (errno.ENOMEM, Kind.ERROR),
        (errno.EADDRNOTAVAIL, Kind.ERROR),
        (errno.EPERM, Kind.ERROR),
    ],
)
def test_an_errno_speaks_of_the_service_or_of_ourselves(number: int, kind: Kind) -> None:
    assert explain(OSError(number, os.strerror(number)))[0] is kind


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def server_context(authority: trustme.CA, *names: str, not_after: datetime | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=not_after).configure_cert(context)
    return context


async def test_tls_with_a_good_certificate_is_alive(serve: Start, authority: trustme.CA, ca_file: str) -> None:
    where = await serve(pong, tls=server_context(authority, "127.0.0.1"))
    config = TlsConfig(ca_file=ca_file)
    found = await ask("tcp", tcp.Settings(address=where, send="ping\n", expect="pong", tls=True, tls_config=config))
    assert found.kind is Kind.ALIVE


async def test_tls_checks_the_name_that_the_settings_give(serve: Start, authority: trustme.CA, ca_file: str) -> None:
    where = await serve(pong, tls=server_context(authority, "db.example.org"))
    good = TlsConfig(ca_file=ca_file, server_name="db.example.org")
    bad = TlsConfig(ca_file=ca_file)
    assert (
        await ask("tcp", tcp.Settings(address=where, send="ping\n", expect="pong", tls=True, tls_config=good))
    ).kind is Kind.ALIVE
    assert (
        await ask("tcp", tcp.Settings(address=where, send="ping\n", expect="pong", tls=True, tls_config=bad))
    ).kind is Kind.WRONG


async def test_tls_with_an_expired_certificate_is_wrong(serve: Start, authority: trustme.CA, ca_file: str) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    where = await serve(pong, tls=server_context(authority, "127.0.0.1", not_after=past))
    config = TlsConfig(ca_file=ca_file)
    found = await ask("tcp", tcp.Settings(address=where, send="ping\n", expect="pong", tls=True, tls_config=config))
    assert (found.kind, found.reason) == (Kind.WRONG, "TLS certificate refused: certificate has expired")


async def test_tls_with_a_certificate_that_nobody_vouches_for_is_wrong(serve: Start, authority: trustme.CA) -> None:
    where = await serve(pong, tls=server_context(authority, "127.0.0.1"))
    found = await ask("tcp", tcp.Settings(address=where, send="ping\n", expect="pong", tls=True))
    assert found.kind is Kind.WRONG
    assert found.reason.startswith("TLS certificate refused: ")


async def test_tls_is_not_verified_where_the_settings_say_so(serve: Start, authority: trustme.CA) -> None:
    where = await serve(pong, tls=server_context(authority, "127.0.0.1"))
    config = TlsConfig(insecure_skip_verify=True)
    found = await ask("tcp", tcp.Settings(address=where, send="ping\n", expect="pong", tls=True, tls_config=config))
    assert found.kind is Kind.ALIVE


async def test_a_server_that_does_not_speak_tls_is_wrong(nginx: servers.Nginx) -> None:
    found = await ask("tcp", tcp.Settings(address=nginx.address, send="GET / HTTP/1.0\r\n\r\n", tls=True))
    assert found.kind is Kind.WRONG
    assert found.reason.startswith("TLS failed: ")


async def test_a_dark_tls_server_is_silent(silent: socket.socket) -> None:
    found = await ask("tcp", tcp.Settings(address=address(silent), send="ping\n", tls=True), within_s=0.1)
    assert found.kind is Kind.SILENT
    assert found.reason.startswith("connected, no answer in ")


async def test_a_ca_file_that_is_not_there_is_our_own_error(silent: socket.socket) -> None:
    config = TlsConfig(ca_file="/nonexistent/ca.pem")
    found = await ask("tcp", tcp.Settings(address=address(silent), send="ping\n", tls=True, tls_config=config))
    assert (found.kind, found.reason) == (Kind.ERROR, "TLS settings: /nonexistent/ca.pem is not readable")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"address": "127.0.0.1:80"}, "connect_only = true"),
        ({"address": "127.0.0.1:80", "send": ""}, "connect_only = true"),
        ({"address": "127.0.0.1:80", "send": "x", "connect_only": True}, "contradicts"),
        ({"address": "127.0.0.1", "send": "x"}, 'write "host:port"'),
        ({"address": "127.0.0.1:0", "send": "x"}, 'write "host:port"'),
        ({"address": "::1:80", "send": "x"}, "stands in brackets"),
        ({"address": "h:1", "expect": "("}, "no regular expression"),
        ({"address": "h:1", "send": "x", "tls_config": TlsConfig()}, "say tls = true"),
    ],
)
def test_settings_are_refused_with_what_would_be_right(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        tcp.Settings(**settings)  # type: ignore[arg-type]


def test_tls_settings_are_refused_with_what_would_be_right() -> None:
    with pytest.raises(ValueError, match="key_file without cert_file"):
        TlsConfig(key_file="/k.pem")
    with pytest.raises(ValueError, match="no absolute path"):
        TlsConfig(ca_file="ca.pem")


def test_connect_only_is_warned_of() -> None:
    assert tcp.warnings(tcp.Settings(address="h:1", send="x")) == ()
    (warning,) = tcp.warnings(tcp.Settings(address="h:1", connect_only=True))
    assert "dark service" in warning


def test_a_firewall_stops_this_road() -> None:
    road = tcp.road(tcp.Settings(address="h:1", send="x"))
    assert (road.plane, road.transport) == (Plane.SOCKET, Transport.TCP)
