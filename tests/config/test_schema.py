"""The JSON schema says what the check says, as far as a schema can: judged by a small judge of its keywords."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from watchdog.config.schema import schema

GOOD = Path(__file__).parent / "good"
BAD = Path(__file__).parent / "bad"
SCHEMA = schema()

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
TOLD_BY_THE_SCHEMA = [
    "unknown_table",
    "unknown_key",
    "no_target",
    "unit_and_pidfile",
    "no_probe",
    "duration_is_a_number",
    "duration_without_unit",
    "fall_in_quotes",
    "mode_unknown",
    "ladder_unknown_verdict",
    "ladder_unknown_rung",
    "label_is_a_number",
    "probe_of_unknown_type",
    "probe_unknown_key",
    "probe_without_address",
    "probe_nested_unknown_key",
    "probe_array_of_tables",
    "secret_written_out",
    "secret_misspelt",
    "service_with_a_bad_name",
    "channel_without_url",
    "channel_severity_unknown",
    "dead_man_without_url",
    "dead_man_unknown_key",
]


def fits(value: Any, rule: Any) -> bool:
    """Whether a value fits a schema of draft 2020-12, of the keywords below."""
    if isinstance(rule, bool):
        return rule
    judged: dict[str, Callable[[Any], bool]] = {
        "$ref": lambda ref: fits(value, SCHEMA["$defs"][ref.rpartition("/")[2]]),
        "type": lambda name: TYPES[name](value),
        "const": lambda const: value == const,
        "enum": lambda words: value in words,
        "pattern": lambda pattern: not isinstance(value, str) or re.search(pattern, value) is not None,
        "anyOf": lambda rules: any(fits(value, each) for each in rules),
        "oneOf": lambda rules: sum(fits(value, each) for each in rules) == 1,
        "required": lambda keys: not isinstance(value, dict) or set(keys) <= set(value),
        "minProperties": lambda least: not isinstance(value, dict) or len(value) >= least,
        "items": lambda each: not isinstance(value, list) or all(fits(inner, each) for inner in value),
        "propertyNames": lambda each: not isinstance(value, dict) or all(fits(key, each) for key in value),
        "properties": lambda _: not isinstance(value, dict) or fit_inside(value, rule),
        "additionalProperties": lambda _: not isinstance(value, dict) or fit_inside(value, rule),
    }
    told = {"title", "description", "default", "examples", "$schema", "$defs"}
    return all(judged[keyword](inner) for keyword, inner in rule.items() if keyword not in told)


def fit_inside(value: dict[str, Any], rule: dict[str, Any]) -> bool:
    known, others = rule.get("properties", {}), rule.get("additionalProperties", True)
    return all(fits(inner, known.get(key, others)) for key, inner in value.items())


@pytest.mark.parametrize("file", sorted(GOOD.glob("*.toml")), ids=lambda file: file.stem)
def test_a_good_file_fits_the_schema(file: Path) -> None:
    assert fits(tomllib.loads(file.read_text()), SCHEMA)


@pytest.mark.parametrize("name", TOLD_BY_THE_SCHEMA)
def test_a_bad_file_does_not_fit_the_schema(name: str) -> None:
    assert not fits(tomllib.loads((BAD / f"{name}.toml").read_text()), SCHEMA)


def test_defaults_are_given_as_one_would_write_them() -> None:
    service = SCHEMA["properties"]["service"]["additionalProperties"]["properties"]

    assert service["interval"]["default"] == "5s"
    assert service["start_timeout"]["default"] == "10m"
    assert service["budget"]["default"]["restart"] == {"burst": 2, "interval": "1h"}
