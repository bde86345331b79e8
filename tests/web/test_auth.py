"""Who is let in: passwords, clients' certificates, a private socket; by real connections."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import aiohttp
import bcrypt
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from tests.web.certified import PASSWORD, USER, USERS, certified, written
from tests.web.test_web import Daemon
from watchdog.config.web import IF_GIVEN, REQUIRED, Pem, Rate, Tls, Web, context
from watchdog.web import auth
from watchdog.web import server as web_server
from watchdog.web.auth import Known, Passwords, credentials
from watchdog.web.server import CONNECTIONS, Server, serve

EVIDENCE = "/api/v1/incidents/01J/evidence"
RIGHT = aiohttp.encode_basic_auth(USER, PASSWORD)
TCP = "127.0.0.1:0"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@contextlib.asynccontextmanager
async def serving(web: Web, listen: str | Sequence[str] = TCP, looks: float = 60.0) -> AsyncIterator[Server]:
    server = await serve(Daemon(), listen, web, looks=looks)
    try:
        yield server
    finally:
        await server.close()


async def status(
    server: Server, path: str = "/metrics", login: str | None = None, tls: ssl.SSLContext | None = None
) -> int:
    """What a client of its own is answered."""
    connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True)
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.get(f"{server.url}{path}", headers={"Authorization": login} if login is not None else None) as answer,
    ):
        await answer.read()
        return answer.status


def trusting(authority: trustme.CA, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if client is not None:
        client.configure_cert(context)
    return context


# --- passwords --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/service/ravendb", "/api/v1/services", "/nothing"])
async def test_without_the_password_nothing_is_told(path: str) -> None:
    async with serving(Web(users=USERS)) as server:
        assert await status(server, path) == 401
        assert await status(server, path, aiohttp.encode_basic_auth(USER, "wrong")) == 401
        assert await status(server, path, aiohttp.encode_basic_auth("nobody", PASSWORD)) == 401
        assert await status(server, path, RIGHT) in (200, 404)


async def test_a_browser_is_asked_for_the_password() -> None:
    async with serving(Web(users=USERS)) as server, aiohttp.ClientSession() as client:
        answer = await client.get(f"{server.url}/metrics")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


async def test_evidence_is_told_over_tcp_to_whom_has_the_password() -> None:
    async with serving(Web(users=USERS)) as server:
        assert await status(server, EVIDENCE, RIGHT) == 200
        assert await status(server, EVIDENCE) == 401
        assert await status(server, EVIDENCE.replace("01J", "02J"), RIGHT) == 404


async def test_a_password_is_hashed_once_and_so_is_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []

    def matches(word: bytes, known: str) -> bool:
        hashed.append(word)
        return bcrypt.checkpw(word, known.encode())

    monkeypatch.setattr(auth, "_matches", matches)
    async with serving(Web(users=USERS)) as server:
        for _ in range(3):
            assert await status(server, login=RIGHT) == 200
            assert await status(server, login=aiohttp.encode_basic_auth(USER, "wrong")) == 401
    assert hashed == [PASSWORD.encode(), b"wrong"]


async def test_an_unknown_user_costs_a_hash_as_a_known_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def matches(_word: bytes, known: str) -> bool:
        hashed.append(known)
        return True

    monkeypatch.setattr(auth, "_matches", matches)
    assert not await Passwords(USERS).right("nobody", b"any")
    assert hashed == list(USERS.values())


async def test_a_new_password_counts_from_the_reload_on() -> None:
    async with serving(Web(users=USERS)) as server:
        assert await status(server, login=RIGHT) == 200
        await server.reconfigure(Web(users={USER: bcrypt.hashpw(b"new", bcrypt.gensalt(4)).decode()}))
        assert await status(server, login=RIGHT) == 401
        assert await status(server, login=aiohttp.encode_basic_auth(USER, "new")) == 200


async def test_a_slow_hash_holds_up_neither_the_loop_nor_other_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash ends only once another request was answered: in the loop, neither would."""
    released = threading.Event()
    monkeypatch.setattr(auth, "_matches", lambda _word, _known: released.wait(30))
    passwords = Passwords(USERS)
    slow = asyncio.create_task(passwords.right(USER, b"slow"))
    async with serving(Web()) as server:
        assert await status(server) == 200
    assert not slow.done()
    released.set()
    assert await slow


async def test_a_real_slow_hash_lets_the_loop_tick() -> None:
    passwords = Passwords({USER: bcrypt.hashpw(b"x", bcrypt.gensalt(12)).decode()})
    loop = asyncio.get_running_loop()
    began, slow = loop.time(), asyncio.create_task(passwords.right(USER, b"wrong"))
    lags = []
    while not slow.done():
        due = loop.time() + 0.005
        await asyncio.sleep(0.005)
        lags.append(loop.time() - due)
    took = loop.time() - began
    print(f"a hash of {took * 1000:.0f} ms, the loop at most {max(lags) * 1000:.1f} ms late")
    assert len(lags) > 3
    assert sorted(lags)[len(lags) // 2] < took / 2


async def test_a_crowd_of_guesses_is_turned_away_and_who_is_known_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Web(users=USERS)) as server:
        assert await status(server, login=RIGHT) == 200
        released = threading.Event()
        monkeypatch.setattr(auth, "_matches", lambda _word, _known: released.wait(30) and False)
        guesses = [
            asyncio.create_task(status(server, login=aiohttp.encode_basic_auth(USER, str(n))))
            for n in range(auth.WAITING + 4)
        ]
        done, _ = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result() for task in done} == {503}
        assert await status(server, login=RIGHT) == 200
        released.set()
        assert sorted(await asyncio.gather(*guesses)) == [401] * auth.WAITING + [503] * 4


