"""Incidents as the daemon's API tells them: asked for, found by the beginning of an id, and what was done in them.

Rules of this file. The API tells the newest `MOST`; whatever can't be told from them is said to be so. An open incident
is its service's newest, so it is found however many there are.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from watchdog.cli.api import Daemon
from watchdog.deeds import deeds

Incident = Mapping[str, Any]
Record = Mapping[str, Any]

MOST = 500  # that the API tells at once
DATABASE = "/var/lib/epoll-watchdog/state.db"  # unless the config's state_directory says otherwise
SHORT = 8  # letters of an id, or more where they would mean two


def newest(daemon: Daemon, service: str | None, limit: int) -> list[Incident]:
    """Newest first. Raises `UsageError` for a service of which nothing is known."""
    named = f"&service={quote(service, safe='')}" if service is not None else ""
    found: list[Incident] = daemon.get(f"/api/v1/incidents?limit={limit}{named}")["incidents"]
    if service is not None and not found:
        _check_guarded(daemon, service)
    return found


def _check_guarded(daemon: Daemon, service: str) -> None:
    names = [view["name"] for view in daemon.get("/api/v1/services")["services"]]
    if service not in names:
        close = difflib.get_close_matches(service, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"It guards: {', '.join(names) or 'nothing'}."
        raise click.UsageError(f"The daemon guards no service {service!r}, and keeps no incident of it; {hint}")


def still_open(daemon: Daemon, service: str | None, limit: int) -> list[Incident]:
    """Those that are open, newest first."""
    found = [incident for incident in newest(daemon, service, MOST) if incident["closed"] is None]
    known = {incident["id"] for incident in found}
    for view in daemon.get("/api/v1/services")["services"]:
        if view["incident"] not in (None, *known) and service in (None, view["name"]):
            found += [each for each in newest(daemon, view["name"], 1) if each["closed"] is None]
    return sorted(found, key=lambda incident: str(incident["opened"]), reverse=True)[:limit]


def one(daemon: Daemon, beginning: str) -> Incident:
    """The incident whose id begins so. Raises `UsageError` where there is none, or more than one."""
    wanted = beginning.lower()
    incidents = newest(daemon, None, MOST)
    found = [incident for incident in incidents if incident["id"].startswith(wanted)]
    exact = [incident for incident in found if incident["id"] == wanted]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        letters = shortest(found)
        ids = ", ".join(f"{incident['id'][:letters]} ({incident['service']})" for incident in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise click.UsageError(f"{beginning!r} may be {ids}{more}; give more letters.")
    if len(incidents) < MOST:
        raise click.UsageError(f"No incident's id begins with {beginning!r}; epoll-watchdog incidents lists them.")
    raise click.UsageError(
        f"Of the newest {MOST} incidents none has an id that begins with {beginning!r}. Older ones are in the daemon's "
        f"database: epoll-watchdog replay {DATABASE} --incident {beginning}"
    )


def shortest(incidents: Sequence[Incident]) -> int:
    """How many letters tell their ids apart; no fewer than `SHORT`."""
    ids = {incident["id"] for incident in incidents}
    letters = SHORT
    while len({each[:letters] for each in ids}) < len(ids):
        letters += 1
    return letters


def done(incident: Incident) -> str:
    """What was done in it; empty: nothing."""
    return deeds((record["kind"], record["detail"]) for record in incident["timeline"])


def reasoned(incident: Incident) -> Record | None:
    """The newest record that tells why the verdict is what it is."""
    return next((record for record in reversed(incident["timeline"]) if record["detail"].get("reasons")), None)
