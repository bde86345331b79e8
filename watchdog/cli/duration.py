"""Options that are a time, in the words of the config."""

from __future__ import annotations

from typing import Any

import click

from watchdog.settings import format_duration, parse_duration


class Duration(click.ParamType[float]):
    """Seconds, from `shortest` to `longest`."""

    name = "DURATION"

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = shortest
        self._longest = longest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        try:
            seconds = value if isinstance(value, float) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not self._shortest <= seconds <= self._longest:
            least, most = format_duration(self._shortest), format_duration(self._longest)
            self.fail(f'{value!r} is out of range; give "{least}" to "{most}"', param, ctx)
        return float(seconds)
