"""Recorded incidents, each decided as it should be; `tests/corpus` says how to add one."""

from __future__ import annotations

import pytest

from tests import corpus
from watchdog.recording import dump, load


@pytest.mark.parametrize("name", corpus.NAMES)
def test_a_recorded_incident_is_decided_as_it_should_be(name: str) -> None:
    assert corpus.decisions(corpus.recording(name)) == corpus.expected(name)


@pytest.mark.parametrize("name", corpus.NAMES)
def test_a_recorded_incident_is_written_as_it_was_read(name: str) -> None:
    recorded = corpus.recording(name)
    assert load(dump(recorded)) == recorded


def test_every_expectation_has_its_incident() -> None:
    assert sorted(file.stem for file in (corpus.DIRECTORY / "expected").iterdir()) == corpus.NAMES != []
