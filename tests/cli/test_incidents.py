from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime

import click
import pytest

from tests.cli.asking import DARK, HEALED, HEALTHY, OPENED, STANDING, Daemon, run, words
from tests.servers import free_port
from watchdog.cli import main
from watchdog.cli.asked import incident_ids, service_names
from watchdog.cli.stored import MOST
from watchdog.web.view import IncidentView


@pytest.fixture
def remembering(daemon: Daemon) -> Daemon:
    """It guards two services, of which it keeps an incident each."""
    daemon.shown = [replace(DARK, incident=None), replace(HEALTHY, incident=STANDING.id)]
    daemon.stored = [HEALED, STANDING]
    return daemon


async def incidents(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await run("incidents", "--url", f"http://{daemon.address}", *arguments)


def many(count: int) -> list[IncidentView]:
    return [replace(HEALED, id=f"{number:016x}", opened=OPENED + number, timeline=()) for number in range(count)]


# --- the list ---------------------------------------------------------------------------------------------------------


async def test_the_list_is_newest_first_and_tells_what_was_done(remembering: Daemon) -> None:
    done = await incidents(remembering)
    [_, first, second] = (words(row) for row in re.split(r"^(?=0)", done.stdout, flags=re.MULTILINE))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"0123ffff redis loop_busy 2023-11-14 22:15 open \d+d\d+h alert \(confirmed\)", first)
    assert second == "01234567 nginx epoll_stall 2023-11-14 22:13 1m15s nudge (confirmed) refused, restart"


async def test_a_service_is_chosen(remembering: Daemon) -> None:
    done = await incidents(remembering, "--service", "nginx")
    assert "redis" not in done.stdout
    assert "nginx" in done.stdout


async def test_a_service_that_is_not_known_is_wrong_usage(remembering: Daemon) -> None:
    done = await incidents(remembering, "--service", "ngnix")
    assert done.returncode == 2
    assert "The daemon guards no service 'ngnix'" in done.stderr
    assert "did you mean 'nginx'?" in words(done.stderr)


async def test_a_service_without_incidents_says_so(daemon: Daemon) -> None:
    daemon.shown = [HEALTHY]
    done = await incidents(daemon, "--service", "redis")
    assert (done.returncode, done.stdout) == (0, "No incident of redis is kept.\n")


async def test_no_more_than_the_limit_are_told(remembering: Daemon) -> None:
    answer = json.loads((await incidents(remembering, "--limit", "1", "--json")).stdout)
    assert [incident["id"] for incident in answer["incidents"]] == [STANDING.id]


async def test_only_open_ones_are_told(remembering: Daemon) -> None:
    answer = json.loads((await incidents(remembering, "--open", "--json")).stdout)
    assert [incident["id"] for incident in answer["incidents"]] == [STANDING.id]


async def test_an_open_one_is_told_that_is_older_than_all_that_the_api_tells_at_once(remembering: Daemon) -> None:
    remembering.stored = [replace(STANDING, opened=OPENED - 1), *many(MOST)]
    answer = json.loads((await incidents(remembering, "--open", "--json")).stdout)
    assert [incident["id"] for incident in answer["incidents"]] == [STANDING.id]


async def test_that_none_is_open_is_said(daemon: Daemon) -> None:
    daemon.stored = [HEALED]
    assert (await incidents(daemon, "--open")).stdout == "No incident is open.\n"


async def test_ids_that_begin_alike_are_told_apart(daemon: Daemon) -> None:
    daemon.stored = many(2)
    lines = (await incidents(daemon)).stdout.splitlines()[1:]
    assert {line.split()[0] for line in lines if line.startswith("0")} == {f"{number:016x}" for number in range(2)}


async def test_what_the_mode_forbade_is_told_as_what_would_have_been_done(daemon: Daemon) -> None:
    observed = {"rung": "nudge", "reason": "observed"}
    passed = replace(HEALED.timeline[5], text='would nudge: mode is "observe"', detail=observed)
    daemon.stored = [replace(HEALED, timeline=[passed, passed])]
    assert "would nudge ×2" in words((await incidents(daemon)).stdout)


async def test_no_line_is_wider_than_the_terminal(remembering: Daemon) -> None:
    remembering.stored = [replace(HEALED, service="a-service-with-a-rather-long-name"), STANDING]
    shown = (await incidents(remembering)).stdout + (await incidents(remembering, "01234")).stdout
    assert max(len(line) for line in shown.splitlines()) <= 80


async def test_without_a_terminal_there_is_no_colour(remembering: Daemon) -> None:
    assert "\x1b" not in (await incidents(remembering)).stdout + (await incidents(remembering, "01234")).stdout


# --- one --------------------------------------------------------------------------------------------------------------


