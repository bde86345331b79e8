"""Every channel over HTTP at receivers that misbehave: what it makes of each, and that it tells no secret."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.alerts.letters import letter
from tests.alerts.receiver import CUT, HANG, answer, receiver
from watchdog.alerts import CHANNELS
from watchdog.alerts.delivery import Channel, Delivered, Failed
from watchdog.alerts.routing import HttpRouting
from watchdog.alerts.webhook import Format
from watchdog.settings import Secret

PATH = "path-that-nobody-may-see"
Opens = Callable[..., Channel]

# Of each channel, the settings that it needs besides those of every channel over HTTP.
KINDS: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "webhook": lambda url, secret: {"url": url, "secret": Secret(file=str(secret))},
    "webhook in alertmanager's format": lambda url, secret: {"url": url, "format": Format.ALERTMANAGER},
    "alertmanager": lambda url, secret: {"urls": (url,)},
    "pagerduty": lambda url, secret: {"url": url, "routing_key": Secret(file=str(secret))},
    "slack": lambda url, secret: {"url": url},
}


@pytest.fixture(params=KINDS)
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Opens:
    """Opens the channel to a URL."""
    (tmp_path / "secret").write_text("SIGNING-SECRET")
    (tmp_path / "token").write_text("Bearer TOKEN-SECRET")
    headers = {"Authorization": Secret(file=str(tmp_path / "token")), "X-Key": "HEADER-SECRET"}

    def opened(url: str, **settings: Any) -> Channel:
        kind = CHANNELS[str(request.param).partition(" ")[0]]
        needed = KINDS[request.param](url, tmp_path / "secret")
        return kind.open(kind.settings(**{"headers": headers, "timeout": 5.0} | needed | settings))

    return opened


async def result_of(opens: Opens, reply: bytes, **settings: Any) -> Delivered | Failed:
    """What the channel makes of this answer."""
    async with receiver(reply) as place:
        channel = opens(place.url, **settings)
        try:
            return await channel.send(letter())
        finally:
            await channel.close()


def test_every_channel_over_http_is_tested_here() -> None:
    over_http = {word for word, kind in CHANNELS.items() if issubclass(kind.settings, HttpRouting)}
    assert {kind.partition(" ")[0] for kind in KINDS} == over_http


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (answer(200), Delivered()),
        (answer(500), Failed(retry=True, error="answered 500")),
        (answer(429, "Retry-After: 17"), Failed(retry=True, error="answered 429", after=17.0)),
        (answer(410), Failed(retry=False, error="answered 410")),
        (
            answer(307, f"Location: http://127.0.0.1:1/{PATH}"),
            Failed(retry=False, error="answered 307, a redirect: configure the URL that it leads to"),
        ),
        (CUT, Failed(retry=True, error="it closed the connection without an answer")),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Failed(retry=True, error="its answer is no HTTP")),
    ],
    ids=["200", "500", "429", "410", "redirect", "closed in the middle", "no http"],
)
async def test_what_becomes_of_an_answer(opens: Opens, reply: bytes, result: Delivered | Failed) -> None:
    assert await result_of(opens, reply) == result


async def test_a_receiver_that_hangs_costs_its_timeout(opens: Opens) -> None:
    began = asyncio.get_running_loop().time()
    assert await result_of(opens, HANG, timeout=0.2) == Failed(retry=True, error="no answer within 200ms")
    assert asyncio.get_running_loop().time() - began < 3.0


async def test_ten_megabytes_of_body_are_not_read(opens: Opens) -> None:
    async with receiver(answer(200, body=b"x" * 10_000_000)) as place:
        channel = opens(place.url)
        assert await channel.send(letter()) == Delivered()
        await channel.close()
        await place.all_ended()
    assert place.cut_short == 1


async def test_nobody_there_is_worth_another_attempt(opens: Opens) -> None:
    async with receiver() as place:
        pass
    channel = opens(place.url)
    assert await channel.send(letter()) == Failed(retry=True, error="connection failed: Connection refused")
    await channel.close()


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls_is_trusted_by_the_configured_authority_only(opens: Opens, tmp_path: Path, trusted: bool) -> None:
    authority, other = trustme.CA(), trustme.CA()
    (authority if trusted else other).cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with receiver(tls=context) as place:
        channel = opens(place.url, ca_file=str(tmp_path / "ca.pem"))
        result = await channel.send(letter())
        await channel.close()
    assert bool(place.requests) is trusted
    if isinstance(result, Failed):
        assert result.retry
        assert result.error.startswith("its certificate is not trusted: ")
    assert isinstance(result, Delivered) is trusted


async def test_headers_may_hold_the_password(opens: Opens) -> None:
    async with receiver() as place:
        channel = opens(place.url)
        await channel.send(letter())
        await channel.close()
    assert place.requests[0].headers["authorization"] == "Bearer TOKEN-SECRET"


async def test_no_secret_shows_in_logs_errors_or_repr(opens: Opens, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    replies = [CUT, answer(500), answer(404, body=f"/hook/{PATH} was not found".encode()), b"no http\r\n\r\n"]
    async with receiver(*[HANG] * 50) as hanging, receiver(*replies) as place:
        hasty, channel = opens(hanging.url, timeout=0.2), opens(place.url, timeout=10.0)
        results = [
            *await hanging.reached(lambda: hasty.send(letter())),
            *[await channel.send(letter()) for _ in replies],
        ]
        settings = [each._settings for each in (hasty, channel)]  # type: ignore[attr-defined]
        shown = "\n".join([*map(repr, [*results, hasty, channel, *settings]), caplog.text])
        await hasty.close()
        await channel.close()
    assert len(place.requests) == len(replies)
    for secret in (PATH, "SIGNING-SECRET", "TOKEN-SECRET", "HEADER-SECRET"):
        assert secret not in shown


async def test_a_renewed_ca_file_counts_at_the_next_attempt(opens: Opens, tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    other.cert_pem.write_to_path(ca_file)
    async with receiver(answer(200), tls=context) as place:
        channel = opens(place.url, ca_file=str(ca_file))
        before = await channel.send(letter())
        authority.cert_pem.write_to_path(ca_file)
        after = await channel.send(letter())
        await channel.close()
    assert isinstance(before, Failed)
    assert "its certificate is not trusted" in before.error
    assert after == Delivered()


async def test_a_ca_file_that_is_gone_or_empty_is_told(opens: Opens, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name, told in (
        ("gone.pem", "the ca_file cannot be read: No such file or directory"),
        ("empty.pem", "the ca_file holds no certificate"),
    ):
        channel = opens("https://127.0.0.1:1/", ca_file=str(tmp_path / name))
        result = await channel.send(letter())
        await channel.close()
        assert isinstance(result, Failed)
        assert told in result.error
