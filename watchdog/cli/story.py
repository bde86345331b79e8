"""How a drill is told: line by line as it goes, or as JSON at its end."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

import click

from watchdog.cli.rehearsal import Record, Rehearsal
from watchdog.helper.protocol import Reply
from watchdog.settings import format_duration


class Teller:
    """Tells the story as it comes, or as JSON at its end."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._threads = 0
        self._width = min(shutil.get_terminal_size((80, 24)).columns, 100)

    def begin(self, view: Mapping[str, Any], at_most: float) -> None:
        """What is about to be done."""
        left = view["budgets"]["nudge"]
        who = f"{view['name']} is healthy (PID {view['pid']}, mode {view['mode']}, nudges left: {left})"
        self._say(f"{who}. It goes dark now, for {format_duration(at_most)} at most.\n")

    def stalled(self, reply: Reply) -> None:
        """The threads that are dark."""
        self._threads = int(reply.detail["stalled"])
        self._line(0.0, "dark", f"{_threads(self._threads)} sent to wait on an empty epoll")

    def record(self, rehearsal: Rehearsal, record: Record) -> None:
        """One of the daemon's."""
        self._line(rehearsal.since(record), record["kind"], record["text"])

    def woken(self, rehearsal: Rehearsal) -> None:
        """None of them is dark any more."""
        self._line(rehearsal.woken or 0.0, "awake", f"{_threads(self._threads)} at work again")

    def end(self, rehearsal: Rehearsal) -> None:
        """What came of it."""
        if self._as_json:
            click.echo(json.dumps(_told(rehearsal, self._threads), indent=2))
        else:
            click.echo(f"\n{_verdict(rehearsal)}")

    def _line(self, seconds: float, kind: str, text: str) -> None:
        head = f"{seconds:8.2f} s  {kind:<13} "
        self._say(textwrap.fill(text, self._width, initial_indent=head, subsequent_indent=" " * len(head)))

    def _say(self, text: str) -> None:
        if not self._as_json:
            click.echo(text if text.startswith(" ") else textwrap.fill(text, self._width) + "\n" * text.endswith("\n"))


def _threads(number: int) -> str:
    return f"{number} thread{'' if number == 1 else 's'}"


def _verdict(rehearsal: Rehearsal) -> str:
    if rehearsal.woken is None:
        return "It is dark still, and the helper could not undo the drill: see its journal."
    if not rehearsal.healed:
        return f"The daemon did not heal it: the drill was over after {rehearsal.woken:.2f} s."
    told = f"Healed by the daemon in {rehearsal.woken:.2f} s, by {rehearsal.healed_by}"
    if rehearsal.resolved is None:
        return f"{told}, but the incident is not over."
    return f"{told}; the incident was over after {rehearsal.resolved:.2f} s."


def _told(rehearsal: Rehearsal, threads: int) -> Mapping[str, Any]:
    return {
        "service": rehearsal.service,
        "threads": threads,
        "woken_seconds": rehearsal.woken,
        "resolved_seconds": rehearsal.resolved,
        "healed_by": rehearsal.healed_by,
        "incident": rehearsal.incident,
        "timeline": rehearsal.timeline,
    }
