"""The channel email against real SMTP servers."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.alerts.letters import letter
from tests.alerts.mail_server import PASSWORD, USER, mail_server, raw_server
from watchdog.alerts import CHANNELS, email
from watchdog.alerts.delivery import Courier, Delivered, Failed
from watchdog.alerts.message import facts, message
from watchdog.clock import Clock
from watchdog.model import RecordKind, Severity, State
from watchdog.settings import Secret
from watchdog.store import Store

AUTHORITY = trustme.CA()
FROM, TO = "watchdog@example.org", "ops@example.org"


def tls(authority: trustme.CA = AUTHORITY, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def trusted(tmp_path: Path) -> str:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


@pytest.fixture
def password(tmp_path: Path) -> Secret:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return Secret(file=str(tmp_path / "password"))


def channel(port: int, /, **settings: Any) -> email.Email:
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "tls": email.Tls.NONE,
        "sender": FROM,
        "recipients": (TO,),
    }
    return email.Email(email.Settings(**{**values, "timeout": 5.0, **settings}))


async def test_a_mail_says_what_the_message_says() -> None:
    async with mail_server() as place:
        mailer = channel(place.port)
        assert await mailer.send(letter()) == Delivered()

    [mail] = place.mails
    said = message(facts(letter(), mailer._host))
    assert (mail["From"], mail["To"], mail["Subject"]) == (FROM, TO, said.title)
    assert mail["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().splitlines() == said.text.splitlines()


async def test_an_incident_is_one_thread_and_an_attempt_no_other_mail() -> None:
    async with mail_server() as place:
        for each in (letter(), letter(), letter(key="8", kind="resolved"), letter(incident="01JOTHER", key="9")):
            await channel(place.port).send(each)

    first, again, end, other = place.mails
    assert first["Message-ID"] == "<01JINCIDENT.7f3a@example.org>" == again["Message-ID"]
    assert end["Message-ID"] == "<01JINCIDENT.8@example.org>"
    assert {mail["References"] for mail in (first, end)} == {"<01JINCIDENT@example.org>"}
    assert end["In-Reply-To"] == "<01JINCIDENT@example.org>"
    assert other["References"] == "<01JOTHER@example.org>"


async def test_no_header_comes_of_what_a_service_says() -> None:
    event = "down\r\nBcc: all@example.org\r\n\r\nhello ünï"
    async with mail_server() as place:
        result = await channel(place.port, title="{{ event }}\nX-Bad: 1").send(letter(payload={"text": event}))

    assert result == Delivered()
    [mail] = place.mails
    assert mail["Subject"] == "down Bcc: all@example.org hello ünï X-Bad: 1"
    assert mail["Bcc"] is None
    assert mail["X-Bad"] is None


async def test_a_line_of_a_single_dot_ends_no_mail() -> None:
    async with mail_server() as place:
        await channel(place.port, body="before\n.\nafter {{ 'é' * 2000 }}").send(letter())

    [mail] = place.mails
    assert mail.get_content().splitlines() == ["before", ".", "after " + "é" * 2000]


async def test_starttls_and_login(trusted: str, password: Secret) -> None:
    async with mail_server(starttls=tls(), login=True) as place:
        mailer = channel(place.port, tls=email.Tls.STARTTLS, ca_file=trusted, username=USER, password=password)
        assert await mailer.send(letter()) == Delivered()

    assert (place.users, place.over_tls) == ([USER], [True])


async def test_tls_from_the_first_byte_and_login(trusted: str, password: Secret) -> None:
    async with mail_server(tls=tls(), login=True) as place:
        mailer = channel(place.port, tls=email.Tls.TLS, ca_file=trusted, username=USER, password=password)
        assert await mailer.send(letter()) == Delivered()

    assert place.users == [USER]


@pytest.mark.parametrize("how", [email.Tls.STARTTLS, email.Tls.TLS])
async def test_an_unknown_authority_is_not_trusted(how: email.Tls) -> None:
    given: dict[str, Any] = {"starttls": tls()} if how is email.Tls.STARTTLS else {"tls": tls()}
    async with mail_server(**given) as place:
        result = await channel(place.port, tls=how).send(letter())

    assert isinstance(result, Failed)
    assert result.retry
    assert result.error.startswith("its certificate is not trusted: ")
    assert not place.mails


async def test_a_certificate_for_another_name_is_not_trusted(trusted: str) -> None:
    async with mail_server(starttls=tls(name="other.example.org")) as place:
        result = await channel(place.port, tls=email.Tls.STARTTLS, ca_file=trusted).send(letter())

    assert isinstance(result, Failed)
    assert result.error.startswith("its certificate is not trusted: ")


async def test_a_server_without_starttls_gets_nothing_in_the_clear(password: Secret) -> None:
    async with mail_server() as place:
        mailer = channel(place.port, tls=email.Tls.STARTTLS, username=USER, password=password)
        result = await mailer.send(letter())

    assert isinstance(result, Failed)
    assert not result.retry
    assert result.error.startswith("it offers no STARTTLS")
    assert not place.mails


async def test_plain_smtp_where_tls_is_expected_is_worth_another_attempt() -> None:
    async with mail_server() as place:
        result = await channel(place.port, tls=email.Tls.TLS).send(letter())

    assert result == Failed(retry=True, error="the TLS handshake failed")


async def test_a_wrong_password_is_told_without_it(trusted: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("WRONG-SECRET")
    async with mail_server(starttls=tls(), login=True) as place:
        mailer = channel(
            place.port,
            tls=email.Tls.STARTTLS,
            ca_file=trusted,
            username=USER,
            password=Secret(file=str(tmp_path / "password")),
        )
        result = await mailer.send(letter())

    assert result == Failed(retry=False, error="it refused the login: 535 5.7.8")


@pytest.mark.parametrize(
    ("command", "answer", "result"),
    [
        ("MAIL", "451 4.3.0 busy", Failed(retry=True, error="it refused the sender: 451 4.3.0")),
        ("MAIL", "550 no such sender", Failed(retry=False, error="it refused the sender: 550")),
        (TO, "450 4.2.0 greylisted", Failed(retry=True, error="it refused all recipients: 450 4.2.0")),
        (TO, "550 5.1.1 unknown", Failed(retry=False, error="it refused all recipients: 550 5.1.1")),
        ("DATA", "452 4.3.1 disk full", Failed(retry=True, error="it refused the mail: 452 4.3.1")),
        ("DATA", "554 5.7.1 spam", Failed(retry=False, error="it refused the mail: 554 5.7.1")),
    ],
)
async def test_4xx_is_worth_another_attempt_and_5xx_not(command: str, answer: str, result: Failed) -> None:
    async with mail_server({command: answer}) as place:
        assert await channel(place.port).send(letter()) == result


async def test_a_recipient_who_is_put_off_gets_it_later_and_the_others_once() -> None:
    async with mail_server({"a@example.org": "450 4.2.0 greylisted"}) as place:
        mailer = channel(place.port, recipients=("a@example.org", "b@example.org"))
        put_off = await mailer.send(letter())
        del place.answers["a@example.org"]
        assert await mailer.send(letter(attempts=1)) == Delivered()

    assert put_off == Failed(retry=True, error="partly delivered: it refused 1 of 2 recipients: 450 4.2.0")
    assert place.readers == [["b@example.org"], ["a@example.org"]]
    assert not mailer._reached


async def test_an_address_that_is_refused_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with mail_server({"a@example.org": "550 5.1.1 unknown"}) as place:
        assert await channel(place.port, recipients=("a@example.org", TO)).send(letter()) == Delivered()

    assert "channel ops: it refused 1 of 2 recipients: 550 5.1.1; the others have the mail" in caplog.text


async def test_whoever_is_put_off_is_tried_for_days_and_holds_up_no_later_mail_of_the_incident(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, given_up = Store(tmp_path, Clock(), deadline=30), list[str]()
    async with mail_server({"a@example.org": "450 4.2.0 greylisted"}) as place:
        mailer = channel(place.port, recipients=("a@example.org", TO), give_up_after=60.0)
        courier = Courier(
            name="ops",
            channel=mailer,
            routing=mailer._settings,
            outbox=store,
            notified=lambda *_: None,
            gave_up=given_up.append,
            first_retry=0.001,
            longest_retry=0.002,
        )
        now = time.time()
        old = letter(created=now - 100.0, key="1", only_if_told=False)
        young = letter(created=now, key="2", kind="resolved")
        await store.commit("ravendb", State(), [], None, [old, young])
        task = asyncio.create_task(courier.run())
        async with asyncio.timeout(20):
            while not given_up or len(place.readers) < 2:  # noqa: ASYNC110 (an SMTP server has no event)
                await asyncio.sleep(0.01)
            waiting = [each.key for each in await store.outbox("ops", 10)]
            del place.answers["a@example.org"]
            while await store.outbox_length():  # noqa: ASYNC110 (another thread's doing)
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
    await store.close()

    assert waiting == ["2"]  # the one that is young yet
    assert place.readers == [[TO], [TO], ["a@example.org"]]
    assert given_up == ["ops"]
    assert "GAVE UP" in caplog.text
    assert "it refused 1 of 2 recipients: 450 4.2.0" in caplog.text


async def take_a_mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The receiver's side of SMTP, up to the farewell."""
    for line in (b"220 mail.test\r\n", b"250 mail.test\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 go on\r\n"):
        writer.write(line)
        await reader.readline()
    await reader.readuntil(b"\r\n.\r\n")
    writer.write(b"250 OK\r\n")


