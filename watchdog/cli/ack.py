"""`epoll-watchdog ack`: somebody is at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import click

from watchdog.cli.asked import incident_ids
from watchdog.cli.orders import order_options


@click.command()
@click.argument("incident", metavar="ID", shell_complete=incident_ids)
@order_options
def command(incident: str, give: Callable[[str, dict[str, Any]], None]) -> None:
    """Acknowledge an open incident: no reminder of it is sent any more.

    Remedies go on, and so do the alerts of what is done and of its end. The channels are told who acknowledged it;
    PagerDuty marks its alert as acknowledged. ID is as the status or an alert tells it; its first letters do.

    \b
    Exit status:
      0  it is acknowledged
      1  refused: no open incident has this id, the daemon is starting, or the socket is not for you
      2  wrong usage
      3  the daemon can't be asked

    \b
    Examples:
      epoll-watchdog ack 0192c5f4
    """
    give(f"/api/v1/incidents/{quote(incident, safe='')}/ack", {})
