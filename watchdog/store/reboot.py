"""A state carried over a reboot: CLOCK_BOOTTIME begins anew with each boot."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from watchdog.model import State


def shifted(state: State, by: float) -> State:
    """The state with every time moved by `by` seconds. Every float in a state is a time."""
    moved: State = _moved(state, by)
    return moved


def earlier_pause(state: State, now: float, wall: float, committed: float) -> State:
    """A pause was promised an end of the wall clock, too; it counts unless that clock was set back since the commit."""
    pause = state.pause
    if pause is None or pause.until is None or pause.until_wall is None or wall < committed:
        return state
    return replace(state, pause=replace(pause, until=min(pause.until, now + pause.until_wall - wall)))


def _moved(value: Any, by: float) -> Any:
    if isinstance(value, float):
        return value + by
    if isinstance(value, tuple):
        return tuple(_moved(item, by) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _moved(getattr(value, field.name), by) for field in fields(value)})
    return value
