from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.asking import HEALED, STANDING, Daemon, run, told, words
from watchdog.model import Verdict
from watchdog.recording import dump, load
from watchdog.restraint import HOLDS, LAST_PASSES, PASSES
from watchdog.web.server import serve

CORPUS = Path(__file__).parents[1] / "corpus"


@pytest.fixture
async def private(tmp_path: Path) -> AsyncIterator[Daemon]:
    """It listens at a private Unix socket, over which evidence goes out."""
    daemon = Daemon(address=f"unix:{tmp_path}/web.sock")
    server = await serve(daemon, daemon.address)
    yield daemon
    await server.close()


async def explain(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = daemon.address if daemon.address.startswith("unix:") else f"http://{daemon.address}"
    return await run("explain", "--url", url, *arguments)


def keeps(daemon: Daemon, evidence: str | bytes) -> None:
    """The daemon has this recording, and its incident."""
    recording = load(evidence)
    id_ = recording.incident.id
    daemon.stored = [replace(HEALED, id=id_)]
    daemon.kept = {id_: evidence.encode() if isinstance(evidence, str) else evidence}


# --- from the API alone -----------------------------------------------------------------------------------------------


async def test_the_verdict_is_told_with_what_spoke_for_and_against(daemon: Daemon) -> None:
    daemon.stored = [HEALED]
    done = await explain(daemon, "01234")
    shown = words(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "Why epoll_stall (confirmed): a wake-up was lost: its loop sleeps in epoll_wait - thread 7 (loop)" in shown
    assert "Why nothing else - loop_busy: no thread of a loop burns CPU" in shown
    assert "- +0.00s hung (suspected): every socket and every witness is dark - +1.00s epoll_stall (confirmed)" in shown
    assert "How it ended - healed by restart after 1m14s" in shown


async def test_each_rung_is_told_with_its_rule(daemon: Daemon) -> None:
    daemon.stored = [HEALED]
    shown = words((await explain(daemon, "01234")).stdout)
    assert "+0.50s nudge waited the last remedy is given time Rule: The last remedy is given settle to show" in shown
    assert "+1.20s nudge refused not permitted" in shown
    assert "+1.20s nudge passed over its budget is spent: 1 in 1h Rule: The rung's budget is spent." in shown
    assert "+3.00s restart done it runs again" in shown


async def test_an_open_one_has_no_end_and_its_alert_is_told(daemon: Daemon) -> None:
    daemon.stored = [STANDING]
    shown = words((await explain(daemon, "0123")).stdout)
    assert "+0.00s alert told loop_busy since 1s; no remedy fits or was allowed" in shown
    assert "How it ended" not in shown
    assert "What it was taken for" not in shown


async def test_a_remedy_without_its_outcome_is_under_way(daemon: Daemon) -> None:
    daemon.stored = [replace(STANDING, timeline=[told(100.0, "acting", "restart begins")])]
    answer = json.loads((await explain(daemon, "0", "--json")).stdout)
    assert [(tried["rung"], tried["came"]) for tried in answer["rungs"]] == [("restart", "under way")]


async def test_where_nothing_was_due_that_is_said(daemon: Daemon) -> None:
    daemon.stored = [replace(STANDING, timeline=[])]
    shown = words((await explain(daemon, "0")).stdout)
    assert "- nothing: no rung was due" in shown
    assert "- no reason was recorded" in shown


@pytest.mark.parametrize("rule", [*PASSES, *LAST_PASSES, *HOLDS], ids=lambda rule: str(rule.__name__))
async def test_every_hold_and_pass_has_its_rule_in_plain_words(daemon: Daemon, rule: object) -> None:
    reason = getattr(rule, "__name__", "")
    daemon.stored = [replace(STANDING, timeline=[told(100.0, "held", "it waits: so", rung="nudge", reason=reason)])]
    [tried] = json.loads((await explain(daemon, "0", "--json")).stdout)["rungs"]
    assert tried["rule"].endswith(".")
    assert "`" not in tried["rule"]


async def test_without_the_evidence_it_says_why_and_how_to_get_it(daemon: Daemon) -> None:
    daemon.stored = [HEALED]
    done = await explain(daemon, "01234")
    shown = words(done.stdout)
    assert done.returncode == 0
    assert "evidence goes out only over a private Unix socket" in shown
    assert "--url unix:/run/epoll-watchdog/control/control.sock" in shown
    assert "--user NAME --password-file FILE" in shown
    assert "replay /var/lib/epoll-watchdog/state.db --incident 01234567" in shown


async def test_evidence_that_was_given_up_is_said_to_be(private: Daemon) -> None:
    recording = load((CORPUS / "redis-loop.json").read_bytes())
    keeps(private, dump(replace(recording, entries=[])))
    answer = json.loads((await explain(private, recording.incident.id, "--json")).stdout)
    assert (answer["evidence"], answer["evidence_missing"]) == (None, "it was given up for want of room")


async def test_evidence_of_a_newer_daemon_is_said_to_be(private: Daemon) -> None:
    private.stored, private.kept = [HEALED], {HEALED.id: b'{"version": 999}'}
    assert "written by a newer epoll-watchdog" in words((await explain(private, "0123")).stdout)


# --- from the evidence ------------------------------------------------------------------------------------------------


async def test_it_is_shown_which_thread_slept_where(private: Daemon) -> None:
    keeps(private, (CORPUS / "demo-healed-by-a-nudge.json").read_bytes())
    done = await explain(private, "e27025f5")
    shown = words(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "6745 loop slept epoll_wait on epoll 7 do_epoll_wait never" in shown
    assert "What proves it - thread 6745 (loop) waits on epoll 7, which watches nothing, instead of 8" in shown
    assert "Left of its ladder - nudge, restart, alert" in shown
    assert "3 decisions, all as they were" in shown
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


async def test_why_nothing_is_proven_is_shown(private: Daemon) -> None:
    keeps(private, (CORPUS / "loop-blocked-on-a-lock.json").read_bytes())
    shown = words((await explain(private, "20bae252")).stdout)
    assert "9621 loop-0 slept futex futex_do_wait never" in shown
    assert "Why no lost wake-up is proven - epoll 7 of process 9620: nobody waits on it" in shown


async def test_what_would_be_decided_otherwise_today_is_told(private: Daemon) -> None:
    recording = load((CORPUS / "redis-loop.json").read_bytes())
    first, *others = recording.entries
    assert first.decided is not None
    otherwise = replace(first, decided=replace(first.decided, verdict=Verdict.HUNG))
    keeps(private, dump(replace(recording, entries=[otherwise, *others])))
    shown = words((await explain(private, "d6ec3a30")).stdout)
    assert "+0.00s then: hung (confirmed); nudge asked for" in shown
    assert "now: epoll_stall (confirmed); nudge asked for" in shown


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*.json")), ids=lambda file: str(file.stem))
async def test_every_incident_of_the_corpus_is_explained_and_fits(private: Daemon, file: Path) -> None:
    keeps(private, file.read_bytes())
    done = await explain(private, load(file.read_bytes()).incident.id)
    assert (done.returncode, done.stderr) == (0, "")
    assert "What the threads did" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


async def test_the_json_has_it_all(private: Daemon) -> None:
    keeps(private, (CORPUS / "nginx-both-loops.json").read_bytes())
    answer = json.loads((await explain(private, "2634451c", "--json")).stdout)
    assert (answer["verdict"], answer["certainty"], answer["service"]) == ("epoll_stall", "confirmed", "nginx")
    assert [thread["tid"] for thread in answer["evidence"]["threads"] if thread["of_loop"]] == [9216, 9217]
    assert len(answer["evidence"]["proofs"]) == 2
    assert answer["evidence"]["differing"] == []


async def test_an_id_of_nothing_is_wrong_usage(daemon: Daemon) -> None:
    assert (await explain(daemon, "beef")).returncode == 2
