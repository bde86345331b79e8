"""The types of a setting that TOML has no word for: a duration, a secret.

pydantic finds how to validate them by the hook on the marker, and is imported by nobody else: a resident process never
pays for it (14 MiB).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST = 366 * 86400.0  # s
REPEATED = 24  # characters; what is longer may be a secret at the wrong place
PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"


def parse_duration(text: str) -> float:
    """Seconds of a duration such as "500ms", "5s", "1h30m" (the units of Prometheus' configuration: ms, s, m, h, d).

    Raises `ValueError` with what would be right.
    """
    if not re.fullmatch(PATTERN, text):
        told = repr(text) if len(text) <= REPEATED else "this"
        raise ValueError(
            f'{told} is no duration; write a number and a unit (ms, s, m, h, d), such as "500ms" or "1h30m"'
        )
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", text)
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if seconds > LONGEST:
        raise ValueError('is too long; give at most a year, "366d"')
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest such text: "500ms", "5s", "1h30m"; at most three digits behind a point."""
    if seconds * 1000 < 999.5:  # beyond that it is "1s" to three digits
        return f"{seconds * 1000:.3g}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    left = round(seconds)
    text = ""
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, int(UNITS[unit]))
        text += f"{count}{unit}" if count else ""
    return text


def check_above_zero(key: str, seconds: float, example: str) -> None:
    """Raise `ValueError` for a time in which nothing can happen."""
    if seconds <= 0:
        raise ValueError(f'{key}: 0s is too short; give a duration above zero, such as "{example}"')


class Duration:
    """Marks a float of seconds that is written as a string in the config."""

    @staticmethod
    def __get_pydantic_core_schema__(_source: Any, _handler: GetCoreSchemaHandler) -> Any:
        from pydantic_core import core_schema

        def parse(value: object) -> float:
            if not isinstance(value, str):
                raise ValueError(f'{value!r} is no duration; durations are strings with a unit, such as "5s"')
            return parse_duration(value)

        return core_schema.no_info_plain_validator_function(parse)

    @staticmethod
    def __get_pydantic_json_schema__(_schema: Any, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": PATTERN, "examples": ["500ms", "5s", "1h30m"]}


Seconds = Annotated[float, Duration]


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Where a secret is kept: exactly one of the three is set. `watchdog.secret` reads it; the config never holds it.

    `credential` names a file in systemd's $CREDENTIALS_DIRECTORY (systemd.exec(5), LoadCredential=), `file` a path,
    `env` an environment variable.
    """

    credential: str | None = None
    file: str | None = None
    env: str | None = None
