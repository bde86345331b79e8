"""The evidence of one incident, as the API hands it out: what `replay` reads, of a running daemon's database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.make import happened
from watchdog import views
from watchdog.recording import load
from watchdog.store import Store
from watchdog.store.archive import Archive, Unreadable
from watchdog.views import evidence


async def test_it_is_a_recording_of_that_incident_and_of_no_other(store: Store, tmp_path: Path) -> None:
    await happened(store, "one", 2, at=1000.0)
    await happened(store, "one-more", 3, at=1100.0)
    found = evidence(tmp_path / "state.db", "one")
    assert found is not None
    assert load(found.decode()).entries == await store.recorded("one")
    assert evidence(tmp_path / "state.db", "on") is None
    assert evidence(tmp_path / "state.db", "") is None


async def test_more_than_memory_should_hold_is_left_to_the_command(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await happened(store, "one", 2, at=1000.0)
    with Archive(tmp_path / "state.db") as archive:
        weight = archive.weight(archive.incidents()[0])
    monkeypatch.setattr(views, "HEAVIEST", weight)
    assert evidence(tmp_path / "state.db", "one") is not None
    monkeypatch.setattr(views, "HEAVIEST", weight - 1)
    with pytest.raises(Unreadable, match="run: epoll-watchdog replay"):
        evidence(tmp_path / "state.db", "one")


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        evidence(tmp_path / "state.db", "one")
