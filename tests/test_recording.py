from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings

from tests.core.anything import anything
from tests.core.make import case, seen
from watchdog.model import Case, Certainty, Kind, Policy, State, Verdict
from watchdog.reading import Reading, Sample, Thread
from watchdog.recording import (
    VERSION,
    WIDTH,
    Decision,
    Entry,
    NotRecorded,
    Recorded,
    Recording,
    Summary,
    decode_case,
    dump,
    encode,
    load,
)

AT = datetime(2022, 11, 14, 9, 30, tzinfo=UTC)
DARK = case(tcp=Kind.SILENT, snmp=Kind.ALIVE)
LOOKED = seen(Verdict.EPOLL_STALL)
DECIDED = Decision(Verdict.EPOLL_STALL, Certainty.SUSPECTED, None, ())
RECORDING = Recording(
    service="web",
    incident=Summary("i", AT, None, Verdict.EPOLL_STALL, Certainty.SUSPECTED),
    policy=DARK.policy,
    roads=DARK.roads,
    entries=[Recorded(AT, Entry(1000.0, State(), LOOKED), DECIDED, DARK)],
)
many = settings(
    max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)


@many
@given(anything(Case))
def test_any_case_is_read_as_it_was_written(case: Case) -> None:
    assert decode_case(encode(case)) == case


@many
@given(anything(Recording))
def test_any_recording_is_read_from_its_file_as_it_was_written(recording: Recording) -> None:
    assert load(dump(recording)) == recording


def test_a_process_of_unknown_age_is_null_in_json_and_of_unknown_age_when_read() -> None:
    ageless = replace(DARK, age=math.inf)
    assert json.loads(encode(ageless))["age"] is None
    assert decode_case(encode(ageless)).age == math.inf
    file = dump(replace(RECORDING, entries=[replace(RECORDING.entries[0], case=ageless)]))
    assert json.loads(file)["entries"][0]["case"]["age"] is None
    assert load(file).entries[0].case == ageless


def test_a_name_that_is_no_unicode_is_spelled_out() -> None:
    thread = Thread(1, 1, 0, "w\udcff", "S", "", None, False, "", 0, 0.0, 0.0)
    odd = replace(DARK, reading=Reading(samples=(Sample(began=0.0, ended=0.0, threads=(thread,)),)))
    read = decode_case(encode(odd)).reading
    assert read is not None
    assert read.samples[0].threads[0].name == "w\\udcff"
    assert load(dump(replace(RECORDING, service="w\udcff"))).service == "w\\udcff"


def test_a_case_in_a_file_says_only_what_differs_from_the_files_policy_and_roads() -> None:
    reloaded = replace(DARK, policy=Policy(fall=7))
    file = dump(replace(RECORDING, entries=[*RECORDING.entries, replace(RECORDING.entries[0], case=reloaded)]))
    first, second = (entry["case"] for entry in json.loads(file)["entries"])
    assert {"policy", "roads"}.isdisjoint(first)
    assert second["policy"]["fall"] == 7
    assert load(file).entries[1].case == reloaded


def test_a_file_tells_its_version_first_and_is_made_for_reading() -> None:
    lines = dump(RECORDING).splitlines()
    assert lines[:2] == ["{", f' "version": {VERSION},']
    assert max(map(len, lines)) <= WIDTH + len(' "transport": ,')
    assert ' "at": "2022-11-14T09:30:00Z",' in [line[2:] for line in lines]


def test_a_field_that_this_version_does_not_know_is_no_error() -> None:
    body = json.loads(dump(RECORDING))
    body["entries"][0]["case"]["weather"] = "fine"
    assert load(json.dumps(body)) == RECORDING


def test_a_file_of_a_newer_version_says_so() -> None:
    body = json.loads(dump(RECORDING))
    with pytest.raises(NotRecorded, match=r"written by a newer epoll-watchdog \(version 2, this one knows 1\)"):
        load(json.dumps({**body, "version": 2, "entries": "otherwise"}))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "no recorded incident: Input data was truncated"),
        (b"\xff\xfe", "no recorded incident: "),
        (b"[" * 100_000, "no recorded incident: "),
        (b"[1, 2]", "no recorded incident: Expected `object`, got `array`"),
        (b'{"name": "a package.json"}', "no recorded incident: Object missing required field `version`"),
        (b'{"version": 1, "service": "x"}', "no recorded incident: Object missing required field `incident`"),
    ],
)
def test_what_is_no_recorded_incident_is_told(text: bytes, why: str) -> None:
    with pytest.raises(NotRecorded) as refused:
        load(text)
    assert str(refused.value).startswith(why)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("event", {"slept": {}}, "entry 0: slept is no event"),
        ("event", {}, "entry 0: nothing is no event"),
        ("event", {"looked": {"round_id": "r"}}, "entry 0: Object missing required field `diagnosis`"),
        ("case", {"now": "soon"}, "entry 0: "),
    ],
)
def test_an_entry_that_nobody_understands_is_told_by_its_number(key: str, value: object, why: str) -> None:
    body = json.loads(dump(RECORDING))
    body["entries"][0][key] = value
    with pytest.raises(NotRecorded, match=why):
        load(json.dumps(body))
