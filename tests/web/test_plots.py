"""The pictures of a service's past: that they tell what was, and when."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from tests.web.test_web import RAVENDB
from watchdog.history import HOURS, MINUTES, History, Span
from watchdog.model import Kind, Observation
from watchdog.reading import Family, Queue, Queues
from watchdog.web import plots
from watchdog.web.cards import card

BEGAN = 1_700_000_400.0  # of the wall clock: a whole minute
LASTED = 60.0
BOOTED = BEGAN - 600_000.0  # the wall clock's time where the daemon's is 0: whole minutes begin together


def clock(wall: float, form: str = "%H:%M:%S") -> str:
    """As the host's journal has it."""
    return datetime.fromtimestamp(wall).strftime(form)  # noqa: DTZ006


def told(span: Span, now: float, booted: float = BOOTED) -> list[str]:
    """What the strip tells of what was not well, where a probe was silent for `LASTED` seconds."""
    history, at = History(), BEGAN - 120
    while at <= now:
        kind = Kind.SILENT if BEGAN <= at < BEGAN + LASTED else Kind.ALIVE
        history.looked("web", at - booted, {"tcp": Observation(kind, 0.001, "")}, 5.0)
        at += 5.0
    track = history.of("web", now - booted).probes["tcp"][span]
    return re.findall(r"<rect [^>]*><title>(.*?)</title>", plots.strip("tcp", track, span, now))


@pytest.mark.parametrize("later", [60.0, 61.0, 89.75, 119.5, 120.0, 203.0])
def test_a_strip_tells_when_it_was_the_same_at_each_refresh(later: float) -> None:
    now = BEGAN + later
    assert told(MINUTES, now) == [f"silent, {clock(BEGAN)} to {clock(BEGAN + 60)}"]
    assert told(HOURS, now) == [f"silent, {clock(BEGAN, '%H:%M')} to {clock(BEGAN + 60, '%H:%M')}"]


@pytest.mark.parametrize("later", [60.0, 61.0, 89.75, 119.5, 120.0, 203.0])
def test_also_where_the_clocks_minutes_begin_apart(later: float) -> None:
    """The daemon's clock began 18 s after a whole minute: the buckets of a minute are from :18 to :18."""
    now = BEGAN + later
    assert told(MINUTES, now, BOOTED + 18) == [f"silent, {clock(BEGAN - 2)} to {clock(BEGAN + 58)}"]
    assert told(HOURS, now, BOOTED + 18) == [
        f"silent, {clock(BEGAN - 42, '%H:%M')} to {clock(min(BEGAN + 78, now), '%H:%M')}"
    ]


def test_what_lasts_is_told_up_to_now() -> None:
    assert told(MINUTES, BEGAN + 32) == [f"silent, {clock(BEGAN)} to {clock(BEGAN + 32)}"]
    assert told(HOURS, BEGAN + 32) == [f"silent, {clock(BEGAN, '%H:%M')}"]


def drawn(*queues: Queue) -> tuple[str, list[str], str]:
    """What the plot of these accept queues says, the tones of its blocks, and its top."""
    history = History()
    history.queued("ravendb", 60_000.0, Queues(60_000.0, queues))
    waiting = card(RAVENDB, history.of("ravendb", 60_000.0), BEGAN).waiting
    assert waiting is not None
    [label] = re.findall(r'aria-label="(.*?)"', waiting.plot)
    return label.rpartition(": ")[2], re.findall(r'<rect class="(.*?)"', waiting.plot), waiting.top


def public(length: int) -> Queue:
    """haproxy's listener for its clients."""
    return Queue(1, Family.TCP, "*:443", length, 4096)


def admin(length: int) -> Queue:
    """And that for its operator."""
    return Queue(2, Family.UNIX, "/run/haproxy/admin.sock", length, 10)


def test_a_queue_is_not_measured_by_another_ones_limit() -> None:
    assert drawn(public(60), admin(0)) == ("up to 60", ["wait"], "100")


def test_that_one_of_them_is_full_is_told_though_another_is_longer() -> None:
    assert drawn(public(60), admin(11)) == ("up to 60, full 5s", ["bad"], "100")


def test_a_queue_is_full_where_no_further_connection_is_taken() -> None:
    assert drawn(admin(10)) == ("up to 10 of 10", ["wait"], "10")
    assert drawn(admin(11)) == ("up to 11 of 10, full 5s", ["bad"], "20")


def test_a_limit_that_all_have_is_told() -> None:
    assert drawn(public(60), public(2000)) == ("up to 2000 of 4096", ["wait"], "4096")
