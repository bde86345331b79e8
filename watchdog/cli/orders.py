"""What the commands that give orders share: the daemon's Unix socket, who asks, and how it is told what came of it."""

from __future__ import annotations

import functools
import getpass
import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from watchdog.cli.api import Daemon, Denied

SOCKET = Path("/run/epoll-watchdog/control/control.sock")  # the unit's RuntimeDirectory=
NOT_DONE = 1  # exit code


class Refused(click.ClickException):
    """The daemon did not obey."""

    exit_code = NOT_DONE


def order_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options of an order, and hands it `give`: the path and what is said, to an exit code."""

    @click.option(
        "--socket",
        type=click.Path(path_type=Path, readable=False),
        default=SOCKET,
        show_default=True,
        help="The daemon's Unix socket.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
    @functools.wraps(command)
    def with_orders(socket: Path, as_json: bool, **others: Any) -> Any:
        return command(give=functools.partial(_give, socket, as_json), **others)

    return with_orders


def targets(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command SERVICE… or --all, and hands it `services`: the names, or None for all."""
    from watchdog.cli.asked import service_names

    @click.argument("services", metavar="[SERVICE]...", nargs=-1, shell_complete=service_names)
    @click.option("--all", "every", is_flag=True, help="Every service.")
    @functools.wraps(command)
    def with_targets(services: tuple[str, ...], every: bool, **others: Any) -> Any:
        if every == bool(services):
            raise click.UsageError("Name the services, or say --all.")
        return command(services=None if every else list(services), **others)

    return with_targets


def _give(socket: Path, as_json: bool, path: str, said: Mapping[str, Any]) -> None:
    """Give the order and tell what came of it; ends the command."""
    try:
        if socket.exists() and not os.access(socket, os.W_OK):
            raise PermissionError
    except PermissionError:  # also where its directory may not be searched
        raise Refused(f"{socket} is for root and its group: run this with sudo.") from None
    try:
        answer = Daemon(f"unix:{socket}").post(path, {**said, "asked_by": _asker()})
    except Denied as denied:
        raise Refused(denied.said or str(denied)) from None
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        _tell(answer)
    sys.exit(NOT_DONE if any(each["unsaved"] and not each["changed"] for each in answer["services"]) else 0)


def _asker() -> str:
    """Whom sudo runs it for, else who runs it; the kernel tells the daemon who may."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return ""


def _tell(answer: Mapping[str, Any]) -> None:
    from watchdog.cli.terminal import console, plain

    screen = console()
    for each in answer["services"]:
        screen.print(plain(f"{each['service']}: {each['text']}{_until(each)}"))
        if each["unsaved"]:
            screen.print(plain(f"  {each['unsaved']}", "yellow"))
    if not answer["services"]:
        screen.print(plain("No service is guarded."))


def _until(told: Mapping[str, Any]) -> str:
    if told["until"] is None:
        return ""
    return datetime.fromisoformat(told["until"]).astimezone().strftime(" until %a %H:%M:%S")
