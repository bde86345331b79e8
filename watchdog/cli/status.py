"""`epoll-watchdog status`: what the running daemon sees, once or as it goes on."""

from __future__ import annotations

import json
import signal
import sys
import time

import click

from watchdog.cli.api import Daemon, Unanswered, daemon_options
from watchdog.cli.duration import Duration
from watchdog.cli.seen import Seen, Watcher

SHORTEST, LONGEST = 0.2, 3600.0  # s between two looks


@click.command()
@daemon_options
@click.option("--watch", is_flag=True, help="Go on looking until Ctrl-C, in place of what was shown.")
@click.option(
    "--interval",
    type=Duration(SHORTEST, LONGEST),
    default="1s",
    show_default=True,
    help="With --watch: from one look to the next.",
)
@click.option("--json", "as_json", is_flag=True, help="What the API says, and the accept queues.")
def command(daemon: Daemon, watch: bool, interval: float, as_json: bool) -> None:
    """Show what the running daemon sees.

    Every guarded service with its verdict; what each probe last found and how long ago that was; the fullest of its
    accept queues and how many it takes; what is left of its budgets; its incident, and what waits or was passed over.
    Below stand the reasons of those that are not healthy. With --watch a probe that gives no answer tells when it last
    did, as far as it was seen since the watching began; a daemon that is restarted meanwhile is waited for.

    \b
    Exit status (with --watch, of what was seen last):
      0  all are healthy
      1  one is not
      2  wrong usage
      3  the daemon can't be asked

    \b
    Examples:
      epoll-watchdog status
      epoll-watchdog status --watch --interval 5s
      epoll-watchdog status --json | jq '.services[] | select(.healthy | not) | .name'
    """
    watcher = Watcher(daemon)
    if not watch:
        seen = watcher.look()
        _show(seen, as_json)
        sys.exit(0 if seen.healthy else 1)
    if as_json:
        raise click.UsageError("--watch is for people: ask for --json as often as you need it.")
    if not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal; without one, call it again and again.")
    sys.exit(_watch(watcher, interval))


def _show(seen: Seen, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(seen.as_json(), indent=2))
        return
    from watchdog.cli.overview import board
    from watchdog.cli.terminal import console

    console().print(board(seen))


def _watch(watcher: Watcher, interval: float) -> int:
    """Until somebody ends it; then what was seen last stays on the terminal. The exit code."""
    from rich.live import Live

    from watchdog.cli.overview import board, headed, lost
    from watchdog.cli.terminal import console

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the terminal is left as it is while we watch
    screen, seen, error = console(), watcher.look(), ""
    try:
        with Live(console=screen, screen=True, auto_refresh=False) as live:
            while True:
                live.update(headed(lost(error, seen) if error else board(seen), interval), refresh=True)
                time.sleep(interval)
                try:
                    seen, error = watcher.look(), ""
                except Unanswered as unanswered:
                    error = unanswered.message
    except KeyboardInterrupt:
        screen.print(lost(error, seen) if error else board(seen))
    return Unanswered.exit_code if error else int(not seen.healthy)
