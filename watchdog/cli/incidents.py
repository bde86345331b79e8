"""`epoll-watchdog incidents`: what the daemon keeps of the past, as a table, or one incident as a timeline."""

from __future__ import annotations

import json

import click

from watchdog.cli.api import Daemon, daemon_options
from watchdog.cli.asked import incident_ids, service_names
from watchdog.cli.stored import MOST, Incident, newest, one, still_open

FEW = 20  # where no limit is given


@click.command()
@click.argument("incident", metavar="[ID]", required=False, shell_complete=incident_ids)
@click.option("--service", metavar="NAME", shell_complete=service_names, help="Of this service only.")
@click.option("--limit", type=click.IntRange(1, MOST), help=f"No more than so many; {FEW} unless told.")
@click.option("--open", "only_open", is_flag=True, help="Only those that are not over.")
@daemon_options
@click.option("--json", "as_json", is_flag=True, help="What the API says, as it says it.")
def command(
    incident: str | None, service: str | None, limit: int | None, only_open: bool, daemon: Daemon, as_json: bool
) -> None:
    """List incidents, newest first, or show one as a timeline.

    An incident lasts from the diagnosis that opened it to recovery. The table tells what was wrong, when and how long,
    and what was done. With an ID, or as many of its first letters as no other incident has, the whole of one is shown:
    each verdict with its reasons and with what spoke against others, each remedy with its outcome, what waited or was
    passed over and why, and how long after the opening it was. epoll-watchdog explain ID tells why.

    The daemon tells the newest 500; epoll-watchdog replay reads all that its database keeps.

    \b
    Exit status:
      0  they were shown, or there is none
      2  wrong usage; no such incident or service, or an ID that may mean several
      3  the daemon can't be asked

    \b
    Examples:
      epoll-watchdog incidents --open
      epoll-watchdog incidents --service nginx --limit 5
      epoll-watchdog incidents 0a1b2c3d
      epoll-watchdog incidents --json | jq '.incidents[] | select(.verdict == "epoll_stall") | .opened'
    """
    if incident is not None:
        if service is not None or limit is not None or only_open:
            raise click.UsageError("An ID stands alone: --service, --limit and --open choose from the list.")
        _show_one(one(daemon, incident), as_json)
        return
    found = (still_open if only_open else newest)(daemon, service, limit or FEW)
    if as_json:
        click.echo(json.dumps({"incidents": found}, indent=2))
    else:
        _show_all(found, service, only_open)


def _show_one(incident: Incident, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(incident, indent=2))
        return
    from watchdog.cli.terminal import console
    from watchdog.cli.timeline import timeline

    screen = console()
    for part in timeline(incident):
        screen.print(part)


def _show_all(incidents: list[Incident], service: str | None, only_open: bool) -> None:
    from watchdog.cli.terminal import console
    from watchdog.cli.timeline import listed

    if incidents:
        console().print(listed(incidents))
        return
    whose = f" of {service}" if service is not None else ""
    click.echo(f"No incident{whose} is {'open' if only_open else 'kept'}.")