def test_what_is_kept_has_a_bound() -> None:
    known = Known()
    for number in range(auth.KEPT + 10):
        known.add(str(number).encode())
        assert b"0" in known  # asked for again and again, so it stays
    assert len(known.entries) == auth.KEPT
    assert b"1" not in known


@given(st.text())
def test_any_header_gives_credentials_or_none(header: str) -> None:
    found = credentials(header)
    assert found is None or isinstance(found[1], bytes)


@given(st.text().filter(lambda name: ":" not in name), st.text())
def test_credentials_are_what_a_client_sends(name: str, password: str) -> None:
    header = aiohttp.encode_basic_auth(name, password, encoding="utf-8")
    assert credentials(header) == (name, password.encode())


async def test_a_password_beyond_what_bcrypt_counts_is_cut_as_by_others() -> None:
    long = b"x" * 72
    users = {USER: bcrypt.hashpw(long, bcrypt.gensalt(4)).decode()}
    assert await Passwords(users).right(USER, long + b"more")
    assert not await Passwords(users).right(USER, b"nul\0")


# --- TLS --------------------------------------------------------------------------------------------------------------


async def test_tls_is_spoken_and_plain_http_is_not(authority: trustme.CA, tmp_path: Path) -> None:
    async with serving(Web(tls=certified(authority, tmp_path))) as server:
        assert server.url.startswith("https://")
        assert await status(server, tls=trusting(authority)) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await status(server)
        async with aiohttp.ClientSession() as client:
            with pytest.raises(aiohttp.ClientError):
                await client.get(f"http://{server.address}/metrics")


async def test_a_certificate_as_text_serves_as_well(authority: trustme.CA, tmp_path: Path) -> None:
    written(authority, tmp_path)
    tls = certified(authority, tmp_path)
    cert = Pem(key="cert", text=(tmp_path / "cert.pem").read_text())
    key = Pem(key="key", text=(tmp_path / "key.pem").read_text())
    async with serving(Web(tls=type(tls)(cert=cert, key=key))) as server:
        assert await status(server, tls=trusting(authority)) == 200
    assert "PRIVATE" not in repr(key)


async def test_who_has_a_verified_certificate_gets_evidence(authority: trustme.CA, tmp_path: Path) -> None:
    clients = trustme.CA()
    clients.cert_pem.write_to_path(tmp_path / "clients.pem")
    ca = Pem(key="client_ca_file", file=f"{tmp_path}/clients.pem")
    known, stranger = clients.issue_cert("prometheus.example.org"), trustme.CA().issue_cert("x.example.org")
    async with serving(Web(tls=certified(authority, tmp_path, client_ca=ca, client_auth=IF_GIVEN))) as server:
        assert await status(server, EVIDENCE, tls=trusting(authority, known)) == 200
        assert await status(server, EVIDENCE, tls=trusting(authority)) == 403
        assert await status(server, tls=trusting(authority)) == 200
    async with serving(Web(tls=certified(authority, tmp_path, client_ca=ca, client_auth=REQUIRED))) as server:
        assert await status(server, tls=trusting(authority, known)) == 200
        for other in (None, stranger):
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await status(server, tls=trusting(authority, other))


