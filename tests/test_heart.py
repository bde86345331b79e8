from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchdog.heart import PERIOD, Heart, notify, watchdog_interval


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that systemd listens on; the watchdog wants to hear of us each 400 ms."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "800000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        yield listening


def test_systemd_is_told_line_by_line(systemd: socket.socket) -> None:
    notify("RELOADING=1", "MONOTONIC_USEC=5")
    assert systemd.recv(100) == b"RELOADING=1\nMONOTONIC_USEC=5"


def test_half_the_time_that_systemd_allows_is_taken(systemd: socket.socket) -> None:
    assert watchdog_interval() == 0.4


def test_a_watchdog_meant_for_another_process_is_not_fed(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_interval() is None


def test_where_systemd_does_not_watch_nobody_is_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert watchdog_interval() is None


async def test_the_watchdog_is_fed_while_the_loop_ticks(systemd: socket.socket) -> None:
    beating = asyncio.create_task(Heart(lambda _: None).beat())
    fed = await asyncio.to_thread(systemd.recv, 100)
    beating.cancel()
    assert fed == b"WATCHDOG=1"


async def test_the_watchdog_is_not_fed_while_the_loop_is_blocked(systemd: socket.socket) -> None:
    heart = Heart(lambda _: None)
    beating = asyncio.create_task(heart.beat())
    await asyncio.to_thread(systemd.recv, 100)
    time.sleep(0.9)  # noqa: ASYNC251 - the loop is blocked, this is the fault itself
    systemd.setblocking(False)
    late = []
    while True:
        try:
            late.append(systemd.recv(100))
        except BlockingIOError:
            break
    beating.cancel()
    assert len(late) <= 1  # one that was due just after the last tick


async def test_a_blocked_loop_is_seen_in_the_lag() -> None:
    lags: list[float] = []
    told = asyncio.Event()

    def tell(lag: float) -> None:
        lags.append(lag)
        told.set()

    beating = asyncio.create_task(Heart(tell).beat())
    await asyncio.sleep(0)
    time.sleep(PERIOD + 0.2)  # noqa: ASYNC251 - as above
    await asyncio.wait_for(told.wait(), 5)
    beating.cancel()
    assert lags[0] >= 0.2


async def test_the_lag_is_the_worst_of_the_last_second() -> None:
    lags: list[float] = []
    heart = Heart(lags.append)
    beating = asyncio.create_task(heart.beat())
    await asyncio.sleep(0)
    time.sleep(PERIOD + 0.2)  # noqa: ASYNC251 - as above
    overdue = heart.lag
    while len(lags) < 2:  # noqa: ASYNC110 - the second tick tells no event
        await asyncio.sleep(PERIOD / 10)
    beating.cancel()
    assert overdue >= 0.2
    assert lags[1] < 0.2
    assert heart.lag >= 0.2
