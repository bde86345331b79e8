"""Letters as the daemon writes them."""

from __future__ import annotations

from typing import Any

from watchdog.store import Letter


def letter(**changed: Any) -> Letter:
    """The opening of an incident of ravendb, with changes."""
    values: dict[str, Any] = {
        "id": 7,
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
        },
    }
    return Letter(**values | changed)
