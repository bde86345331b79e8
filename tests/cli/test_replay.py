"""`epoll-watchdog replay`: what it reads, says and ends with."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests import corpus
from tests.store.make import Time, happened
from watchdog import replay as rules
from watchdog.cli import main
from watchdog.model import Looked
from watchdog.recording import Recording, dump, load
from watchdog.store import Store

FOUND = corpus.recording("demo-healed-by-a-nudge")
# as a daemon of today would have recorded it, so that no change of the rules breaks these tests
HEALED = replace(FOUND, entries=[replace(entry.recorded, decided=entry.now) for entry in rules.replay(FOUND)])


def replay(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(main, ["replay", *map(str, arguments)])


def written(directory: Path, recording: Recording, name: str = "incident.json") -> Path:
    file = directory / name
    file.write_text(dump(recording))
    return file


def told_otherwise(recording: Recording) -> Recording:
    """As a daemon would have recorded it that nudged nobody."""
    first, *others = recording.entries
    assert first.decided is not None
    return replace(recording, entries=[replace(first, decided=replace(first.decided, action=None)), *others])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Of a daemon that recorded two incidents."""

    async def live() -> None:
        store = Store(tmp_path, Time().clock, deadline=30)
        await happened(store, "aaa", 3, at=1000.0)
        await happened(store, "abb", 2, at=2000.0, service="redis")
        await store.close()

    asyncio.run(live())
    return tmp_path / "state.db"


# --- what it says -----------------------------------------------------------------------------------------------------


def test_an_incident_that_would_be_decided_as_it_was_is_shown_and_ends_with_0(tmp_path: Path) -> None:
    done = replay(written(tmp_path, HEALED))
    assert done.exit_code == 0
    heading, columns, first, *_ = done.output.splitlines()
    assert heading.startswith("demo e27025f5, 20")
    assert heading.endswith(", epoll_stall: 3 decisions, as they were")
    assert columns.split() == ["AT", "WHAT", "THEN", "NOW"]
    assert first.split()[:3] == ["+0.00s", "looked", "epoll_stall"]
    assert first.split()[-2:] == ["the", "same"]


def test_a_decision_that_differs_is_marked_and_explained_and_ends_with_1(tmp_path: Path) -> None:
    done = replay(written(tmp_path, told_otherwise(HEALED)))
    assert done.exit_code == 1
    assert "1 of 3 decisions differ" in done.output
    assert [line.split()[1] for line in done.output.splitlines() if line.startswith("≠")] == ["+0.00s"]
    text = " ".join(done.output.split())
    assert "nudge asked for" in text
    assert "+0.00s then: thread" in text
    assert "+0.00s now: thread" in text


def test_what_the_comparison_does_not_rest_on_is_told(tmp_path: Path) -> None:
    bare = replace(HEALED, policy=None, entries=[replace(kept, decided=None, case=None) for kept in HEALED.entries])
    done = replay(written(tmp_path, bare))
    text = " ".join(done.output.split())
    assert done.exit_code == 0
    assert "3 decisions, recorded without what they were" in text
    assert "the evidence of 2 of 2 rounds was not kept: their diagnosis is that of then" in text
    assert "its policy was not recorded: it was replayed with the defaults" in text


def test_of_several_incidents_only_those_that_differ_are_shown_in_full(tmp_path: Path) -> None:
    done = replay(written(tmp_path, HEALED), written(tmp_path, told_otherwise(HEALED), "other.json"))
    assert done.exit_code == 1
    assert done.output.count("WHAT") == 1
    assert done.output.splitlines()[-1] == "2 incidents, 1 would be decided differently"


def test_no_line_is_wider_than_the_terminal_and_there_is_no_colour_without_one(tmp_path: Path) -> None:
    output = replay(written(tmp_path, told_otherwise(HEALED))).output
    assert max(map(len, output.splitlines())) <= 80
    assert "\x1b" not in output


def test_nothing_in_a_file_moves_the_terminal(tmp_path: Path) -> None:
    first, *others = told_otherwise(HEALED).entries
    event = first.entry.event
    assert isinstance(event, Looked)
    reasons = ("\x1b[2J\x9b2J gone",)
    event = replace(event, diagnosis=replace(event.diagnosis, reasons=reasons))
    first = replace(first, entry=replace(first.entry, event=event))
    odd = replace(HEALED, service="\x1b[2Jweb", entries=[first, *others])
    output = replay(written(tmp_path, odd)).output
    assert "gone" in output
    assert {"\x1b", "\x9b"}.isdisjoint(output)


def test_json_tells_the_same(tmp_path: Path) -> None:
    done = replay("--json", written(tmp_path, told_otherwise(HEALED)))
    told = json.loads(done.output)
    [incident] = told["incidents"]
    first = incident["entries"][0]
    assert (done.exit_code, told["differs"], incident["service"], incident["policy_known"]) == (1, True, "demo", True)
    assert [entry["differs"] for entry in incident["entries"]] == [True, False, False]
    assert (first["then"]["action"], first["now"]["action"]) == (None, "nudge")
    assert (first["event"], first["rediagnosed"]) == ("looked", True)
    assert first["reasons_then"][0].startswith("thread")


