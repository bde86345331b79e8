"""Letters as the daemon writes them."""

from __future__ import annotations

from typing import Any

from watchdog.store import Letter


def letter(**changed: Any) -> Letter:
    """The opening of an incident of ravendb, with changes."""
    values: dict[str, Any] = {
        "id": 7,
        "key": "7f3a",
        "channel": "ops",
        "incident": "01JINCIDENT",
        "service": "ravendb",
        "kind": "opened",
        "severity": "warning",
        "created": 1_700_000_000.25,
        "payload": {
            "verdict": "epoll_stall",
            "certainty": "suspected",
            "reasons": ["sockets dark, a witness alive"],
            "since": 1_699_999_998.0,
            "text": "the event loop sleeps",
            "labels": {"team": "storage"},
            "annotations": {"runbook_url": "https://runbooks.example.org/ravendb"},
            "detail": {"tried": []},
            "times_30d": 3,
            "done": [
                {"at": 1_699_999_999.0, "rung": "nudge", "outcome": "refused", "reason": "Yama forbids it"},
            ],
            "kernel": [{"id": "epoll-lost", "text": "it loses wake-ups", "fixed_in": "5.4.226"}],
        },
    }
    return Letter(**values | changed)
