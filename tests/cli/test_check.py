from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.integration.guarding import ENVIRONMENT, FASTER, demo_table
from tests.servers import free_port
from watchdog.cli import main, one_round
from watchdog.cli.one_round import Checked
from watchdog.cli.plugin import State, gravest, line, state_of
from watchdog.config import Probe, Service
from watchdog.demo import child
from watchdog.model import Certainty, Diagnosis, Kind, Observation, Policy, Verdict
from watchdog.probes import tcp
from watchdog.target import Target

REFUSING = """\
[service.{name}]
pidfile = "{pidfile}"
timeout = "300ms"
[service.{name}.probe.tcp]
type = "tcp"
address = "127.0.0.1:{port}"
send = "ping\\n"
expect = "pong"
"""


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-P", "-m", "watchdog", "check", *map(str, arguments)]
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    env = {**kept, **ENVIRONMENT, "COLUMNS": "80"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)


def words(text: str) -> str:
    """Without the breaks of the lines."""
    return " ".join(text.split())


@contextmanager
def configured() -> Iterator[tuple[child.Service, Path]]:
    """The demo's service, and a config that names it and one at whose port nobody listens."""
    with tempfile.TemporaryDirectory() as name, child.service(Path(name)) as service:
        path = Path(name) / "config.toml"
        other = REFUSING.format(name="other", pidfile=service.addresses.pidfile, port=free_port())
        demo = demo_table(service).replace(FASTER, "")  # it is asked once, and no second round mends a late answer
        path.write_text(f'state_directory = "{name}/state"\n{demo}{other}')
        yield service, path


@pytest.fixture(scope="module")
def well() -> Iterator[Path]:
    """A config whose service `demo` is healthy, and whose `other` is not."""
    with configured() as (_, config):
        yield config


# --- what a service is ------------------------------------------------------------------------------------------------


def test_a_healthy_service_is_ok_with_its_timings(well: Path) -> None:
    done = check("demo", "--config", well)
    shown = words(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"demo OK tcp alive [0-9.]+m?s answered in", shown)
    assert re.search(r"snmp alive [0-9.]+m?s answered", shown)
    assert re.search(r"OK: 1 of 1 services well; the longest round took [0-9.]+m?s", shown)


def test_the_gravest_of_all_is_the_exit_status(well: Path) -> None:
    done = check("--config", well)
    shown = words(done.stdout)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "other CRITICAL tcp refused" in shown
    assert "- other hung (suspected): every socket is dark, and no witness is set" in shown
    assert "CRITICAL: 1 of 2 services well" in shown
    assert max(len(each) for each in done.stdout.splitlines()) <= 80
    assert "\x1b" not in done.stdout


def test_a_lost_wakeup_is_critical_though_no_evidence_is_read() -> None:
    with configured() as (service, config):
        service.lose_wakeup()
        assert service.next_event().name == "lost"
        done = check("demo", "--config", config, "--json")
    answer = json.loads(done.stdout)
    [demo] = answer["services"]
    assert (done.returncode, answer["state"], demo["state"]) == (2, "CRITICAL", "CRITICAL")
    assert demo["probes"]["tcp"]["kind"] == "silent"
    assert demo["probes"]["snmp"]["kind"] == "alive"
    assert demo["verdict"] != "healthy"


