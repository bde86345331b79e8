"""A state carried over a reboot: CLOCK_BOOTTIME begins anew with each boot."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from watchdog.model import State


def shifted(state: State, by: float) -> State:
    """The state with every time moved by `by` seconds. Every float in a state is a time."""
    moved: State = _moved(state, by)
    return moved


def _moved(value: Any, by: float) -> Any:
    if isinstance(value, float):
        return value + by
    if isinstance(value, tuple):
        return tuple(_moved(item, by) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _moved(getattr(value, field.name), by) for field in fields(value)})
    return value