async def test_one_is_a_timeline_with_its_reasons_and_outcomes(remembering: Daemon) -> None:
    done = await incidents(remembering, "01234")
    told = words(done.stdout)
    assert done.returncode == 0
    assert "Incident 0123456789abcdef of nginx: epoll_stall (confirmed)" in told
    assert "Opened 2023-11-14 22:13:20, 1.5s after the first bad round; over after 1m15s" in told
    assert "Done: nudge refused, restart" in told
    assert "+0.00s opened hung (suspected)" in told
    assert "- every socket and every witness is dark - not epoll_stall: no witness is alive" in told
    assert "+1.20s nudged nudge refused: not permitted - grant CAP_SYS_PTRACE" in told
    assert "+1m15s resolved healed by restart after 1m14s" in told


async def test_the_longest_stop_of_a_nudge_is_told(daemon: Daemon) -> None:
    nudged = replace(HEALED.timeline[4], detail={"outcome": "done", "longest_stop_seconds": 0.00578})
    daemon.stored = [replace(HEALED, timeline=[nudged])]
    assert "the longest stop of a thread was 5.78ms" in (await incidents(daemon, "0")).stdout


async def test_two_methods_of_a_nudge_are_told_each(daemon: Daemon) -> None:
    methods = [
        {"method": "ptrace", "outcome": "refused", "reason": "Yama forbids it"},
        {"method": "freeze", "outcome": "done", "reason": "frozen for 2 ms"},
    ]
    daemon.stored = [replace(HEALED, timeline=[replace(HEALED.timeline[4], detail={"methods": methods})])]
    told = words((await incidents(daemon, "0")).stdout)
    assert "by ptrace: refused, Yama forbids it - by freeze: done, frozen for 2 ms" in told


async def test_one_as_json_is_what_the_api_says(remembering: Daemon) -> None:
    answer = json.loads((await incidents(remembering, "0123F", "--json")).stdout)
    assert (answer["id"], answer["closed"]) == (STANDING.id, None)
    assert datetime.fromisoformat(answer["opened"]) == datetime.fromtimestamp(STANDING.opened, UTC)


async def test_letters_that_mean_two_are_wrong_usage_and_both_are_named(remembering: Daemon) -> None:
    done = await incidents(remembering, "0123")
    assert done.returncode == 2
    assert "'0123' may be 0123ffff (redis), 01234567 (nginx); give more letters." in words(done.stderr)


async def test_an_id_that_begins_another_is_itself(daemon: Daemon) -> None:
    daemon.stored = [replace(HEALED, id="ab"), replace(HEALED, id="abc")]
    assert json.loads((await incidents(daemon, "ab", "--json")).stdout)["id"] == "ab"


async def test_an_id_of_nothing_is_wrong_usage(remembering: Daemon) -> None:
    done = await incidents(remembering, "beef")
    assert done.returncode == 2
    assert "No incident's id begins with 'beef'" in words(done.stderr)


async def test_an_id_that_may_be_an_older_one_names_who_knows(daemon: Daemon) -> None:
    daemon.stored = many(MOST)
    done = await incidents(daemon, "beef")
    assert done.returncode == 2
    assert "replay /var/lib/epoll-watchdog/state.db --incident beef" in words(done.stderr)


async def test_an_id_and_a_choice_are_wrong_usage(remembering: Daemon) -> None:
    assert (await incidents(remembering, "01234", "--open")).returncode == 2


async def test_nothing_of_a_text_is_obeyed_by_the_terminal(daemon: Daemon) -> None:
    daemon.stored = [replace(HEALED, timeline=[replace(HEALED.timeline[0], text="\x1b[2Jgone")])]
    shown = (await incidents(daemon, "0")).stdout
    assert "\\x1b[2Jgone" in shown
    assert "\x1b" not in shown


async def test_a_daemon_that_is_not_there_exits_3() -> None:
    done = await run("incidents", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 3
    assert "systemctl status epoll-watchdog" in done.stderr


async def test_a_daemon_that_cannot_tell_says_why(daemon: Daemon) -> None:
    daemon.fault = "the state can't be read"
    done = await incidents(daemon)
    assert done.returncode == 3
    assert "it answered 503 Service Unavailable: the state can't be read" in done.stderr


# --- completion -------------------------------------------------------------------------------------------------------


async def test_a_shell_is_offered_ids_and_services(remembering: Daemon) -> None:
    line = f"epoll-watchdog incidents --url http://{remembering.address}"
    asked = {"_EPOLL_WATCHDOG_COMPLETE": "bash_complete"}
    ids = await run(COMP_WORDS=f"{line} 0123f", COMP_CWORD="4", **asked)
    names = await run(COMP_WORDS=f"{line} --service ngi", COMP_CWORD="5", **asked)
    assert (ids.stdout, names.stdout) == ("plain,0123ffff\n", "plain,nginx\n")


@pytest.mark.parametrize("offer", [incident_ids, service_names])
def test_a_shell_is_offered_nothing_where_the_daemon_is_not_there(offer: object) -> None:
    context = click.Context(main)
    context.params = {"url": f"http://127.0.0.1:{free_port()}"}
    assert callable(offer)
    assert offer(context, main.params[0], "") == []