# --- databases --------------------------------------------------------------------------------------------------------


def test_a_database_is_replayed_with_all_its_incidents(database: Path) -> None:
    told = json.loads(replay("--json", database).output)
    assert [(one["service"], one["incident"], len(one["entries"])) for one in told["incidents"]] == [
        ("web", "aaa", 3),
        ("redis", "abb", 2),
    ]


def test_one_incident_is_chosen_by_the_first_letters_of_its_id(database: Path) -> None:
    told = json.loads(replay("--json", database, "--incident", "ab").output)
    assert [one["incident"] for one in told["incidents"]] == ["abb"]


@pytest.mark.parametrize(("letters", "why"), [("a", "a may be aaa, abb"), ("zzz", "no incident zzz")])
def test_an_id_that_is_not_one_incidents_is_told(database: Path, letters: str, why: str) -> None:
    done = replay(database, "--incident", letters)
    assert (done.exit_code, done.stderr) == (2, f"epoll-watchdog: {database}: {why}\n")


def test_incidents_are_extracted_as_files_that_replay_alike(database: Path, tmp_path: Path) -> None:
    done = replay(database, "--extract", tmp_path / "new" / "incidents")
    files = [Path(line) for line in done.output.splitlines()]
    assert (done.exit_code, [file.name for file in files]) == (0, ["web-aaa.json", "redis-abb.json"])
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]
    of_files, of_database = (json.loads(replay("--json", *given).output) for given in (files, [database]))
    assert [one["entries"] for one in of_files["incidents"]] == [one["entries"] for one in of_database["incidents"]]


def test_an_incident_that_was_extracted_before_is_written_anew(database: Path, tmp_path: Path) -> None:
    (tmp_path / "web-aaa.json").write_text("x" * 100_000)
    replay(database, "--extract", tmp_path)
    assert load((tmp_path / "web-aaa.json").read_text()).incident.id == "aaa"


def test_a_file_is_written_through_no_link(database: Path, tmp_path: Path) -> None:
    (tmp_path / "web-aaa.json").symlink_to(tmp_path / "victim")
    done = replay(database, "--extract", tmp_path)
    assert done.exit_code == 2
    assert not (tmp_path / "victim").exists()


def test_an_incident_whose_decisions_are_no_longer_kept_is_told(database: Path, tmp_path: Path) -> None:
    with sqlite3.connect(database) as db:
        db.execute("DELETE FROM entry WHERE incident = 'aaa'")
    done = replay(database)
    assert done.output.splitlines()[0].endswith(": its decisions are no longer kept")
    extracted = replay(database, "--extract", tmp_path / "incidents")
    assert extracted.stderr == "nothing is kept of web-aaa but its timeline\n"
    assert [file.name for file in (tmp_path / "incidents").iterdir()] == ["redis-abb.json"]


def test_a_database_without_incidents_is_no_error(tmp_path: Path) -> None:
    async def live() -> None:
        store = Store(tmp_path, Time().clock, deadline=30)
        await store.load("web")
        await store.close()

    asyncio.run(live())
    done = replay(tmp_path / "state.db")
    assert (done.exit_code, done.output) == (0, "0 incidents, 0 would be decided differently\n")


# --- wrong usage ------------------------------------------------------------------------------------------------------


def test_no_file_is_wrong_usage() -> None:
    assert replay().exit_code == 2


def test_what_can_not_be_read_is_told_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "package.json"
    file.write_text('{"name": "left-pad"}')
    (tmp_path / "odd.db").write_bytes(b"SQLite format 3\0, it says")
    faults = {given.name: replay(given).stderr for given in (file, tmp_path / "missing", tmp_path, tmp_path / "odd.db")}
    assert faults == {
        "package.json": f"epoll-watchdog: {file}: no recorded incident: Object missing required field `version`\n",
        "missing": f"epoll-watchdog: {tmp_path}/missing: No such file or directory\n",
        tmp_path.name: f"epoll-watchdog: {tmp_path}: Is a directory\n",
        "odd.db": f"epoll-watchdog: {tmp_path}/odd.db: file is not a database\n",
    }
    assert replay(file).exit_code == 2


def test_an_incident_can_not_be_chosen_from_a_file_that_is_one(tmp_path: Path) -> None:
    done = replay(written(tmp_path, HEALED), "--incident", "e2")
    assert done.exit_code == 2
    assert "--incident chooses from a database" in done.stderr


def test_a_directory_that_can_not_be_made_is_told(database: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = replay(database, "--extract", tmp_path / "file" / "below")
    assert done.exit_code == 2
    assert done.stderr.endswith("Not a directory\n")
