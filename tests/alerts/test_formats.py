"""A webhook in Alertmanager's words, held against what a real Alertmanager sends; and its signatures while a secret is
being replaced.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.am import alertmanager
from tests.alerts.letters import letter
from tests.alerts.receiver import Receiver, answer, receiver
from watchdog.alerts import webhook
from watchdog.alerts.alertmanager import Alertmanager, Settings
from watchdog.alerts.delivery import Delivered
from watchdog.settings import Secret

HOST = socket.gethostname()


@contextlib.asynccontextmanager
async def channel(place: Receiver, **settings: Any) -> AsyncIterator[webhook.Webhook]:
    """A webhook in Alertmanager's format."""
    opened = webhook.Webhook(webhook.Settings(**{"url": place.url, "format": webhook.Format.ALERTMANAGER} | settings))
    try:
        yield opened
    finally:
        await opened.close()


async def sent(**changed: Any) -> Any:
    """The body of this letter."""
    async with receiver() as place, channel(place) as hook:
        assert await hook.send(letter(**changed)) == Delivered()
        [request] = await place.received(1)
    return request.json


def shape(value: Any) -> Any:
    """The keys and types of a value, whatever is in it."""
    match value:
        case dict():
            return {key: shape(inner) for key, inner in value.items()}
        case list():
            return [shape(inner) for inner in value]
        case _:
            return type(value).__name__


async def test_it_has_the_shape_and_the_words_of_a_real_alertmanagers(tmp_path: Path) -> None:
    now = time.time()
    opening = letter(created=now, payload=letter().payload | {"since": now - 2})
    async with receiver() as theirs, alertmanager(tmp_path, theirs.url) as real:
        direct = Alertmanager(Settings(urls=(real.url,)))
        await direct.send(opening)
        await direct.close()
        [request] = await theirs.received(1)
    async with receiver() as place, channel(place) as hook:
        await hook.send(opening)
        [ours] = await place.received(1)
    assert shape(ours.json | {"groupLabels": {}}) == shape(request.json | {"groupLabels": {}})
    for key in ("version", "status", "truncatedAlerts", "commonLabels", "commonAnnotations"):
        assert ours.json[key] == request.json[key]
    [mine], [real_one] = ours.json["alerts"], request.json["alerts"]
    for key in ("status", "labels", "annotations", "endsAt", "fingerprint"):
        assert mine[key] == real_one[key]


async def test_the_end_of_an_incident_resolves_its_alerts() -> None:
    body = await sent(kind="resolved", severity="info", payload=letter().payload | {"worst": "critical"})
    names = [(each["labels"]["alertname"], each["labels"]["severity"], each["status"]) for each in body["alerts"]]
    assert body["status"] == "resolved"
    assert names == [
        ("EpollWatchdogIncident", "warning", "resolved"),
        ("EpollWatchdogUnhealed", "critical", "resolved"),
    ]
    assert {each["endsAt"] for each in body["alerts"]} == {"2023-11-14T22:13:20.250+00:00"}
    assert body["commonLabels"] == {"name": "ravendb", "instance": HOST, "team": "storage"}


async def test_every_message_of_an_incident_is_of_one_group() -> None:
    kinds: list[Mapping[str, Any]] = [{"kind": "opened"}, {"kind": "escalated", "severity": "critical"}]
    keys = {(await sent(**kind))["groupKey"] for kind in kinds}
    assert keys == {f'{{}}:{{instance="{HOST}", name="ravendb"}}'}


async def test_a_pause_of_a_service_that_is_well_is_no_alert() -> None:
    async with receiver() as place, channel(place) as hook:
        assert await hook.send(letter(kind="paused", incident="")) == Delivered()
    assert not place.requests


def test_a_list_without_a_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="an empty list signs nothing"):
        webhook.Settings(url="http://example.org", secret=())


@pytest.mark.parametrize("words", webhook.Format)
async def test_while_a_secret_is_replaced_each_signs(tmp_path: Path, words: webhook.Format) -> None:
    secrets = []
    for name in ("new", "old"):
        (tmp_path / name).write_text(f"a {name} secret")
        secrets.append(Secret(file=str(tmp_path / name)))
    async with receiver(answer(500)) as place, channel(place, secret=tuple(secrets), format=words) as hook:
        await hook.send(letter())
        await hook.send(letter())
        first, again = await place.received(2)
    stamp, message = int(first.headers["webhook-timestamp"]), first.headers["webhook-id"]
    alone = [
        webhook.signature([f"a {name} secret"], message, stamp, first.body)["webhook-signature"]
        for name in ("new", "old")
    ]
    assert first.headers["webhook-signature"].split(" ") == alone
    assert again.headers["webhook-id"] == message
