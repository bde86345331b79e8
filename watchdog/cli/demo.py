"""`epoll-watchdog demo`: the main job, shown."""

from __future__ import annotations

import click


@click.command(name="demo")
@click.option("--once", is_flag=True, help="Heal one stall, then end: 0 if a nudge healed it, 1 if not.")
@click.option("--pause", default=2.0, show_default=True, metavar="SECONDS", help="From a healed stall to the next.")
@click.option("--no-color", is_flag=True, help="Without colours; NO_COLOR in the environment does the same.")
def command(once: bool, pause: float, no_color: bool) -> None:
    """Show a service that loses wake-ups, and how it is healed.

    Starts a small service, guards it with the real daemon, and makes its event loop lose a wake-up every few seconds:
    its sockets go dark while SNMP goes on answering. The daemon finds it, nudges it by ptrace, and sees it answer
    again. It prints the address of the daemon's status page, where a browser shows the same. Nothing outside a
    temporary directory and 127.0.0.1 is touched. Ctrl-C ends it.
    """
    from watchdog.demo.run import run

    raise SystemExit(run(once=once, color=not no_color, pause_s=pause))
