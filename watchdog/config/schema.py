"""The JSON schema of the whole file (draft 2020-12), for editors and for those who generate configurations.

It says what a table may hold. What depends on other keys, on other files or on the host, only the check itself finds.
"""

from __future__ import annotations

from typing import Any

from watchdog.alerts import CHANNELS
from watchdog.config import rules
from watchdog.config.check import General, Pace, Words
from watchdog.config.typed import adapter
from watchdog.model import Policy
from watchdog.probes import PROBES
from watchdog.settings import format_duration
from watchdog.target import Target
from watchdog.window import Window

Schema = dict[str, Any]


def schema() -> Schema:
    """The schema as plain values."""
    definitions: Schema = {}
    probe = _either(PROBES, _shape(Pace, definitions)["properties"], definitions)
    service = _table(
        properties={
            **_shape(Target, definitions)["properties"],
            **_shape(Policy, definitions)["properties"],
            **_shape(Words, definitions)["properties"],
            "probe": {**_named(probe), "minProperties": 1},
        },
        required=["probe"],
    )
    service["oneOf"] = [{"required": [key]} for key in rules.NAMED_BY]
    whole = _table(
        properties={
            **_shape(General, definitions)["properties"],
            "service": _named(service),
            "channel": _named(_either(CHANNELS, {}, definitions)),
            "window": _named(_table(**_own(Window, definitions))),
        }
    )
    # A budget that gives one key has the other at its default (see check._whole_budgets).
    definitions["Budget"].pop("required", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "epoll-watchdog",
        **_worded({**whole, "$defs": definitions}),
    }


def _table(properties: Schema, required: list[str] | None = None) -> Schema:
    table: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**table, "required": required} if required else table


def _named(table: Schema) -> Schema:
    return {"type": "object", "propertyNames": {"pattern": f"^{rules.NAME}$"}, "additionalProperties": table}


def _either(kinds: Any, common: Schema, definitions: Schema) -> Schema:
    """A table whose key `type` tells which of `kinds` it is."""
    tables = []
    for word, kind in kinds.items():
        own = _shape(kind.settings, definitions)
        tables.append(
            _table({"type": {"const": word}, **common, **own["properties"]}, ["type", *own.get("required", [])])
        )
    return {"oneOf": tables}


def _own(kind: Any, definitions: Schema) -> Schema:
    shape = _shape(kind, definitions)
    return {"properties": shape["properties"], "required": shape.get("required")}


def _shape(kind: Any, definitions: Schema) -> Schema:
    """The schema of one dataclass; what it refers to is added to `definitions`."""
    made = adapter(kind).json_schema()
    inner: Schema = made.pop("$defs")
    (item,) = made["prefixItems"]
    shape: Schema = inner.pop(item["$ref"].rpartition("/")[2])
    definitions.update(inner)
    return shape


def _worded(value: Any, default: bool = False) -> Any:
    """Defaults of durations as the file has them: "5s", not 5.0. No setting is a bare float."""
    if isinstance(value, list):
        return [_worded(inner, default) for inner in value]
    if isinstance(value, dict):
        return {key: _worded(inner, default or key == "default") for key, inner in value.items()}
    return format_duration(value) if default and isinstance(value, float) else value
