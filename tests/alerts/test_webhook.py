"""The webhook against a real receiver: what it sends, what it makes of each answer, that it tells no secret."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme

import watchdog
from tests.alerts.letters import letter
from tests.alerts.receiver import CUT, HANG, NO_CONTENT, Receiver, answer, receiver
from watchdog.alerts import CHANNELS, webhook
from watchdog.alerts.delivery import Delivered, Failed
from watchdog.model import Severity
from watchdog.settings import Secret

PATH = "path-that-nobody-may-see"


@contextlib.asynccontextmanager
async def channel(place: Receiver, **settings: Any) -> AsyncIterator[webhook.Webhook]:
    """The channel to this receiver."""
    values: dict[str, Any] = {"url": place.url, "timeout": 5.0} | settings
    opened = webhook.Webhook(webhook.Settings(**values))
    try:
        yield opened
    finally:
        await opened.close()


async def send_once(reply: bytes, **settings: Any) -> Delivered | Failed:
    """What the channel makes of this answer."""
    async with receiver(reply) as place, channel(place, **settings) as hook:
        return await hook.send(letter())


async def test_the_body_says_all_that_is_known_of_the_incident() -> None:
    async with receiver() as place, channel(place) as hook:
        assert await hook.send(letter(merged=2)) == Delivered()
        [request] = await place.received(1)
    assert request.json == {
        "version": "1",
        "id": "01JINCIDENT.7f3a",
        "incident": "01JINCIDENT",
        "kind": "opened",
        "severity": "warning",
        "time": "2023-11-14T22:13:20.250+00:00",
        "host": socket.gethostname(),
        "service": "ravendb",
        "verdict": "epoll_stall",
        "certainty": "suspected",
        "reasons": ["sockets dark, a witness alive"],
        "since": "2023-11-14T22:13:18.000+00:00",
        "text": "the event loop sleeps",
        "labels": {"team": "storage"},
        "annotations": {"runbook_url": "https://runbooks.example.org/ravendb"},
        "detail": {"tried": []},
        "merged": 2,
        "times_30d": 3,
        "done": [
            {
                "at": "2023-11-14T22:13:19.000+00:00",
                "rung": "nudge",
                "outcome": "refused",
                "reason": "Yama forbids it",
            },
        ],
        "kernel": [{"id": "epoll-lost", "text": "it loses wake-ups", "fixed_in": "5.4.226"}],
    }
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == f"epoll-watchdog/{watchdog.__version__}"


async def test_every_attempt_of_a_message_has_the_same_key_and_another_message_another() -> None:
    async with receiver(answer(500)) as place, channel(place) as hook:
        await hook.send(letter())
        await hook.send(letter())
        await hook.send(letter(key="8", kind="resolved"))
        keys = [request.headers["idempotency-key"] for request in await place.received(3)]
    assert keys == ["01JINCIDENT.7f3a", "01JINCIDENT.7f3a", "01JINCIDENT.8"]


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's own libraries.
    headers = webhook.signature(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


async def test_what_is_signed_is_what_arrives(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a plain secret\n")
    secret = Secret(file=str(tmp_path / "secret"))
    async with receiver() as place, channel(place, secret=secret) as hook:
        await hook.send(letter())
        [request] = await place.received(1)
    told = {name: value for name, value in request.headers.items() if name.startswith("webhook-")}
    stamp = int(told["webhook-timestamp"])
    assert told == webhook.signature(["a plain secret"], "01JINCIDENT.7f3a", stamp, request.body)


async def test_without_a_secret_nothing_is_signed() -> None:
    async with receiver() as place, channel(place) as hook:
        await hook.send(letter())
        [request] = await place.received(1)
    assert "webhook-signature" not in request.headers


async def test_headers_may_be_secrets_too(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer abc\n")
    headers = {"Authorization": Secret(file=str(tmp_path / "token")), "X-Team": "storage"}
    async with receiver() as place, channel(place, headers=headers) as hook:
        await hook.send(letter())
        [request] = await place.received(1)
    assert (request.headers["authorization"], request.headers["x-team"]) == ("Bearer abc", "storage")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_delivers(status: int) -> None:
    assert await send_once(answer(status)) == Delivered()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
async def test_an_answer_that_may_change_is_worth_another_attempt(status: int) -> None:
    assert await send_once(answer(status)) == Failed(retry=True, error=f"answered {status}")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413])
async def test_a_refusal_is_final(status: int) -> None:
    assert await send_once(answer(status)) == Failed(retry=False, error=f"answered {status}")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with receiver() as elsewhere:
        result = await send_once(answer(status, f"Location: {elsewhere.url}"))
        assert not elsewhere.requests
    assert result == Failed(retry=False, error=f"answered {status}, a redirect: configure the URL that it leads to")


async def test_retry_after_in_seconds_is_handed_on() -> None:
    assert await send_once(answer(429, "Retry-After: 17")) == Failed(retry=True, error="answered 429", after=17.0)


async def test_retry_after_as_a_date_is_handed_on() -> None:
    in_a_minute = formatdate(time.time() + 60, usegmt=True)
    result = await send_once(answer(503, f"Retry-After: {in_a_minute}"))
    assert isinstance(result, Failed)
    assert result.after == pytest.approx(60, abs=5)


ENDLESS = f"Fri, 01 Jan {'9' * 20} 00:00:00 GMT"


@pytest.mark.parametrize("value", ["soon", "-5", "99999999999999", "Sat, 99 Foo 2020", ENDLESS, ""])
async def test_a_senseless_retry_after_is_left_out(value: str) -> None:
    assert await send_once(answer(429, f"Retry-After: {value}")) == Failed(retry=True, error="answered 429")


async def test_a_receiver_that_hangs_costs_its_timeout_and_no_more() -> None:
    async with receiver(HANG) as place, channel(place, timeout=0.2) as hook:
        began = asyncio.get_running_loop().time()
        result = await hook.send(letter())
        took = asyncio.get_running_loop().time() - began
        await place.all_ended()
    assert result == Failed(retry=True, error="no answer within 200ms")
    assert took < 3.0


async def test_an_answer_whose_body_never_ends_counts_by_its_status() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun"
    assert await send_once(endless, timeout=0.5) == Delivered()


async def test_a_huge_answer_is_not_read_to_its_end() -> None:
    async with receiver(answer(200, body=b"x" * 50_000_000)) as place, channel(place) as hook:
        assert await hook.send(letter()) == Delivered()
        await place.all_ended()
    assert place.cut_short == 1


async def test_a_connection_closed_in_the_middle_of_the_answer_is_worth_another_attempt() -> None:
    result = await send_once(CUT)
    assert result == Failed(retry=True, error="it closed the connection without an answer")


async def test_an_answer_that_is_no_http_is_worth_another_attempt() -> None:
    result = await send_once(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    assert result == Failed(retry=True, error="its answer is no HTTP")


async def test_nobody_listening_is_worth_another_attempt() -> None:
    async with receiver() as place:
        pass
    async with channel(place) as hook:
        result = await hook.send(letter())
    assert result == Failed(retry=True, error="connection failed: Connection refused")


async def test_a_name_that_does_not_resolve_is_worth_another_attempt() -> None:
    hook = webhook.Webhook(webhook.Settings(url=f"http://nobody.invalid/{PATH}"))
    result = await hook.send(letter())
    await hook.close()
    assert result == Failed(retry=True, error="the name of its host could not be resolved")


def tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    """A server's context with a certificate for this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_tls_is_trusted_by_the_configured_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with (
        receiver(tls=tls(authority, "127.0.0.1")) as place,
        channel(place, ca_file=str(tmp_path / "ca.pem")) as hook,
    ):
        assert await hook.send(letter()) == Delivered()