async def test_a_deadline_in_the_farewell_makes_no_failure_of_a_mail_that_was_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(email, "FAREWELL", 2.2)  # longer than the deadline, which must hold all that comes before it
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_a_mail(reader, writer)
        await reader.read()  # QUIT gets no answer
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        result = await channel(server.sockets[0].getsockname()[1], timeout=2.0).send(letter())
        await asyncio.wait_for(ended.wait(), 20)

    assert result == Delivered()


async def test_nobody_listening_is_worth_another_attempt() -> None:
    async with mail_server() as place:
        pass

    result = await channel(place.port).send(letter())

    assert result == Failed(retry=True, error="connection failed: Connection refused")


async def test_a_name_that_does_not_resolve_is_worth_another_attempt() -> None:
    result = await channel(25, host="nobody.invalid").send(letter())

    assert result == Failed(retry=True, error="the name of its host could not be resolved")


@pytest.mark.parametrize(
    "said",
    [
        (b"hang",),
        (b"220 mail.test\r\n", b"hang"),
        (b"220 mail.test\r\n", b"250 mail.test\r\n", b"hang"),
        (b"220 mail.test\r\n", b"250 mail.test\r\n", b"250 OK\r\n", b"hang"),
    ],
)
async def test_a_server_that_hangs_costs_its_timeout_and_no_more(said: tuple[bytes, ...]) -> None:
    async with raw_server(*said) as port:
        began = asyncio.get_running_loop().time()
        result = await channel(port, timeout=0.2).send(letter())
        took = asyncio.get_running_loop().time() - began

    assert result == Failed(retry=True, error="no answer within 200ms")
    assert took < 3.0


