from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.handlers
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchdog import heart as heart_module
from watchdog.heart import LOOK, PERIOD, STANDSTILL, Heart, notify, watchdog_interval
from watchdog.messages import MESSAGES, Event


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


def said_by_now(systemd: socket.socket) -> list[bytes]:
    """What waits to be read."""
    said: list[bytes] = []
    patience = systemd.gettimeout()
    systemd.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            said.append(systemd.recv(100))
    systemd.settimeout(patience)
    return said


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
    late = said_by_now(systemd)
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


# --- standstills ------------------------------------------------------------------------------------------------------

Lines = queue.Queue[logging.LogRecord]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What the heart logs, from whatever thread."""
    told: Lines = queue.Queue()
    handler = logging.handlers.QueueHandler(told)
    heart = logging.getLogger("watchdog.heart")
    heart.addHandler(handler)
    yield told
    heart.removeHandler(handler)


def message_id(line: logging.LogRecord) -> str:
    return str(vars(line)["MESSAGE_ID"])


def keep_the_loop(until: threading.Event) -> None:
    """What blocks the loop; its name is what the stacks must show."""
    assert until.wait(30)


async def test_the_stacks_of_a_loop_that_stands_still_are_told_once_and_then_how_long_it_lasted(lines: Lines) -> None:
    counted: list[float] = []
    beating = asyncio.create_task(Heart(lambda _: None, lambda: counted.append(time.monotonic())).beat())
    await asyncio.sleep(0)
    began = time.monotonic()
    enough = threading.Event()
    threading.Timer(STANDSTILL + 3 * LOOK, enough.set).start()  # a second look at it must tell nothing more
    keep_the_loop(enough)
    lasted = time.monotonic() - began
    late = await asyncio.to_thread(lines.get, True, 10)
    on_time = await asyncio.to_thread(lines.get, True, 10)
    beating.cancel()
    assert (late.levelname, message_id(late)) == ("ERROR", MESSAGES[Event.LOOP_LATE])
    assert message_id(on_time) == MESSAGES[Event.LOOP_ON_TIME]
    first, second = late.getMessage().splitlines()[1:3]
    assert first == f"thread MainThread ({threading.get_native_id()}), which runs the loop:"
    assert "threading.py:" in second
    assert " in keep_the_loop\n" in late.getMessage()
    told = float(on_time.getMessage().rpartition(" for ")[2].removesuffix(" s"))
    assert told == pytest.approx(lasted, abs=2 * PERIOD)
    [counted_at] = counted
    assert STANDSTILL - 0.1 < counted_at - began < STANDSTILL + 2 * LOOK
    assert lines.empty()


async def test_a_loop_that_was_late_for_a_moment_is_not_told(lines: Lines) -> None:
    beating = asyncio.create_task(Heart(lambda _: None).beat())
    await asyncio.sleep(0)
    time.sleep(STANDSTILL - 2 * PERIOD)  # noqa: ASYNC251 - the fault itself
    await asyncio.sleep(2 * LOOK)
    beating.cancel()
    assert lines.empty()


STOPPED = """
import asyncio, logging, sys
from watchdog.heart import Heart
logging.basicConfig(stream=sys.stdout, format="%(MESSAGE_ID)s %(message)s")
async def main():
    beating = asyncio.create_task(Heart(lambda _: None).beat())
    await asyncio.sleep(0.5)
    print("beats", flush=True)
    await beating
asyncio.run(main())
"""


def test_a_process_that_was_stopped_has_no_loop_that_stands_still() -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "beats\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(STANDSTILL + 2 * LOOK)  # it must miss that much
        process.send_signal(signal.SIGCONT)
        told = process.stdout.readline()
        time.sleep(3 * LOOK)  # whatever more it would say, it has said by then
        process.kill()
        assert process.stdout.read() == ""
    assert told.startswith(f"{MESSAGES[Event.STOOD_STILL]} the whole daemon stood still for ")


async def test_a_loop_that_runs_again_is_told_to_systemd_at_the_next_look(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setattr(heart_module, "LOOK", 0.05)
    beating = asyncio.create_task(Heart(lambda _: None).beat())
    await asyncio.to_thread(systemd.recv, 100)
    time.sleep(1.3)  # noqa: ASYNC251 - as above; a word was due after one second, and the next would be after two
    said_by_now(systemd)
    began = time.monotonic()
    await asyncio.to_thread(systemd.recv, 100)
    beating.cancel()
    assert time.monotonic() - began < 0.5
