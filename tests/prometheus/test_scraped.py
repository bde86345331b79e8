"""A real Prometheus scrapes the real daemon while it heals stalls: the recovery, and every query that is packaged."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.prometheus.dashboard import Query, queries
from tests.prometheus.story import Told, told

# Alerts for which no part of the story is long, bad or old enough, and why. What they read is there all the same.
SILENT = {
    "EpollWatchdogAbsent": "the job has targets",
    "EpollWatchdogRestartsOften": "the daemon is started once",
    "EpollWatchdogLoopLags": "the mean of five minutes does not rise that far in seconds",
    "EpollWatchdogLoopStoodStill": "nothing from outside keeps the loop from running for 2 s, and the rest of it not",
    "EpollWatchdogNotificationsGivenUp": "no message of the story waits for days",
    "EpollWatchdogOutboxGrows": "a hundred messages take more incidents than the story has",
    "EpollWatchdogKernelAdvisory": "this host's kernel is not known to lose wake-ups",
    "EpollWatchdogPaused": "no command pauses a service yet",
}
NOT_HERE = {
    "epoll_watchdog_kernel_advisory": "this host's kernel is not known to lose wake-ups",
    'epoll_watchdog_verdict{verdict="stopped"}': "only of a systemd unit is it known that its operator stopped it",
}
VARIABLES = {"instance": ".*", "name": "failing|healed|renewed|waiting|watched"}
INTERVALS = {"__rate_interval": "2s", "__range": "5m"}  # as Grafana counts it: four scrapes, and the shown time

SELECTOR = re.compile(r"\b((?:epoll_watchdog|process|instance_name)\w*(?::\w+)*(?:\{[^}]*\})?)")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with told(tmp_path_factory.mktemp("story")) as over:
        yield over


def test_the_recovery_is_in_the_data(story: Told) -> None:
    nudged = 'epoll_watchdog_recovery_seconds_{}{{rung="nudge"}}'
    assert max(story.values(nudged.format("count"))) >= 3
    mean = story.prometheus.now(f"{nudged.format('sum')} / {nudged.format('count')}")
    assert 0 < mean[0] < 5
    assert max(story.values('epoll_watchdog_incident_open{name="healed"}')) == 1
    assert (
        max(story.values('increase(epoll_watchdog_actions_total{name="healed",rung="nudge",outcome="done"}[5m])')) > 2.5
    )
    assert story.values('epoll_watchdog_actions_total{name="healed",rung="restart"} > 0') == []
    assert max(story.values('epoll_watchdog_actions_total{name="renewed",rung="restart",outcome="done"}')) == 1


def test_what_the_daemon_shows_passes_the_lint_of_prometheus(story: Told) -> None:
    shown = story.guard.daemon.text("/metrics")
    done = subprocess.run(["promtool", "check", "metrics"], input=shown, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_watchdog_and_the_target_that_is_down_are_scraped_as_the_packaged_job_says(story: Told) -> None:
    assert sorted(story.prometheus.now('up{job="epoll-watchdog"}')) == [0, 1]


@pytest.mark.parametrize("query", list(queries()), ids=str)
def test_each_query_of_the_dashboard_returns_data(story: Told, query: Query) -> None:
    expression = query.filled({**VARIABLES, **INTERVALS})
    values = story.prometheus.now(expression) if query.instant else story.values(expression)
    assert values, expression


def test_the_variables_of_the_dashboard_find_the_watchdog_and_its_services(story: Told) -> None:
    named = story.prometheus.get("label/name/values", **{"match[]": "epoll_watchdog_mode"})
    assert named == sorted(VARIABLES["name"].split("|"))
    [instance] = story.prometheus.get("label/instance/values", **{"match[]": "epoll_watchdog_build_info"})
    assert instance == story.guard.daemon.address


def test_each_rule_returns_data_at_some_moment_of_the_story_but_for_those_that_are_named(story: Told) -> None:
    rules = story.prometheus.rules()
    silent = [rule["name"] for rule in rules if not story.values(rule["query"])]
    assert sorted(silent) == sorted(SILENT)
    assert [rule["lastError"] for rule in rules if rule["health"] != "ok"] == []


def test_each_series_that_a_rule_reads_is_shown(story: Told) -> None:
    read = {selector for rule in story.prometheus.rules() for selector in SELECTOR.findall(rule["query"])}
    assert len(read) > 20
    assert {selector for selector in read if not story.values(selector)} == set(NOT_HERE)


def test_alerts_that_wait_for_nothing_fire_in_the_story(story: Told) -> None:
    firing = story.prometheus.get("query", query='ALERTS{alertstate="firing"}')["result"]
    named = {alert["metric"]["alertname"]: services(alert["metric"], firing) for alert in firing}
    assert named == {
        "EpollWatchdogFlaps": ["healed"],
        "EpollWatchdogRestarted": ["renewed"],
        "EpollWatchdogRestartFailed": ["failing"],
        "EpollWatchdogNudgeRefused": ["failing"],
        "EpollWatchdogRemedyPassed": ["failing", "renewed"],
    }


def services(alert: Mapping[str, str], firing: list[Mapping[str, Any]]) -> list[str]:
    """Those for which this alert fires."""
    named = (other["metric"] for other in firing)
    return sorted(other["name"] for other in named if other["alertname"] == alert["alertname"])