@pytest.mark.parametrize(("sans", "answered"), [(("a.example.org",), 200), (("b.example.org",), 403), ((), 403)])
async def test_only_certificates_of_certain_names(
    authority: trustme.CA, tmp_path: Path, sans: tuple[str, ...], answered: int
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    ca = Pem(key="client_ca_file", file=f"{tmp_path}/clients.pem")
    tls = certified(authority, tmp_path, client_ca=ca, client_auth=REQUIRED, client_allowed_sans=sans)
    async with serving(Web(tls=tls)) as server:
        assert await status(server, tls=trusting(authority, authority.issue_cert("a.example.org"))) == answered


async def test_a_renewed_certificate_counts_without_a_reload_and_kept_connections_go_on(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    async with serving(Web(tls=certified(old, tmp_path)), looks=0.05) as server:
        connector = aiohttp.TCPConnector(ssl=trusting(old))
        async with aiohttp.ClientSession(connector=connector) as kept:
            assert (await kept.get(f"{server.url}/-/healthy")).status == 200
            written(new, tmp_path)
            async with asyncio.timeout(20):
                while True:
                    try:
                        assert await status(server, tls=trusting(new)) == 200
                        break
                    except aiohttp.ClientConnectorCertificateError:
                        await asyncio.sleep(0.02)
            assert (await kept.get(f"{server.url}/-/healthy")).status == 200  # a new one would not be trusted


async def test_a_broken_renewal_leaves_the_old_certificate(
    authority: trustme.CA, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Web(tls=certified(authority, tmp_path)), looks=0.02) as server:
        (tmp_path / "cert.pem").write_text("half a cert")
        async with asyncio.timeout(20):
            while "the old one stays" not in caplog.text:  # noqa: ASYNC110 (a log line has no event)
                await asyncio.sleep(0.02)
        assert await status(server, tls=trusting(authority)) == 200
    assert caplog.text.count("the old one stays") == 1


async def test_a_renewal_that_cannot_be_read_yet_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = trustme.CA(), trustme.CA()
    async with serving(Web(tls=certified(old, tmp_path)), looks=0.02) as server:
        broken = iter([OSError(errno.EMFILE, "Too many open files")])
        monkeypatch.setattr(web_server, "context", lambda tls: _context_unless(broken, tls))
        written(new, tmp_path)
        await until_trusted(server, new)
    assert "cannot be read yet: Too many open files" in caplog.text


async def test_what_is_written_while_it_is_read_is_seen_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = trustme.CA(), trustme.CA()
    renewals = iter([new])

    def slow(tls: Tls) -> ssl.SSLContext:
        made = context(tls)
        for authority in renewals:
            written(authority, tmp_path)
        return made

    monkeypatch.setattr(web_server, "context", slow)
    async with serving(Web(tls=certified(old, tmp_path)), looks=0.02) as server:
        await until_trusted(server, new)


def _context_unless(faults: Iterator[OSError], tls: Tls) -> ssl.SSLContext:
    for fault in faults:
        raise fault
    return context(tls)


async def until_trusted(server: Server, authority: trustme.CA) -> None:
    """Wait until the server shows a certificate of this authority."""
    async with asyncio.timeout(20):
        while True:
            try:
                assert await status(server, tls=trusting(authority)) == 200
                return
            except aiohttp.ClientConnectorCertificateError:
                await asyncio.sleep(0.02)


# --- who asks for nothing ---------------------------------------------------------------------------------------------


async def test_a_crowd_without_a_handshake_is_bounded_shown_out_and_shuts_out_nobody_elsewhere(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen = [TCP, f"unix:{tmp_path}/web"]
    async with (
        listening(Web(tls=certified(authority, tmp_path)), listen, header=30.0) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        host, _, port = server.addresses[0].rpartition(":")
        crowd = []
        for _ in range(CONNECTIONS + 1):
            reader, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            crowd.append(reader)
        assert await asyncio.wait_for(crowd[-1].read(), 30) == b""
        assert not any(reader.at_eof() for reader in crowd[:-1])
        connector = aiohttp.UnixConnector(f"{tmp_path}/web")
        async with (
            aiohttp.ClientSession(connector=connector) as client,
            client.get("http://localhost/-/healthy") as answer,
        ):
            assert answer.status == 200
        loop = asyncio.get_running_loop()
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + 30.0)  # a stall shows nobody out before
        ended = await asyncio.wait_for(asyncio.gather(*(reader.read() for reader in crowd)), 30)
        assert ended == [b""] * len(crowd)
        assert await status(server, tls=trusting(authority)) == 200


async def test_who_is_slow_with_a_first_header_is_shown_out_and_who_has_asked_is_not() -> None:
    async with listening(Web(), TCP, header=2.0) as server, aiohttp.ClientSession() as client:
        assert (await client.get(f"{server.url}/-/healthy")).status == 200  # within the 2 s, too
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        assert [door.connected() for door in server._doors] == [1]


@contextlib.asynccontextmanager
async def listening(web: Web, listen: str | Sequence[str], header: float) -> AsyncIterator[Server]:
    """A server that waits that long for a first header."""
    server = await serve(Daemon(), listen, web, header=header)
    try:
        yield server
    finally:
        await server.close()


# --- the rest ---------------------------------------------------------------------------------------------------------


async def test_more_requests_than_the_limit_are_told() -> None:
    async with serving(Web(rate=Rate(interval=3600.0, burst=2))) as server:
        assert [await status(server) for _ in range(3)] == [200, 200, 429]


def test_a_bucket_fills_again() -> None:
    bucket = auth.Bucket(Rate(interval=2.0, burst=1), 1.0, 100.0)
    assert [bucket.take(now) for now in (100.0, 101.0, 102.5, 103.0, 1000.0, 1000.5)] == [
        True,
        False,
        True,
        False,
        True,
        False,
    ]


async def test_headers_of_the_file_go_to_each_answer() -> None:
    headers = {"Strict-Transport-Security": "max-age=31536000", "X-Frame-Options": "deny"}
    async with serving(Web(headers=headers, users=USERS)) as server, aiohttp.ClientSession() as client:
        answer = await client.get(f"{server.url}/metrics")
        assert headers.items() <= dict(answer.headers).items()
