"""`epoll-watchdog resume`: the end of a pause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from watchdog.cli.orders import order_options, targets


@click.command()
@targets
@order_options
def command(services: list[str] | None, give: Callable[[str, dict[str, Any]], None]) -> None:
    """End the pause of a service: its remedies may be used again.

    What waits is done at the next round, within its budgets. A maintenance window of the configuration is no pause, and
    goes on; so does the hold file.

    \b
    Exit status:
      0  none of them is paused any more
      1  refused: there is no such service, the daemon is starting, or the socket is not for you
      2  wrong usage
      3  the daemon can't be asked

    \b
    Examples:
      epoll-watchdog resume nginx
      epoll-watchdog resume --all
    """
    give("/api/v1/resume", {"services": services})