def test_a_service_without_a_process_is_critical(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(REFUSING.format(name="gone", pidfile=tmp_path / "none.pid", port=free_port()))
    done = check("--config", config, "--json")
    assert (done.returncode, json.loads(done.stdout)["services"][0]["verdict"]) == (2, "dead")


def test_the_json_has_every_probe(well: Path) -> None:
    answer = json.loads(check("demo", "--config", well, "--json").stdout)
    [demo] = answer["services"]
    assert set(demo["probes"]) == {"tcp", "unix", "snmp"}
    assert {probe["kind"] for probe in demo["probes"].values()} == {"alive"}
    assert all(0 < probe["latency_s"] < 2 for probe in demo["probes"].values())


# --- as a plugin of Nagios' -------------------------------------------------------------------------------------------


def test_a_plugin_prints_one_line_with_performance_data(well: Path) -> None:
    done = check("--config", well, "--nagios")
    assert done.returncode == 2
    assert re.fullmatch(
        r"EPOLL-WATCHDOG CRITICAL: other hung \(suspected\): every socket is dark, and no witness is set;"
        r" 1 of 2 services well \| 'demo/tcp'=\d\.\d{6}s;;2;0 'demo/unix'=\d\.\d{6}s;;2;0"
        r" 'demo/snmp'=\d\.\d{6}s;;2;0 'other/tcp'=U;;0\.3;0\n",
        done.stdout,
    )


def test_a_plugin_says_on_its_output_that_the_config_is_bad(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("nonsense = 1\n")
    done = check("--config", tmp_path / "config.toml", "--nagios")
    assert done.returncode == 3
    assert done.stdout.startswith("EPOLL-WATCHDOG UNKNOWN: ")
    assert "nonsense" in done.stdout
    assert done.stdout.count("\n") == 1


def checked(verdict: Verdict, kind: Kind = Kind.ALIVE, name: str = "web", reason: str = "so") -> Checked:
    probe = Probe(type="tcp", timeout=None, settings=tcp.Settings(address="127.0.0.1:1", connect_only=True))
    service = Service(
        name=name,
        target=Target(pidfile="/run/web.pid"),
        policy=Policy(),
        labels={},
        annotations={},
        probes={"tcp": probe},
    )
    diagnosis = Diagnosis(verdict, Certainty.SUSPECTED, (reason,))
    return Checked(service, {"tcp": Observation(kind, 0.5, "")}, diagnosis, 0.6)


GRADES: Mapping[State, set[Verdict]] = {
    State.OK: {Verdict.HEALTHY},
    State.WARNING: {Verdict.WITNESS_LOST, Verdict.OVERLOADED, Verdict.STARTING, Verdict.STOPPED},
    State.UNKNOWN: {Verdict.BLIND, Verdict.UNSETTLED},
}


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_its_state(verdict: Verdict) -> None:
    wanted = next((state for state, verdicts in GRADES.items() if verdict in verdicts), State.CRITICAL)
    assert state_of(checked(verdict)) is wanted


def test_a_dark_socket_is_critical_where_no_rule_decides() -> None:
    assert state_of(checked(Verdict.UNSETTLED, Kind.SILENT)) is State.CRITICAL


def test_a_probe_that_could_not_run_is_unknown_though_the_others_are_well() -> None:
    one = replace(checked(Verdict.HEALTHY), found={"tcp": Observation(Kind.ERROR, 0.0, "may not connect")})
    assert state_of(one) is State.UNKNOWN
    assert line([one]).startswith("EPOLL-WATCHDOG UNKNOWN: web tcp: may not connect; 0 of 1 services well | ")


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        ([State.OK, State.UNKNOWN], State.UNKNOWN),
        ([State.UNKNOWN, State.WARNING], State.WARNING),
        ([State.WARNING, State.CRITICAL, State.UNKNOWN], State.CRITICAL),
        ([], State.UNKNOWN),
    ],
)
def test_the_gravest_state_counts(states: list[State], wanted: State) -> None:
    assert gravest(states) is wanted


def test_a_plugins_line_names_the_gravest_and_counts_the_rest() -> None:
    checks = [checked(Verdict.WITNESS_LOST, name=f"w{number}") for number in range(4)]
    said = line([*checks, checked(Verdict.DEAD, name="d"), checked(Verdict.HEALTHY)]).partition(" | ")[0]
    assert said == (
        "EPOLL-WATCHDOG CRITICAL: d dead (suspected): so; w0 witness_lost (suspected): so; "
        "w1 witness_lost (suspected): so; 2 more not well; 1 of 6 services well"
    )


def test_nothing_in_a_plugins_text_is_taken_for_performance_data() -> None:
    said = line([checked(Verdict.WRONG_ANSWERS, Kind.WRONG, reason="answered a|b\nc")])
    assert said.count("|") == 1
    assert "answered a/b c" in said


# --- where nothing can be checked -------------------------------------------------------------------------------------


def test_a_service_that_is_not_named_is_unknown(well: Path) -> None:
    done = check("dmeo", "--config", well)
    assert done.returncode == 3
    assert "did you mean 'demo'?" in words(done.stderr)


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--config"], ["--nagios", "--json"]])
def test_wrong_usage_is_unknown(arguments: list[str]) -> None:
    assert check(*arguments).returncode == 3


def test_a_config_without_a_service_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    done = check("--config", tmp_path / "config.toml")
    assert done.returncode == 3
    assert "there is nothing to check" in done.stderr


def test_a_fault_of_ours_is_unknown(well: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> list[Checked]:
        raise RuntimeError("a fault")

    monkeypatch.setattr(one_round, "check", failing)
    monkeypatch.setenv("SNMP_COMMUNITY", "public")
    assert CliRunner().invoke(main, ["check", "--config", str(well)]).exit_code == 3


def test_no_line_of_its_table_ends_with_blanks(well: Path) -> None:
    lines = check("--config", well).stdout.splitlines()

    assert len(lines) > 4
    assert [line for line in lines if line != line.rstrip()] == []
