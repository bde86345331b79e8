"""What PagerDuty is sent: one alert an incident, which is triggered, added to, acknowledged and resolved."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.letters import letter
from tests.alerts.receiver import Receiver, answer, receiver
from watchdog.alerts import pagerduty
from watchdog.alerts.delivery import Delivered, Failed
from watchdog.alerts.message import Message
from watchdog.model import RecordKind, Severity
from watchdog.settings import Secret

HOST = socket.gethostname()


@contextlib.asynccontextmanager
async def channel(place: Receiver, directory: Path, **settings: Any) -> AsyncIterator[pagerduty.PagerDuty]:
    """The channel to this receiver."""
    (directory / "key").write_text("ROUTING-KEY\n")
    values: dict[str, Any] = {"routing_key": Secret(file=str(directory / "key")), "url": place.url}
    opened = pagerduty.PagerDuty(pagerduty.Settings(**values | settings))
    try:
        yield opened
    finally:
        await opened.close()


async def test_an_event_triggers_an_alert_that_says_all_that_is_known(tmp_path: Path) -> None:
    async with receiver(answer(202, body=b'{"status":"success"}')) as place, channel(place, tmp_path) as pager:
        assert await pager.send(letter(kind="escalated", severity="critical")) == Delivered()
        [request] = await place.received(1)
    event = request.json
    details = event["payload"].pop("custom_details")
    assert event == {
        "routing_key": "ROUTING-KEY",
        "event_action": "trigger",
        "dedup_key": "01JINCIDENT",
        "client": "epoll-watchdog",
        "links": [{"href": "https://runbooks.example.org/ravendb", "text": "runbook"}],
        "payload": {
            "summary": f"[CRITICAL] ravendb on {HOST}: the event loop sleeps",
            "source": HOST,
            "severity": "critical",
            "timestamp": "2023-11-14T22:13:20.250+00:00",
            "component": "ravendb",
            "class": "epoll_stall",
        },
    }
    assert details["reasons"] == ["sockets dark, a witness alive"]
    assert details["done"][0]["outcome"] == "refused"
    assert details["labels"] == {"team": "storage"}
    assert "epoll-watchdog diagnose ravendb" in details["text"]


@pytest.mark.parametrize(
    ("kind", "action"),
    [("opened", "trigger"), ("reminder", "trigger"), ("acknowledged", "acknowledge"), ("resolved", "resolve")],
)
async def test_all_events_of_an_incident_are_of_one_alert(tmp_path: Path, kind: str, action: str) -> None:
    async with receiver(answer(202)) as place, channel(place, tmp_path) as pager:
        await pager.send(letter(kind=kind))
        [request] = await place.received(1)
    assert (request.json["event_action"], request.json["dedup_key"]) == (action, "01JINCIDENT")


@pytest.mark.parametrize("severity", Severity)
def test_severities_are_those_of_pagerduty(severity: Severity) -> None:
    event = pagerduty.body(letter(severity=severity), Message("title", "text"), "host")
    assert event["payload"]["severity"] == severity
    assert severity in {"info", "warning", "error", "critical"}


def test_a_summary_is_cut_to_what_pagerduty_takes() -> None:
    event = pagerduty.body(letter(), Message("x" * 5000, "text"), "host")
    assert len(event["payload"]["summary"]) == 1024


async def test_the_summary_may_have_words_of_the_users(tmp_path: Path) -> None:
    async with receiver(answer(202)) as place, channel(place, tmp_path, title="{{ service }}!") as pager:
        await pager.send(letter())
        [request] = await place.received(1)
    assert request.json["payload"]["summary"] == "ravendb!"


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (answer(202), Delivered()),
        (answer(400, body=b'{"status":"invalid event"}'), Failed(retry=False, error="answered 400")),
        (answer(429, "Retry-After: 30"), Failed(retry=True, error="answered 429", after=30.0)),
        (answer(500), Failed(retry=True, error="answered 500")),
    ],
)
async def test_what_it_makes_of_pagerdutys_answers(tmp_path: Path, reply: bytes, result: Delivered | Failed) -> None:
    async with receiver(reply) as place, channel(place, tmp_path) as pager:
        assert await pager.send(letter()) == result


async def test_a_pause_of_a_service_that_is_well_is_no_alert(tmp_path: Path) -> None:
    async with receiver() as place, channel(place, tmp_path) as pager:
        assert await pager.send(letter(kind="paused", incident="")) == Delivered()
    assert not place.requests


def test_only_what_needs_a_human_wakes_one_by_default() -> None:
    settings = pagerduty.Settings(routing_key=Secret(env="KEY"))
    wanted = {severity for severity in Severity if settings.wants("web", RecordKind.ESCALATED, severity)}
    assert wanted == {Severity.CRITICAL}


@pytest.mark.parametrize("least", Severity)
def test_acknowledged_and_resolved_is_only_what_was_triggered(least: Severity) -> None:
    settings = pagerduty.Settings(routing_key=Secret(env="KEY"), min_severity=least)
    for kind in (RecordKind.ACKNOWLEDGED, RecordKind.RESOLVED):
        assert not settings.wants("web", kind, Severity.CRITICAL)  # else it would go to who was told of nothing
        assert settings.wants_end("web", kind)
    assert not settings.wants_end("web", RecordKind.NUDGED)


def test_of_services_that_are_not_its_own_nothing_is_wanted() -> None:
    settings = pagerduty.Settings(routing_key=Secret(env="KEY"), services=("web",))
    assert not settings.wants_end("redis", RecordKind.ACKNOWLEDGED)
    assert not settings.wants_end("redis", RecordKind.RESOLVED)
