"""`epoll-watchdog run`: the daemon, in the foreground."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from watchdog.config import DEFAULT_FILE, ConfigInvalid, load

BAD_CONFIG = 78  # EX_CONFIG of sysexits.h: our unit tells systemd not to try again (RestartPreventExitStatus=)


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="The config; conf.d/*.toml beside it is read too.",
)
@click.option(
    "--helper",
    type=click.Path(path_type=Path),
    help="The socket of epoll-watchdog-helper.socket. Without it, the helper is started as a child.",
)
@click.option("--verbose", "-v", is_flag=True, help="Log more.")
def command(path: Path, helper: Path | None, verbose: bool) -> None:
    """Guard the services of a config, until SIGTERM.

    Nothing starts with a bad config: every error is told, and the exit code is 78. It is 1 where the address of the
    metrics is taken. SIGHUP reads the config again; if the new one is bad, the old one stays in force.
    """
    from watchdog import daemon, log
    from watchdog.web.server import CannotListen

    log.set_up(verbose=verbose)
    try:
        daemon.run(path, load(path), helper)
    except ConfigInvalid as error:
        click.echo(str(error), err=True)
        sys.exit(BAD_CONFIG)
    except CannotListen as error:
        click.echo(f"epoll-watchdog: {error}", err=True)
        sys.exit(1)