async def test_an_unknown_authority_is_not_trusted() -> None:
    async with receiver(tls=tls(trustme.CA(), "127.0.0.1")) as place, channel(place) as hook:
        result = await hook.send(letter())
        assert not place.requests
    assert isinstance(result, Failed)
    assert result.error.startswith("its certificate is not trusted: ")
    assert result.retry


async def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with (
        receiver(tls=tls(authority, "other.example.org")) as place,
        channel(place, ca_file=str(tmp_path / "ca.pem")) as hook,
    ):
        result = await hook.send(letter())
    assert isinstance(result, Failed)
    assert result.error.startswith("its certificate is not trusted: ")


async def test_plain_http_behind_an_https_url_is_worth_another_attempt() -> None:
    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(400))
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        hook = webhook.Webhook(webhook.Settings(url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
        result = await hook.send(letter())
        await hook.close()
    assert result == Failed(retry=True, error="the TLS handshake failed")


async def test_a_url_may_be_a_secret(tmp_path: Path) -> None:
    async with receiver() as place:
        (tmp_path / "url").write_text(f"{place.url}\n")
        async with channel(place, url=Secret(file=str(tmp_path / "url"))) as hook:
            assert await hook.send(letter()) == Delivered()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"gopher://x/{PATH}", 'url: must be like "https://alerts.example.org/hook"'),
        (f"http://x:99999/{PATH}", 'url: must be like "https://alerts.example.org/hook"'),
        ("", "is empty"),
    ],
)
async def test_a_url_read_from_a_file_that_is_none_is_told_without_it(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "url").write_text(content)
    hook = webhook.Webhook(webhook.Settings(url=Secret(file=str(tmp_path / "url"))))
    result = await hook.send(letter())
    assert isinstance(result, Failed)
    assert result.retry
    assert told in result.error
    assert PATH not in result.error


