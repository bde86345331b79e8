"""The command `epoll-watchdog`: one file a sub-command, each imported only when it is called."""

from __future__ import annotations

import importlib

import click

from watchdog import __version__

COMMANDS = {
    "init": "init",
    "run": "run",
    "check": "check",
    "check-config": "check_config",
    "status": "status",
    "incidents": "incidents",
    "explain": "explain",
    "pause": "pause",
    "resume": "resume",
    "ack": "ack",
    "diagnose": "diagnose",
    "nudge": "nudge",
    "drill": "drill",
    "alert-test": "alert_test",
    "replay": "replay",
    "demo": "demo",
    "completion": "completion",
}


class Commands(click.Group):
    """Finds a sub-command in the module of its name."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """In the order a new user meets them."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The sub-command, or None if there is no such."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"watchdog.cli.{COMMANDS[name]}")
        command: click.Command = module.command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="epoll-watchdog")
def main() -> None:
    """Guards services against lost epoll wake-ups.

    A service that answers nobody over its sockets, while it still runs, may have lost a wake-up in the kernel. This
    watchdog knows it by asking over several roads at once, and heals it by a ptrace nudge that costs no connection; if
    that does not help it restarts the service, and it tells people.

    \b
    See it work:        epoll-watchdog demo
    Begin:              epoll-watchdog init
    Check a config:     epoll-watchdog check-config /etc/epoll-watchdog/config.toml
    Guard:              epoll-watchdog run
    See what happened:  epoll-watchdog incidents
    Ask why it is dark: epoll-watchdog diagnose SERVICE
    Rehearse it:        epoll-watchdog drill SERVICE
    """
