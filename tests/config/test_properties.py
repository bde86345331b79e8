"""Whatever stands in the file: a config, or errors in words; never a crash, never a secret told."""

from __future__ import annotations

import copy
import dataclasses
import os
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config.toml import dumped
from watchdog.config import Config, ConfigInvalid
from watchdog.config.check import check
from watchdog.model import Budgets, Mode, Policy, Rung, Verdict
from watchdog.settings import format_duration
from watchdog.verdicts import VERDICTS, Stance

GOOD = Path(__file__).parent / "good"
WHOLE = tomllib.loads((GOOD / "everything.toml").read_text())
SECRETS = {"SNMP_COMMUNITY": "public", "HOOK_SECRET": "whsec_c2VjcmV0", "HOOK_URL": "https://alerts.example.org/"}
MARK = "hunter2-hunter2"


def checked(document: dict[str, Any]) -> Config | ConfigInvalid:
    with tempfile.TemporaryDirectory() as directory, mock.patch.dict(os.environ, SECRETS):
        file = Path(directory, "config.toml")
        file.write_text(dumped(document))
        try:
            return check(file)
        except ConfigInvalid as invalid:
            return invalid


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from paths(inner, (*path, key))


def replaced(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


text = st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=20)
scalars = st.one_of(
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**30, max_value=10**31),
    st.floats(),
    text,
    st.sampled_from(
        ["5s", "0s", "-1s", "99999999999999999999999d", "/", "a\0b", "@", "[::1]:1", "(", "{pid}", "http://["]
    ),
    st.dates(),
    st.datetimes(),
    st.times(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=5,
)


@given(path=st.sampled_from(list(paths(WHOLE))), value=values)
@settings(max_examples=300, deadline=None)
def test_any_value_at_any_key_gives_a_config_or_errors_in_words(path: tuple[Any, ...], value: Any) -> None:
    result = checked(replaced(WHOLE, path, value))

    assert isinstance(result, Config) or result.errors
    assert "Traceback" not in str(result)


@given(path=st.sampled_from([path for path in paths(WHOLE) if len(path) > 1]), key=text, value=values)
@settings(max_examples=100, deadline=None)
def test_any_new_key_anywhere_gives_a_config_or_errors_in_words(path: tuple[Any, ...], key: str, value: Any) -> None:
    result = checked(replaced(WHOLE, (*path[:-1], key), value))

    assert isinstance(result, Config) or result.errors


@given(document=st.dictionaries(st.sampled_from(["service", "channel", "http", "x"]), values))
@settings(max_examples=50, deadline=None)
def test_any_document_gives_a_config_or_errors_in_words(document: dict[str, Any]) -> None:
    result = checked(document)

    assert isinstance(result, Config) or result.errors


secret_paths = [path[:-1] for path in paths(WHOLE) if path[-1] in ("env", "file", "credential")]


@given(path=st.sampled_from(secret_paths), value=st.sampled_from([MARK, [MARK], {MARK: 1}, {"value": MARK}]))
@settings(max_examples=40, deadline=None)
def test_a_secret_that_stands_in_the_file_is_not_told_again(path: tuple[Any, ...], value: Any) -> None:
    result = checked(replaced(WHOLE, path, value))

    assert isinstance(result, ConfigInvalid) or MARK not in str(result.warnings)
    assert not isinstance(result, ConfigInvalid) or MARK not in "".join(error.message for error in result.errors)


# --- what is written is what is read ----------------------------------------------------------------------------------

milliseconds = st.integers(min_value=1, max_value=366 * 86400 * 1000)


def duration(low_ms: int = 1, high_ms: int = 366 * 86400 * 1000) -> st.SearchStrategy[str]:
    return st.integers(low_ms, high_ms).map(lambda count: f"{count}ms")


ladders = st.dictionaries(
    st.sampled_from([verdict for verdict in Verdict if VERDICTS[verdict].stance is Stance.SICK]),
    st.lists(st.sampled_from([Rung.NUDGE, Rung.RESTART, Rung.ALERT]), max_size=4),  # a capture needs its command
)
budgets = st.fixed_dictionaries({"burst": st.integers(0, 1000), "interval": duration()})
policies = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(list(Mode)),
        "interval": duration(60_000),
        "interval_suspect": duration(100, 60_000),
        "timeout": duration(1, 60_000),
        "fall": st.integers(1, 100),
        "rise": st.integers(1, 100),
        "settle": duration(),
        "dark_for": duration(),
        "start_timeout": duration(),
        "cool_off": duration(),
        "reminder": duration(),
        "budget": st.fixed_dictionaries({}, optional={"nudge": budgets, "restart": budgets}),
        "ladder": ladders,
    },
)


@given(table=policies)
@settings(max_examples=100, deadline=None)
def test_a_valid_policy_is_read_as_it_is_written(table: dict[str, Any]) -> None:
    document = {
        "service": {
            "web": {
                "unit": "web.service",
                "interval": "60s",
                **table,
                "probe": {"tcp": {"type": "tcp", "address": "127.0.0.1:80", "send": "ping"}},
            }
        }
    }

    result = checked(document)

    assert isinstance(result, Config), result
    assert result.services["web"].policy == expected({"interval": "60s", **table})


def expected(table: dict[str, Any]) -> Policy:
    """The policy by hand, without pydantic."""
    plain = {key: seconds(value) for key, value in table.items() if key not in ("mode", "budget", "ladder")}
    policy = dataclasses.replace(Policy(), **plain)
    budget = {
        rung: dataclasses.replace(getattr(Budgets(), rung), burst=each["burst"], interval=seconds(each["interval"]))
        for rung, each in table.get("budget", {}).items()
    }
    return dataclasses.replace(
        policy,
        mode=Mode(table.get("mode", policy.mode)),
        budget=dataclasses.replace(Budgets(), **budget),
        ladder={verdict: tuple(rungs) for verdict, rungs in table.get("ladder", {}).items()},
    )


def seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    number, unit = (value[:-2], 0.001) if value.endswith("ms") else (value[:-1], 1.0)
    return float(number) * unit


@given(count=st.integers(1, 366 * 86400))
def test_a_duration_that_we_write_is_read_as_the_same(count: int) -> None:
    text = format_duration(count)
    document = {
        "service": {
            "web": {
                "unit": "web.service",
                "dark_for": text,
                "probe": {"tcp": {"type": "tcp", "address": "127.0.0.1:80", "send": "ping"}},
            }
        }
    }

    result = checked(document)

    assert isinstance(result, Config), result
    assert result.services["web"].policy.dark_for == count
