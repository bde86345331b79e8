"""The packaged files, as Prometheus' own tool sees them, and the dashboard, by the rules that Grafana's mixins keep."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.prometheus.dashboard import BOARD, PANELS, queries
from tests.prometheus.server import REPOSITORY, RULES, SCRAPE

HERE = Path(__file__).parent
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())
CASES = "".join(path.read_text() for path in HERE.glob("*.test.yml"))
MANUAL = (REPOSITORY / "docs/prometheus.md").read_text()


def promtool(*arguments: str | Path) -> str:
    """What it wrote; a failure of it fails the test."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_sound() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint-fatal", RULES)


@pytest.mark.parametrize("cases", sorted(HERE.glob("*.test.yml")), ids=lambda path: path.name)
def test_each_alert_fires_in_its_case_and_not_in_others(cases: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", cases)


@pytest.mark.parametrize("alert", ALERTS)
def test_of_each_alert_there_is_a_case_where_it_fires_and_one_where_it_does_not(alert: str) -> None:
    assert re.search(rf"alertname: {alert}\n +eval_time: \w+\n +exp_alerts:\n", CASES)
    assert re.search(rf"alertname: {alert}, eval_time: \w+, exp_alerts: \[\]", CASES)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_its_section_in_the_manual_and_leads_to_it(alert: str) -> None:
    assert f"\n### {alert}\n" in MANUAL
    rule = RULES.read_text().split(f"- alert: {alert}\n")[1].split("- alert:")[0]
    assert f"runbook: /usr/share/doc/epoll-watchdog/docs/prometheus.md#{alert.lower()}\n" in rule
    severity = re.search(r"severity: (critical|warning|info)\n", rule)
    assert severity is not None
    assert f"\n### {alert}\n\n*{severity[1]}" in MANUAL


def test_the_rules_are_not_called_as_the_daemons_own_alerts_are() -> None:
    assert all(re.fullmatch(r"EpollWatchdog[A-Z]\w+", alert) for alert in ALERTS)
    source = "".join(path.read_text() for path in (REPOSITORY / "watchdog").rglob("*.py"))
    assert [alert for alert in ALERTS if alert in source] == []


def test_the_scrape_job_is_a_config_of_its_own_and_a_part_of_another(tmp_path: Path) -> None:
    whole = tmp_path / "prometheus.yml"
    whole.write_text(f"global:\n  scrape_interval: 1s\nrule_files:\n  - {RULES}\n{SCRAPE.read_text()}")
    assert "SUCCESS" in promtool("check", "config", "--lint-fatal", whole)
    assert "SUCCESS" in promtool("check", "config", "--lint-fatal", SCRAPE)


# --- the dashboard ----------------------------------------------------------------------------------------------------


def walk(value: Any) -> list[Mapping[str, Any]]:
    """Every object in it."""
    if isinstance(value, Mapping):
        return [value, *(found for part in value.values() for found in walk(part))]
    return [found for part in value for found in walk(part)] if isinstance(value, list) else []


def test_the_data_source_is_a_variable_everywhere() -> None:
    named = [found["datasource"] for found in walk(BOARD) if "datasource" in found]
    assert {source["uid"] for source in named if source["type"] == "prometheus"} == {"${datasource}"}
    assert {source["type"] for source in named} == {"prometheus", "grafana"}  # the latter of Grafana's own annotations
    first = BOARD["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    lacking = [
        panel["title"] for panel in PANELS if not (panel["description"] and panel["fieldConfig"]["defaults"]["unit"])
    ]
    assert lacking == []
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert all(panel["fieldConfig"]["defaults"]["thresholds"]["steps"] for panel in PANELS)


def test_every_line_of_a_graph_has_a_legend() -> None:
    drawn = [panel for panel in PANELS if panel["type"] in ("timeseries", "state-timeline", "bargauge")]
    assert drawn
    auto = [panel["title"] for panel in drawn for target in panel["targets"] if target["legendFormat"] == "__auto"]
    assert auto == []


def test_no_panel_lies_over_another() -> None:
    taken = [panel["gridPos"] for panel in BOARD["panels"]]
    over = [
        (one, other)
        for one, other in itertools.combinations(taken, 2)
        if one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    ]
    assert over == []
    assert all(place["x"] + place["w"] <= 24 for place in taken)


def test_every_query_asks_for_the_chosen_watchdogs() -> None:
    assert [str(query) for query in queries() if 'instance=~"$instance"' not in query.expression] == []


def test_what_is_said_of_a_service_is_said_of_the_chosen_ones() -> None:
    by_name = [query for query in queries() if re.search(r"\bname\b", query.expression.replace('name=~"$name"', ""))]
    chosen = [query for query in by_name if "ALERTS" not in query.expression]  # those of the watchdog itself have none
    assert chosen
    assert [str(query) for query in chosen if 'name=~"$name"' not in query.expression] == []
