"""A state carried over a reboot: CLOCK_BOOTTIME begins anew with each boot."""

from __future__ import annotations

from dataclasses import replace

from watchdog.model import State


def shifted(state: State, by: float) -> State:
    """The state with every time moved by `by` seconds."""

    def move(moment: float | None) -> float | None:
        return None if moment is None else moment + by

    pause, incident, pending = state.pause, state.incident, state.pending
    if pause is not None:
        pause = replace(pause, until=move(pause.until))
    if incident is not None:
        incident = replace(
            incident,
            since=incident.since + by,
            opened=incident.opened + by,
            settle_until=move(incident.settle_until),
            told=move(incident.told),
            exhausted=move(incident.exhausted),
        )
    if pending is not None:
        pending = replace(pending, at=pending.at + by)
    return replace(
        state,
        pause=pause,
        incident=incident,
        pending=pending,
        nudges=tuple(at + by for at in state.nudges),
        restarts=tuple(at + by for at in state.restarts),
        captures=tuple(at + by for at in state.captures),
    )
