"""Values as TOML text, for tests that make configurations: every table but the outermost inline."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any


def dumped(document: Mapping[str, Any]) -> str:
    """A document, a line for each key at the top."""
    return "".join(f"{json.dumps(key)} = {_value(value)}\n" for key, value in document.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float):
        return repr(value)  # inf and nan are TOML's own words
    return json.dumps(value)