async def test_a_secret_that_can_not_be_read_is_told_with_its_place(tmp_path: Path) -> None:
    async with receiver() as place, channel(place, secret=Secret(file=str(tmp_path / "absent"))) as hook:
        result = await hook.send(letter())
        assert not place.requests
    assert isinstance(result, Failed)
    assert result.retry
    assert str(tmp_path / "absent") in result.error


async def test_a_secret_that_pretends_to_be_base64_is_told(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whsec_no base64 at all")
    async with receiver() as place, channel(place, secret=Secret(file=str(tmp_path / "secret"))) as hook:
        result = await hook.send(letter())
    assert result == Failed(retry=True, error='the secret begins with "whsec_", and what follows is no base64')


async def test_no_secret_shows_in_logs_errors_or_repr(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "secret").write_text("SIGNING-SECRET")
    (tmp_path / "token").write_text("Bearer TOKEN-SECRET")
    secrets = {
        "secret": Secret(file=str(tmp_path / "secret")),
        "headers": {"Authorization": Secret(file=str(tmp_path / "token")), "X-Key": "HEADER-SECRET"},
    }
    replies = [CUT, answer(500), answer(404, body=f"/hook/{PATH} was not found".encode()), b"no http\r\n\r\n"]
    async with (
        receiver(*[HANG] * 50) as hanging,
        receiver(*replies) as place,
        channel(hanging, timeout=0.2, **secrets) as hasty,
        channel(place, timeout=10.0, **secrets) as hook,
    ):
        results = [*await hanging.reached(lambda: hasty.send(letter())), *[await hook.send(letter()) for _ in replies]]
        shown = "\n".join([*map(repr, [*results, hasty, hasty._settings, hook, hook._settings]), caplog.text])
    assert len(place.requests) == len(replies)
    for secret in (PATH, "SIGNING-SECRET", "TOKEN-SECRET", "HEADER-SECRET"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": f"ftp://example.org/{PATH}"}, 'url: must be like "https://alerts.example.org/hook"'),
        ({"url": f"https:///{PATH}"}, 'url: must be like "https://alerts.example.org/hook"'),
        ({"url": f"https://example.org:x/{PATH}"}, 'url: must be like "https://alerts.example.org/hook"'),
        ({"timeout": 0.0}, "timeout: 0s is too short"),
        ({"headers": {"X Key": "1"}}, "headers: 'X Key' is no name of a header"),
        ({"headers": {"X-Key": f"a\r\n{PATH}"}}, "headers: the value of X-Key has a line break"),
        ({"headers": {"Webhook-Id": "1"}}, "headers: Webhook-Id is set by epoll-watchdog itself"),
    ],
)
def test_wrong_settings_are_refused_without_their_values(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")) as refused:
        webhook.Settings(**{"url": "https://example.org/"} | settings)
    assert PATH not in str(refused.value)


def test_a_webhook_wants_everything_by_default() -> None:
    settings = webhook.Settings(url="https://example.org/")
    assert (settings.min_severity, settings.services, settings.send_resolved) == (Severity.INFO, (), True)


async def test_the_registry_opens_a_webhook() -> None:
    kind = CHANNELS["webhook"]
    async with receiver(NO_CONTENT) as place:
        hook = kind.open(kind.settings(url=place.url))
        result = await hook.send(letter())
        await hook.close()
    assert result == Delivered()


def test_importing_the_channels_imports_no_http_client() -> None:
    code = "import sys, watchdog.alerts; sys.exit('aiohttp' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
