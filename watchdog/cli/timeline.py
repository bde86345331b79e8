"""Incidents for people: a table of many, and one as a timeline. It shows and decides nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from watchdog.cli.stored import Incident, Record, done, shortest
from watchdog.cli.terminal import SEVERITIES, bullets, lasting, local, offset, plain, table, wall

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text


def listed(incidents: Sequence[Incident]) -> Table:
    """A line an incident."""
    made = table("ID", "SERVICE", "VERDICT", "OPENED", "LASTED", "DONE", whole=("ID", "OPENED", "LASTED"))
    letters = shortest(incidents)
    for incident in incidents:
        made.add_row(
            incident["id"][:letters],
            plain(incident["service"]),
            plain(verdict(incident), "bold red" if incident["closed"] is None else ""),
            local(incident["opened"])[:-3],
            lasted(incident),
            plain(done(incident) or "nothing"),
        )
    return made


def verdict(incident: Incident) -> str:
    """With how far it is to be trusted."""
    return f"{incident['verdict']} ({incident['certainty']})"


def lasted(incident: Incident) -> str:
    """From its opening to its end; "open 5m" until then."""
    if incident["closed"] is None:
        return f"open {lasting(round(time.time() - wall(incident['opened'])))}"
    return lasting(wall(incident["closed"]) - wall(incident["opened"]))


def timeline(incident: Incident) -> Iterator[RenderableType]:
    """The whole story, with the reasons for each verdict."""
    yield from heading(incident)
    yield plain("")
    made = table("AT", "WHAT", "TOLD", whole=("AT", "WHAT"))
    for record in incident["timeline"]:
        at = offset(wall(record["at"]) - wall(incident["opened"]))
        made.add_row(at, plain(record["kind"], SEVERITIES.get(record["severity"] or "", "")), _told(record))
    yield made


def heading(incident: Incident) -> Iterator[Text]:
    """Which incident it is, and what came of it."""
    yield plain(f"Incident {incident['id']} of {incident['service']}: {verdict(incident)}", "bold")
    first = _first_bad(incident)
    when = f"Opened {local(incident['opened'])}" + (f", {lasting(first)} after the first bad round" if first else "")
    ended = "open since" if incident["closed"] is None else "over after"
    yield plain(f"{when}; {ended} {lasted(incident).removeprefix('open ')}")
    yield plain(f"Done: {done(incident) or 'nothing'}{_stop(incident)}")


def _first_bad(incident: Incident) -> float:
    """Seconds from the first bad round to the opening."""
    since = next((record["detail"]["since"] for record in incident["timeline"] if "since" in record["detail"]), None)
    return max(0.0, round(wall(incident["opened"]) - since, 2)) if since is not None else 0.0


def _stop(incident: Incident) -> str:
    stops = [record["detail"].get("longest_stop_seconds") or 0.0 for record in incident["timeline"]]
    return f"; the longest stop of a thread was {lasting(max(stops))}" if any(stops) else ""


def _told(record: Record) -> RenderableType:
    """The text, and below it what of the detail it does not tell."""
    from rich.console import Group

    more = list(_more(record["detail"]))
    return Group(plain(record["text"]), *([bullets(map(plain, more))] if more else []))


def _more(detail: dict[str, Any]) -> Iterator[str]:
    yield from detail.get("reasons", ())
    yield from (f"not {against}" for against in detail.get("against", ()))
    methods = detail.get("methods", ())
    if len(methods) > 1:
        yield from (f"by {each['method']}: {each['outcome']}, {each['reason']}" for each in methods)
    if hint := detail.get("hint"):
        yield str(hint)
