"""What a shell may complete that only the daemon knows: names of services, ids of incidents.

Rules of this file: a completion never fails and never complains; where the daemon can't be asked, nothing is offered.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from watchdog.cli.api import Daemon
from watchdog.cli.stored import newest, shortest

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

OFFERED = 50  # incidents


def service_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The services that the daemon guards."""
    try:
        views = _daemon(ctx).get("/api/v1/services")["services"]
    except (click.ClickException, OSError):
        return []
    return _items(((view["name"], view["verdict"]) for view in views), incomplete)


def incident_ids(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The newest incidents, by the first letters of their ids."""
    try:
        found = newest(_daemon(ctx), None, OFFERED)
    except (click.ClickException, OSError):
        return []
    letters = shortest(found)
    return _items(((each["id"][:letters], f"{each['service']}: {each['verdict']}") for each in found), incomplete)


def _daemon(ctx: click.Context) -> Daemon:
    """As the line that is being completed names it."""
    given = ctx.params
    if (control := given.get("socket")) is not None and os.access(control, os.W_OK):
        return Daemon(f"unix:{control}")
    password = given.get("password_file")
    return Daemon(
        given.get("url") or "http://127.0.0.1:9797",
        given.get("ca_file"),
        given.get("user"),
        password.readline().rstrip("\r\n") if password is not None else None,
    )


def _items(words: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(word, help=about) for word, about in words if word.startswith(incomplete)]
