"""`epoll-watchdog pause`: stop every remedy of a service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from watchdog.cli.orders import order_options, targets
from watchdog.settings import parse_duration


@click.command()
@targets
@click.option("--for", "duration", metavar="DURATION", help="Such as 30m or 2h; without it until resume.")
@click.option("--reason", default="", metavar="TEXT", help="Shown wherever the pause is.")
@order_options
def command(
    services: list[str] | None, duration: str | None, reason: str, give: Callable[[str, dict[str, Any]], None]
) -> None:
    """Stop every remedy of a service, for a time or until resume.

    It is probed and judged as before, and its alerts go on; it is not nudged, and not restarted. A pause is kept over
    restarts of the daemon and of the host. Who paused, and why, is in the status, in the log and in the alerts. A
    remedy that is under way is not called off.

    The order goes over the daemon's Unix socket: it is for root, and for members of the group epoll-watchdog. The file
    /etc/epoll-watchdog/hold stops every remedy of all services as well, also where the daemon does not answer.

    \b
    Exit status:
      0  they are paused
      1  refused: there is no such service, the daemon is starting, or the socket is not for you
      2  wrong usage
      3  the daemon can't be asked

    \b
    Examples:
      epoll-watchdog pause nginx --for 1h --reason "new certificate"
      epoll-watchdog pause --all
    """
    if duration is not None:
        try:
            parse_duration(duration)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--for") from None
    give("/api/v1/pause", {"services": services, "reason": reason, "for": duration})