@pytest.mark.parametrize(
    "said",
    [
        (),
        (b"220 mail.test\r\n",),
        (b"220 mail.test\r\n", b"250 mail.test\r\n"),
        (b"220 mail.test\r\n", b"250 mail.test\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 go on\r\n"),
    ],
)
async def test_a_connection_that_ends_in_the_middle_is_worth_another_attempt(said: tuple[bytes, ...]) -> None:
    async with raw_server(*said) as port:
        result = await channel(port).send(letter())

    assert isinstance(result, Failed)
    assert result.retry
    assert result.error in ("it closed the connection without an answer", "connection failed: Connection reset by peer")


@pytest.mark.parametrize(("greeting", "retry"), [(b"421 4.3.2 later\r\n", True), (b"554 5.7.1 no\r\n", False)])
async def test_a_server_that_refuses_the_connection(greeting: bytes, retry: bool) -> None:
    async with raw_server(greeting) as port:
        result = await channel(port).send(letter())

    assert result == Failed(retry=retry, error=f"it answered {greeting[:9].decode()}")


async def test_what_is_no_smtp_is_worth_another_attempt() -> None:
    async with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        result = await channel(port).send(letter())

    assert isinstance(result, Failed)
    assert result.retry


async def test_a_mail_that_was_taken_is_delivered_whatever_the_farewell() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_a_mail(reader, writer)
        await writer.drain()
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        result = await channel(server.sockets[0].getsockname()[1]).send(letter())

    assert result == Delivered()


async def test_no_secret_shows_in_logs_errors_or_repr(
    password: Secret, trusted: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = b"535 5.7.8 " + PASSWORD.encode() + b"\r\n"
    context, shown = tls(), []
    for said in [(echo,), (b"220 x\r\n", b"250-x\r\n250 AUTH PLAIN\r\n", echo), (b"220 x\r\n", b"250 AUTH LOGIN\r\n")]:

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: tuple[bytes, ...] = said
        ) -> None:
            for line in said:
                writer.write(line)
                await reader.readline()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            mailer = channel(port, tls=email.Tls.TLS, ca_file=trusted, username=USER, password=password, timeout=1.0)
            shown += [repr(await mailer.send(letter())), repr(mailer), repr(mailer._settings)]

    assert sum("Failed" in text for text in shown) == 3
    assert PASSWORD not in "\n".join([*shown, caplog.text])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"host": "a b"}, "host: is no name"),
        ({"port": 0}, "port: 0 is no port"),
        ({"sender": "nobody"}, "sender: 'nobody' is no address"),
        ({"recipients": ()}, "recipients: is empty"),
        ({"recipients": ("a@b\r\nBcc: c@d",)}, "recipients: "),
        ({"username": "u"}, "username: goes with a password"),
        ({"username": "u", "password": Secret(env="X")}, 'tls: "none" would send the password in the clear'),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (its text is looked at)
        channel(25, **settings)
    assert str(refused.value).startswith(told)


def test_a_mail_is_for_what_is_critical_and_for_its_end() -> None:
    settings = CHANNELS["email"].settings(host="mail.example.org", sender=FROM, recipients=(TO,))

    assert not settings.wants("web", RecordKind.OPENED, Severity.WARNING)
    assert settings.wants("web", RecordKind.ESCALATED, Severity.CRITICAL)
    assert settings.wants_end("web", RecordKind.RESOLVED)
