"""How the resident process gets its configuration: from a child, as plain values, never paying for pydantic."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import watchdog.config
from watchdog.config import Config, ConfigInvalid, load, load_async
from watchdog.config.check import check
from watchdog.model import Budget, Mode, Rung, Verdict
from watchdog.settings import Secret
from watchdog.target import Match

GOOD = Path(__file__).parent / "good"
PROBE = 'type = "tcp"\naddress = "127.0.0.1:80"\nsend = "ping"\n'


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNMP_COMMUNITY", "public")
    monkeypatch.setenv("HOOK_SECRET", "whsec_c2VjcmV0")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


def service(name: str, keys: str = "") -> str:
    return f'[service.{name}]\nunit = "{name}.service"\n{keys}[service.{name}.probe.tcp]\n{PROBE}'


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def child(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "watchdog.config", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_a_loaded_config_has_the_values_of_the_file_and_the_defaults_of_the_rest() -> None:
    config = load(GOOD / "ravendb.toml")

    ravendb = config.services["ravendb"]
    assert ravendb.target.unit == "ravendb.service"
    assert ravendb.labels == {"team": "storage"}
    assert ravendb.policy.interval == 5.0
    assert ravendb.policy.budget.restart == Budget(burst=2, interval=3600.0)
    assert [probe.type for probe in ravendb.probes.values()] == ["http", "unix", "snmp"]
    assert ravendb.probes["snmp"].settings.community == Secret(env="SNMP_COMMUNITY")
    assert config.channels["ops"].type == "webhook"
    assert config.http.listen == "127.0.0.1:9797"
    assert config.state_directory == Path("/var/lib/epoll-watchdog")
    assert config.max_sick is None
    assert config.files == (GOOD / "ravendb.toml",)


def test_words_durations_and_arrays_become_the_values_that_the_core_knows() -> None:
    service = load(GOOD / "pidfile.toml").services["redis.cache@1"]

    assert service.policy.mode is Mode.NUDGE
    assert service.policy.ladder == {Verdict.HUNG: (Rung.NUDGE, Rung.ALERT), Verdict.STARTING: ()}
    assert service.target.restart_command == ("/etc/init.d/redis-server", "restart")
    assert service.probes["unix"].timeout == 0.25


def test_a_service_may_be_named_by_its_process_or_its_cgroup() -> None:
    services = load(GOOD / "named.toml").services
    assert services["web"].target.process == Match(
        exe="/usr/sbin/nginx", args=("-c", "/etc/nginx/web.conf"), user="root"
    )
    assert services["box"].target.cgroup == "/web.slice/libpod-[0-9a-f][0-9a-f]*.scope"


def test_a_budget_that_gives_one_key_keeps_the_default_of_the_other() -> None:
    assert load(GOOD / "pidfile.toml").services["redis.cache@1"].policy.budget.nudge == Budget(burst=10, interval=3600)


def test_a_short_interval_shortens_the_times_that_were_not_given() -> None:
    policy = load(GOOD / "pidfile.toml").services["redis.cache@1"].policy

    assert (policy.interval, policy.timeout, policy.interval_suspect) == (0.5, 0.5, 0.5)


def test_the_process_that_loads_never_imports_pydantic_nor_what_a_probe_needs() -> None:
    code = (
        "import sys; from pathlib import Path; from watchdog.config import load; "
        f"load(Path({str(GOOD / 'ravendb.toml')!r})); "
        "print([name for name in ('pydantic', 'pydantic_core', 'difflib', 'aiohttp', 'pysnmp', 'tomllib')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)

    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_what_the_child_hands_back_is_what_the_check_found() -> None:
    assert load(GOOD / "ravendb.toml") == check(GOOD / "ravendb.toml")


def test_a_bad_config_raises_every_error_sorted_by_file_and_path(tmp_path: Path) -> None:
    main = written(tmp_path / "config.toml", service("b", "fall = 0\nmode = 1\n") + service("a", "rise = 0\n"))
    part = written(tmp_path / "conf.d" / "x.toml", "max_sick = 0\n")

    with pytest.raises(ConfigInvalid) as raised:
        load(main)

    assert [(error.file, error.path) for error in raised.value.errors] == [
        (part, "max_sick"),
        (main, "service.a.rise"),
        (main, "service.b.fall"),
        (main, "service.b.mode"),
    ]


async def test_loading_in_the_background_lets_the_loop_run() -> None:
    ticks = 0
    loading = asyncio.create_task(load_async(GOOD / "ravendb.toml"))
    while not loading.done():
        await asyncio.sleep(0.005)
        ticks += 1

    assert isinstance(loading.result(), Config)
    assert ticks > 5


def test_a_missing_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"none\.toml: cannot be read: No such file or directory"):
        load(tmp_path / "none.toml")


def test_a_directory_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="is no file"):
        load(tmp_path)


def test_a_check_that_takes_too_long_is_an_error_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog.config, "CHECK_TIMEOUT", 0.01)
    with pytest.raises(ConfigInvalid, match="could not be checked: no answer within"):
        load(GOOD / "ravendb.toml")


def test_a_child_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(ConfigInvalid, match=r"could not be checked: .*No such file"):
        load(GOOD / "ravendb.toml")


def test_a_child_that_fails_tells_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = written(tmp_path / "python", "#!/bin/sh\necho 'ModuleNotFoundError: pydantic' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(ConfigInvalid, match="could not be checked: ModuleNotFoundError: pydantic"):
        load(GOOD / "ravendb.toml")


def test_a_child_that_answers_nonsense_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = written(tmp_path / "python", "#!/bin/sh\necho hello\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(ConfigInvalid, match="could not be checked"):
        load(GOOD / "ravendb.toml")


def test_the_state_directory_is_systemds_where_it_gives_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/private/epoll-watchdog:/var/lib/other")
    assert load(GOOD / "ravendb.toml").state_directory == Path("/var/lib/private/epoll-watchdog")


# --- conf.d -----------------------------------------------------------------------------------------------------------


def test_services_and_channels_of_conf_d_are_merged_with_those_of_the_file(tmp_path: Path) -> None:
    main = written(tmp_path / "config.toml", service("web"))
    part = written(tmp_path / "conf.d" / "api.toml", 'state_directory = "/srv/state"\n' + service("api"))

    config = check(main)

    assert set(config.services) == {"web", "api"}
    assert config.state_directory == Path("/srv/state")
    assert config.files == (main, part)


def test_hidden_files_and_those_of_other_kinds_in_conf_d_are_left_alone(tmp_path: Path) -> None:
    main = written(tmp_path / "config.toml", service("web"))
    written(tmp_path / "conf.d" / ".api.toml", "= nonsense")
    written(tmp_path / "conf.d" / "api.toml.dpkg-old", "= nonsense")

    assert set(check(main).services) == {"web"}


def test_a_dangling_link_in_conf_d_is_an_error(tmp_path: Path) -> None:
    main = written(tmp_path / "config.toml", service("web"))
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "api.toml").symlink_to("/nonexistent")

    with pytest.raises(ConfigInvalid, match=r"conf\.d/api\.toml: cannot be read: No such file or directory"):
        check(main)


def test_a_file_that_is_not_utf_8_is_told_with_the_line(tmp_path: Path) -> None:
    main = tmp_path / "config.toml"
    main.write_bytes(b"# a\n# \xe9t\xe9\n")

    with pytest.raises(ConfigInvalid, match=r"config\.toml: line 2: byte 0xe9 is no UTF-8"):
        check(main)


DEPTH = 100_000


@pytest.mark.parametrize(
    "text", ["[" * DEPTH, "a = " + "[" * DEPTH, "a = " + "{a=" * DEPTH, "a" + ".a" * 5000 + " = 1"]
)
def test_a_file_of_nothing_but_depth_is_refused_in_words(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as raised:
        check(written(tmp_path / "config.toml", text))

    assert all(len(str(error)) < 1000 for error in raised.value.errors)


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    main = written(tmp_path / "config.toml", "#" * (4 * 1024**2 + 1))

    with pytest.raises(ConfigInvalid, match="is longer than 4 MiB"):
        check(main)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    main = written(tmp_path / "config.toml", service("web"))
    (tmp_path / "conf.d").mkdir()
    os.mkfifo(tmp_path / "conf.d" / "pipe.toml")

    with pytest.raises(ConfigInvalid, match=r"pipe\.toml: is no file"):
        check(main)


# --- what is told without being wrong ---------------------------------------------------------------------------------


def test_a_service_without_a_witness_is_sound_but_warned_of(tmp_path: Path) -> None:
    main = written(tmp_path / "config.toml", service("web"))

    (warning,) = check(main).warnings

    assert warning.startswith(f"{main}: service.web: no witness; ")


def test_nobody_to_guard_is_sound_but_warned_of(tmp_path: Path) -> None:
    (warning,) = check(written(tmp_path / "config.toml", "")).warnings

    assert "nothing is guarded" in warning


def test_a_service_that_nothing_can_restart_is_warned_of(tmp_path: Path) -> None:
    text = service("web").replace('unit = "web.service"', 'pidfile = "/run/web.pid"')
    warnings = check(written(tmp_path / "config.toml", text)).warnings

    assert any("service.web: nothing can restart it; give restart_command" in warning for warning in warnings)


def test_a_probe_that_only_connects_is_warned_of_where_it_stands(tmp_path: Path) -> None:
    text = service("web").replace('send = "ping"', "connect_only = true")
    warnings = check(written(tmp_path / "config.toml", text)).warnings

    assert any("service.web.probe.tcp: connect_only = true" in warning for warning in warnings)


def test_more_probes_than_fit_into_the_series_are_warned_of(tmp_path: Path) -> None:
    more = "".join(f"[service.web.probe.tcp{number}]\n{PROBE}" for number in range(8))
    warnings = check(written(tmp_path / "config.toml", service("web") + more)).warnings

    assert any("service.web: 9 probes make over 30 series" in warning for warning in warnings)


# --- the child's other answers ----------------------------------------------------------------------------------------


def test_the_child_says_nothing_of_a_sound_config() -> None:
    done = child(GOOD / "ravendb.toml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_child_tells_errors_by_line_and_exit_status(tmp_path: Path) -> None:
    main = written(tmp_path / "config.toml", service("web", "fall = 0\nrise = 0\n"))

    done = child(main)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"{main}: service.web.fall: 0 is too few; give 1 or more",
        f"{main}: service.web.rise: 0 is too few; give 1 or more",
    ]


def test_the_helper_gets_plain_values_and_every_path_whose_change_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNMP_COMMUNITY")  # the helper has none of the daemon's secrets
    done = child(GOOD / "pidfile.toml", "--for-helper")

    assert json.loads(done.stdout) == {
        "files": [str(GOOD / "pidfile.toml"), str(GOOD / "conf.d")],
        "services": {
            "redis.cache@1": {
                "unit": None,
                "pidfile": "/run/redis/cache.pid",
                "restart_command": ["/etc/init.d/redis-server", "restart"],
                "also_restarts": [],
                "capture": [],
                "process": None,
                "cgroup": None,
                "nudge": {"methods": ["ptrace", "freeze"]},
                "drill": False,
                "drill_under_seccomp": False,
                "mode": "nudge",
                "budget": {
                    "nudge": {"burst": 10, "interval": 3600.0},
                    "restart": {"burst": 0, "interval": 3600.0},
                    "capture": {"burst": 0, "interval": 3600.0},
                },
            }
        },
    }


@pytest.mark.parametrize(
    ("mode", "bursts"),
    [
        ("observe", {"nudge": 0, "restart": 0, "capture": 0}),
        ("nudge", {"nudge": 5, "restart": 0, "capture": 0}),
        ("full", {"nudge": 5, "restart": 2, "capture": 2}),
    ],
)
def test_the_helper_gets_no_budget_for_what_the_mode_forbids(tmp_path: Path, mode: str, bursts: dict[str, int]) -> None:
    done = child(written(tmp_path / "config.toml", service("web", f'mode = "{mode}"\n')), "--for-helper")

    web = json.loads(done.stdout)["services"]["web"]
    assert web["mode"] == mode
    assert {rung: budget["burst"] for rung, budget in web["budget"].items()} == bursts


def test_the_helper_is_refused_a_bad_config(tmp_path: Path) -> None:
    done = child(written(tmp_path / "config.toml", service("web", "fall = 0\n")), "--for-helper")

    assert (done.returncode, done.stdout) == (1, "")
    assert "service.web.fall" in done.stderr


def test_a_config_survives_being_handed_over() -> None:
    config = check(GOOD / "pidfile.toml")
    copy: Any = pickle.loads(pickle.dumps(config))

    assert copy == config
