"""The channel slack against a real receiver."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.letters import letter
from tests.alerts.receiver import CUT, HANG, Receiver, answer, receiver
from watchdog.alerts import CHANNELS, slack
from watchdog.alerts.delivery import Delivered, Failed
from watchdog.model import RecordKind, Severity
from watchdog.settings import Secret

PATH = "path-that-nobody-may-see"


@contextlib.asynccontextmanager
async def channel(place: Receiver, **settings: Any) -> AsyncIterator[slack.Slack]:
    values: dict[str, Any] = {"url": place.url, "timeout": 5.0} | settings
    opened = slack.Slack(slack.Settings(**values))
    try:
        yield opened
    finally:
        await opened.close()


async def sent(changed: dict[str, Any], **settings: Any) -> Any:
    """The JSON that arrives."""
    async with receiver() as place, channel(place, **settings) as chat:
        assert await chat.send(letter(**changed)) == Delivered()
        [request] = await place.received(1)
    assert request.headers["content-type"] == "application/json"
    return request.json


async def test_the_title_is_the_message_and_the_text_hangs_on_it() -> None:
    told = await sent({})

    [attached] = told["attachments"]
    assert told["text"].startswith("[WARNING] ravendb on ")
    assert attached["text"].startswith("```\nthe event loop sleeps\n")
    assert attached["text"].endswith("\n```")
    assert attached["fallback"] == told["text"]


@pytest.mark.parametrize(
    ("changed", "colour"),
    [
        ({"severity": "info"}, "#439fe0"),
        ({"severity": "warning"}, "#daa038"),
        ({"severity": "critical"}, "#a30200"),
        ({"severity": "info", "kind": "resolved"}, "#2eb886"),
    ],
)
async def test_the_colour_tells_the_severity(changed: dict[str, Any], colour: str) -> None:
    told = await sent(changed)

    assert told["attachments"][0]["color"] == colour


@pytest.mark.parametrize(
    ("changed", "mentioned"),
    [
        ({"severity": "warning"}, True),
        ({"severity": "critical"}, True),
        ({"severity": "info"}, False),
        ({"severity": "info", "kind": "resolved"}, False),
    ],
)
async def test_only_what_someone_should_look_at_mentions_them(changed: dict[str, Any], mentioned: bool) -> None:
    told = await sent(changed, mentions=("<!here>", "@oncall"))

    assert told["text"].startswith("<!here> @oncall [") is mentioned


@pytest.mark.parametrize("body", [None, "{{ event }}"])
async def test_what_a_service_says_is_no_markup(body: str | None) -> None:
    event = "<!channel> & @channel, @Here, @jane.doe; ``` <https://example.org|log in>"

    told = await sent({"payload": {"text": event}}, body=body)

    for text in (told["text"], told["attachments"][0]["text"]):
        assert "&lt;!channel&gt; &amp; @\u2060channel, @\u2060Here, @\u2060jane.doe" in text
        assert "<" not in text
    if body is None:
        assert told["attachments"][0]["text"].count("```") == 2


async def test_templates_make_title_and_text() -> None:
    told = await sent({}, title="{{ service }}!", body="*{{ verdict }}*")

    assert (told["text"], told["attachments"][0]["text"]) == ("ravendb!", "*epoll_stall*")


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (answer(404, body=b"no_service"), Failed(retry=False, error="answered 404")),
        (answer(429, "Retry-After: 30"), Failed(retry=True, error="answered 429", after=30.0)),
        (answer(500), Failed(retry=True, error="answered 500")),
        (CUT, Failed(retry=True, error="it closed the connection without an answer")),
    ],
)
async def test_the_answer_tells_whether_another_attempt_makes_sense(reply: bytes, result: Failed) -> None:
    async with receiver(reply) as place, channel(place) as chat:
        assert await chat.send(letter()) == result


async def test_no_secret_shows_in_logs_errors_or_repr(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    replies = [CUT, answer(500), answer(404, body=PATH.encode()), b"no http\r\n\r\n"]
    async with receiver(*[HANG] * 100) as hanging, receiver(*replies * 2) as place:
        for name, each in (("hanging", hanging), ("place", place)):
            (tmp_path / name).write_text(each.url)
        for there, here in (
            (hanging.url, place.url),
            (Secret(file=str(tmp_path / "hanging")), Secret(file=str(tmp_path / "place"))),
        ):
            async with (
                channel(hanging, url=there, timeout=0.2) as hasty,
                channel(place, url=here, timeout=10.0) as chat,
            ):
                results = [
                    *await hanging.reached(functools.partial(hasty.send, letter())),
                    *[await chat.send(letter()) for _ in replies],
                ]
                assert all(isinstance(result, Failed) for result in results)
                shown = "\n".join([*map(repr, [*results, hasty, hasty._settings, chat, chat._settings]), caplog.text])
                assert PATH not in shown
    assert len(place.requests) == 2 * len(replies)


def test_a_url_that_is_none_is_refused_without_its_value() -> None:
    with pytest.raises(ValueError, match=r"^url: must be like") as refused:
        slack.Settings(url=f"gopher://example.org/{PATH}")
    assert PATH not in str(refused.value)


def test_slack_hears_of_warnings_and_of_ends() -> None:
    settings = CHANNELS["slack"].settings(url="https://hooks.example.org/")

    assert not settings.wants("web", RecordKind.NUDGED, Severity.INFO)
    assert settings.wants("web", RecordKind.OPENED, Severity.WARNING)
    assert settings.wants_end("web", RecordKind.RESOLVED)
