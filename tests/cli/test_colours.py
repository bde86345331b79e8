"""What the reading commands show in a terminal: colours, unless NO_COLOR is set, and no more than 80 columns."""

from __future__ import annotations

import re

import pytest

from tests.cli.asking import DARK, HEALED, HEALTHY, STANDING, Daemon
from tests.cli.terminal import terminal

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")
READING = [("status",), ("incidents",), ("incidents", "01234"), ("explain", "01234")]


@pytest.fixture
def seen(daemon: Daemon) -> Daemon:
    """It has something to show."""
    daemon.shown, daemon.stored = [DARK, HEALTHY], [HEALED, STANDING]
    return daemon


@pytest.mark.parametrize("command", READING, ids=" ".join)
async def test_there_are_colours_in_a_terminal(seen: Daemon, command: tuple[str, ...]) -> None:
    async with terminal(*command, "--url", f"http://{seen.address}") as shown:
        await shown.finished()
    assert COLOUR.search(shown.shown)


@pytest.mark.parametrize("command", READING, ids=" ".join)
async def test_there_are_none_where_nobody_wants_them(seen: Daemon, command: tuple[str, ...]) -> None:
    async with terminal(*command, "--url", f"http://{seen.address}", NO_COLOR="1") as shown:
        await shown.finished()
    assert not COLOUR.search(shown.shown)
    assert "epoll_stall" in shown.shown
