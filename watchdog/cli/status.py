"""`epoll-watchdog status`: what the running daemon sees."""

from __future__ import annotations

import http.client
import json
import sys
import urllib.error
import urllib.request
from typing import Any

import click

TIMEOUT = 5.0  # s
UNREACHABLE = 3


@click.command()
@click.option("--url", default="http://127.0.0.1:9797", show_default=True, help="Where the daemon listens.")
@click.option("--json", "as_json", is_flag=True, help="What the API says, as it says it.")
def command(url: str, as_json: bool) -> None:
    """Show what the running daemon sees.

    Every guarded service with its verdict, its probes, what is left of its budgets, and its incident.

    The exit code is 0 when all are healthy, 1 when one is not, 3 when the daemon can't be asked.
    """
    try:
        services = _ask(url)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        click.echo(f"epoll-watchdog: the daemon can't be asked at {url}: {reason}", err=True)
        click.echo("Does it run?  systemctl status epoll-watchdog", err=True)
        sys.exit(UNREACHABLE)
    if as_json:
        click.echo(json.dumps({"services": services}, indent=2))
    else:
        _show(services)
    sys.exit(0 if all(service["healthy"] for service in services) else 1)


def _ask(url: str) -> list[dict[str, Any]]:
    if not url.startswith(("http://", "https://")):
        raise ValueError('the URL must begin with "http://" or "https://"')
    with urllib.request.urlopen(f"{url.rstrip('/')}/api/v1/services", timeout=TIMEOUT) as answer:
        services: list[dict[str, Any]] = json.load(answer)["services"]
    return services


def _show(services: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("SERVICE", "VERDICT", "PROBES", "LEFT", "NOTES"):
        table.add_column(heading, overflow="fold")
    for service in services:
        verdict = service["verdict"] if service["healthy"] else f"{service['verdict']} ({service['certainty']})"
        table.add_row(
            service["name"],
            Text(verdict, style="green" if service["healthy"] else "bold red"),
            _probes(service["probes"]),
            ", ".join(f"{count} {rung}" for rung, count in service["budgets"].items()),
            _notes(service),
        )
    console = Console(highlight=False)
    console.print(table)
    for service in services:
        for line in _below(service):
            console.print(Padding(Text(f"{service['name']}: {line}"), (0, 0, 0, 2)))


def _below(service: dict[str, Any]) -> list[str]:
    """What is told of a service in whole sentences."""
    lines = [] if service["healthy"] else list(service["reasons"])
    if service["held_for"]:
        lines.append(f"the next rung waits: {service['held_for']}")
    return lines


def _probes(probes: dict[str, dict[str, Any]]) -> str:
    return ", ".join(_probe(name, probe) for name, probe in probes.items())


def _probe(name: str, probe: dict[str, Any]) -> str:
    if probe["kind"] == "alive":
        return f"{name} {probe['latency_s'] * 1000:.1f} ms"
    return f"{name} {probe['kind'] or 'not asked yet'}"


def _notes(service: dict[str, Any]) -> str:
    notes = [f"mode {service['mode']}"] if service["mode"] != "full" else []
    if service["paused"]:
        notes.append("paused")
    if service["incident"] is not None:
        notes.append(f"incident {service['incident'][:8]}")
    notes += [f"waits: {hold}" for hold in service["holds"]]
    notes += [f"passed over: {passed}" for passed in service["passes"]]
    return ", ".join(notes)
