"""`epoll-watchdog check-config`, as a person and as a script use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from watchdog.cli.check_config import command

GOOD = Path(__file__).parent / "good"
BAD = Path(__file__).parent / "bad"


def run(*arguments: str | Path, **environment: str) -> Result:
    secrets = {"SNMP_COMMUNITY": "public", "HOOK_SECRET": "whsec_c2VjcmV0"}
    return CliRunner(env={**secrets, **environment}).invoke(command, list(map(str, arguments)))


def test_a_sound_config_is_summed_up() -> None:
    done = run(GOOD / "ravendb.toml")

    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{GOOD}/ravendb.toml: sound",
        "  service ravendb: ravendb.service, mode full",
        "    every 5s: https (http), pipe (unix), snmp (snmp)",
        "  channel ops: webhook",
    ]


def test_errors_go_to_stderr_with_their_number_and_exit_status_1() -> None:
    done = run(BAD / "probe_array_of_tables.toml")

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "2 errors"
    assert 'regex: is no key; did you mean "regexp"?' in done.stderr


def test_in_json_errors_have_their_parts(tmp_path: Path) -> None:
    done = run(BAD / "unknown_key.toml", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "valid": False,
        "errors": [
            {
                "file": str(BAD / "unknown_key.toml"),
                "path": "service.web.intervall",
                "message": "is no key",
                "hint": 'did you mean "interval"?',
            }
        ],
    }


def test_in_json_a_sound_config_is_told_with_its_services() -> None:
    told = json.loads(run(GOOD / "pidfile.toml", "--json").stdout)

    assert told["valid"] is True
    assert told["services"]["redis.cache@1"] == {
        "guards": "/run/redis/cache.pid",
        "mode": "nudge",
        "interval_s": 0.5,
        "probes": {"unix": "unix", "snmp": "snmp"},
    }


@pytest.mark.parametrize("name", ["secret_variable_unset", "secret_credential_not_passed"])
def test_a_secret_that_only_the_unit_has_is_a_warning_at_a_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    done = run(BAD / f"{name}.toml")

    assert done.exit_code == 0
    assert "probe.tcp.bearer_token: the " in done.stdout


def test_a_credential_that_a_unit_does_not_pass_is_an_error_within_it(tmp_path: Path) -> None:
    done = run(BAD / "secret_credential_not_passed.toml", CREDENTIALS_DIRECTORY=str(tmp_path))

    assert done.exit_code == 1
    assert "put it into /etc/epoll-watchdog/credentials/token (of root, mode 0600) and restart" in done.stderr


def test_before_a_reload_no_credential_is_looked_at_and_that_is_told(tmp_path: Path) -> None:
    done = run("--without-credentials", BAD / "secret_credential_not_passed.toml", CREDENTIALS_DIRECTORY=str(tmp_path))

    assert done.exit_code == 0
    assert 'probe.tcp.bearer_token: the credential "token" was not looked at' in done.stdout


@pytest.mark.parametrize("name", ["secret_variable_unset", "secret_file_missing"])
def test_before_a_reload_every_other_secret_must_be_there(name: str) -> None:
    assert run("--without-credentials", BAD / f"{name}.toml").exit_code == 1


def test_a_secret_file_that_cannot_be_read_is_an_error_at_a_terminal_too() -> None:
    assert run(BAD / "secret_file_missing.toml").exit_code == 1


def test_a_missing_file_is_told_as_such() -> None:
    done = run("/nonexistent/config.toml")

    assert done.exit_code == 1
    assert "/nonexistent/config.toml: cannot be read: No such file or directory" in done.stderr


def test_the_schema_is_json() -> None:
    assert json.loads(run("--schema").stdout)["title"] == "epoll-watchdog"


def test_wrong_usage_has_an_exit_status_of_its_own() -> None:
    assert run("--jsn").exit_code == 2


def test_help_tells_the_exit_statuses() -> None:
    assert "Exit status" in run("--help").stdout
