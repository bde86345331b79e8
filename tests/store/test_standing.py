"""What a channel was last told of a service, handed out while it stands; and how bad an incident was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.store.make import OPENED, RESOLVED, STATE, Time, leaving, letter, sick
from watchdog.model import RecordKind, Severity, State
from watchdog.store import Stood, Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store whose clock stands."""
    opened = Store(tmp_path, Time().clock, deadline=30)
    yield opened
    await opened.close()


def stood(incident: str = "i", kind: str = "opened", critical: float | None = None) -> Stood:
    """What ops was told of web."""
    told = letter(incident=incident, kind=kind, key="k", payload={"labels": {"team": "web"}})
    return Stood(letter=told, began=1.5, first=2.5, critical=critical)


async def test_it_is_read_as_it_was_written_by_another_daemon_too(store: Store, tmp_path: Path) -> None:
    await store.stands(stood(critical=3.5))
    another = Store(tmp_path, Time().clock, deadline=30)
    assert await another.standing("ops") == [stood(critical=3.5)]
    assert await another.standing("pager") == []
    await another.close()


async def test_a_later_word_of_the_service_takes_the_place_of_an_earlier_one(store: Store) -> None:
    await store.stands(stood())
    await store.stands(stood("later"))
    assert await store.standing("ops") == [stood("later")]


async def test_what_has_ended_is_gone_but_not_what_came_in_its_place(store: Store) -> None:
    await store.stands(stood("later"))
    await store.ended(stood())
    assert await store.standing("ops") == [stood("later")]
    await store.ended(stood("later"))
    assert await store.standing("ops") == []


async def test_an_open_incident_stands(store: Store) -> None:
    await store.commit("web", sick("i"), (), None)
    await store.stands(stood())
    assert await store.standing("ops") == [stood()]


async def test_an_ended_incident_stands_if_its_end_waits_for_the_channel_or_reached_it(store: Store) -> None:
    await store.commit("web", sick("i"), (), None)
    await store.stands(stood())
    await store.commit("web", State(), (), None, [letter(kind="resolved")])
    assert await store.standing("ops") == [stood()]
    await leaving(store)  # the end was delivered, and nobody noted what stands
    assert await store.standing("ops") == []
    await store.stands(stood(kind="resolved"))
    assert await store.standing("ops") == [stood(kind="resolved")]


async def test_a_letter_says_how_bad_its_incident_was_so_far(store: Store) -> None:
    escalated = replace(OPENED, kind=RecordKind.ESCALATED, severity=Severity.CRITICAL)
    await store.commit("web", STATE, (OPENED,), None, [letter()])
    await store.commit("web", STATE, (escalated,), None, [letter()])
    await store.commit("web", State(), (RESOLVED,), None, [letter(), letter(incident="")])
    worst = [each.payload["worst"] for each in await leaving(store) if each.incident]
    assert worst == ["warning", "critical", "critical"]


async def test_labels_that_are_edited_while_an_incident_lasts_do_not_change_it(store: Store) -> None:
    first, edited = ({"labels": {"team": team}} for team in ("web", "other"))
    await store.commit("web", STATE, (OPENED,), None, [letter(payload=first)])
    await leaving(store)  # what was delivered is known all the same
    await store.commit("web", STATE, (), None, [letter(payload=edited), letter(channel="pager", payload=edited)])
    await store.commit("web", STATE, (), None, [letter(incident="", payload=edited)])
    told = [*await leaving(store), *await leaving(store, "pager")]
    await store.commit("web", sick("later"), (), None, [letter(incident="later", payload=edited)])
    told += await leaving(store)
    labels = [(each.incident, each.payload["labels"]["team"]) for each in told]
    assert labels == [("i", "web"), ("", "other"), ("i", "web"), ("later", "other")]
