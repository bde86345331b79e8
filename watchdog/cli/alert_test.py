"""`epoll-watchdog alert-test`: one marked message over a channel, to see it arrive before it is needed."""

from __future__ import annotations

import asyncio
import getpass
import secrets
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from watchdog.config import DEFAULT_FILE, Channel, ConfigInvalid, load

if TYPE_CHECKING:
    from watchdog.alerts.delivery import Delivered, Failed
    from watchdog.store import Letter

KIND = "test"
SERVICE = "alert-test"
UNSENT = 1
USAGE = 2
BAD_CONFIG = 3


@click.command(name="alert-test")
@click.argument("name", metavar="CHANNEL")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="The config that names CHANNEL; conf.d/*.toml beside it is read too.",
)
def command(name: str, path: Path) -> None:
    """Send one test message over a channel of the config.

    It goes the way that real ones go, with the channel's own settings and secrets, and says that it is a test and who
    sent it. It is sent at once and once: no outbox, no second attempt, and the daemon needs not run. A channel for
    certain services, events or severities gets it nevertheless.

    Secrets are read with your own rights. Credentials of the daemon's unit (/etc/epoll-watchdog/credentials) are
    root's: run it as root.

    \b
    Exit status:
      0  the receiver took it
      1  it did not, or could not be reached: it is told why
      2  wrong usage, or the config names no such channel
      3  the config can't be read or is not sound

    \b
    Examples:
      epoll-watchdog alert-test ops
    """
    try:
        channels = load(path).channels
    except ConfigInvalid as error:
        click.echo(str(error), err=True)
        sys.exit(BAD_CONFIG)
    if name not in channels:
        known = ", ".join(sorted(channels)) or "none"
        click.echo(f"epoll-watchdog: {path} has no channel {name!r}; known here: {known}", err=True)
        sys.exit(USAGE)
    began = time.monotonic()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.PollSelector())) as runner:
        result = runner.run(_send(channels[name]))  # no alert waits on epoll, no test of one either
    sys.exit(_told(channels[name], result, time.monotonic() - began))


async def _send(channel: Channel) -> Delivered | Failed:
    """One attempt. A channel's fault is one line here too: its exception might quote a secret."""
    from watchdog.alerts import CHANNELS
    from watchdog.alerts.delivery import Failed

    road = CHANNELS[channel.type].open(channel.settings)
    try:
        return await road.send(letter(channel))
    except Exception as error:
        return Failed(retry=False, error=f"a fault of epoll-watchdog's own: {type(error).__name__}")
    finally:
        await road.close()


def letter(channel: Channel) -> Letter:
    """The message, as severe as the channel asks for, and of an incident of its own: pagers take it for a new one."""
    from watchdog.alerts.routing import Routing
    from watchdog.store import Letter

    routing: Routing = channel.settings
    who, host = _user(), socket.gethostname()
    text = f"This is a test of the channel {channel.name}, sent by {who} on {host} with epoll-watchdog alert-test."
    now = time.time()
    payload = {
        "since": now,
        "verdict": "healthy",
        "certainty": "confirmed",
        "reasons": ["this is a test: nothing is wrong"],
        "against": [],
        "text": text,
        "labels": {},
        "annotations": {},
        "detail": {},
        "times_30d": 0,
        "done": [],
        "kernel": [],
    }
    number = secrets.token_hex(8)
    severity = routing.min_severity
    return Letter(0, channel.name, f"test-{number}", SERVICE, KIND, severity, now, payload, key=number)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def _told(channel: Channel, result: Delivered | Failed, took: float) -> int:
    from watchdog.alerts.delivery import Delivered
    from watchdog.settings import format_duration

    what = f"channel {channel.name} ({channel.type})"
    if isinstance(result, Delivered):
        click.echo(f"{what}: delivered in {format_duration(took)}")
        return 0
    again = " The daemon would try again soon." if result.retry else " Another attempt would go no better."
    click.echo(f"{what}: FAILED after {format_duration(took)}: {result.error}.{again}", err=True)
    return UNSENT
