"""`epoll-watchdog status`: what the running daemon sees."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from watchdog.cli.api import Daemon, daemon_options


@click.command()
@daemon_options
@click.option("--json", "as_json", is_flag=True, help="What the API says, as it says it.")
def command(daemon: Daemon, as_json: bool) -> None:
    """Show what the running daemon sees.

    Every guarded service with its verdict, its probes, what is left of its budgets, and its incident.

    The exit code is 0 when all are healthy, 1 when one is not, 3 when the daemon can't be asked.
    """
    services: list[dict[str, Any]] = daemon.get("/api/v1/services")["services"]
    if as_json:
        click.echo(json.dumps({"services": services}, indent=2))
    else:
        _show(services)
    sys.exit(0 if all(service["healthy"] for service in services) else 1)


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
