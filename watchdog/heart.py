"""The daemon's heartbeat, and its word to systemd.

The loop ticks; a plain thread, not the loop, feeds systemd's watchdog, and only while the loop ticks (sd_notify(3),
WATCHDOG=1; systemd.service(5), WatchdogSec=). The lag of a tick is how late everything else of ours runs, so a verdict
can tell our own delay from the service's.

The same thread tells what keeps the loop: once it has not ticked for `STANDSTILL`, the stacks of all threads go to the
log, and afterwards how long it lasted. A thread that was late itself saw no such thing: then the whole process stood
still (stopped, frozen, without CPU, or a call that kept the interpreter's lock), which is told as that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from watchdog import stacks
from watchdog.messages import Event, of_event

PERIOD = 0.25  # s
REMEMBERED = 4  # ticks, of which the worst lag is told: a second
LATE = 5.0  # s without a tick, and the daemon no longer calls itself healthy
# s without a tick, and the stacks are told. A tick is due every PERIOD, and a lag of half a second makes rounds `blind`
# already (`diagnosis.LAG_LIMIT`); yet a host short of CPU for a second is no fault of ours. LATE and systemd's SIGABRT
# are still to come.
STANDSTILL = 2.0
LOOK = 0.5  # s between two looks of the thread

log = logging.getLogger(__name__)


def notify(*lines: str) -> None:
    """Tell systemd, where it listens: "READY=1", "STATUS=…", "RELOADING=1", "STOPPING=1"."""
    if os.environ.get("NOTIFY_SOCKET"):
        from systemd.daemon import notify as sd_notify

        with contextlib.suppress(OSError):  # a socket that nobody listens on any more
            sd_notify("\n".join(lines))


def watchdog_interval() -> float | None:
    """Half of WATCHDOG_USEC= in seconds, as sd_watchdog_enabled(3) advises; None where systemd does not watch us."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2e6


class Heart:
    """Beats in the loop, and lets a thread watch that it does. `told_late` is called from that thread."""

    def __init__(self, told_lag: Callable[[float], None], told_late: Callable[[], None] = lambda: None) -> None:
        self._lags: deque[float] = deque([0.0], maxlen=REMEMBERED)
        self._told_lag = told_lag
        self._told_late = told_late
        self._ticked = time.monotonic()
        self._stopped = threading.Event()

    @property
    def beating(self) -> bool:
        """Whether the loop has ticked lately."""
        return time.monotonic() - self._ticked < LATE

    @property
    def lag(self) -> float:
        """The worst of the last second, in seconds; a tick that is overdue counts."""
        return max(*self._lags, time.monotonic() - self._ticked - PERIOD)

    async def beat(self) -> None:
        """Tick until cancelled."""
        loop = asyncio.get_running_loop()
        self._ticked = time.monotonic()
        watch = _Watch(self, threading.get_ident(), watchdog_interval())
        threading.Thread(target=watch.run, name="heart", daemon=True).start()
        try:
            while True:
                due = loop.time() + PERIOD
                await asyncio.sleep(PERIOD)
                self._lags.append(max(0.0, loop.time() - due))
                self._told_lag(self._lags[-1])
                self._ticked = time.monotonic()
        finally:
            self._stopped.set()


class _Watch:
    """The thread's work. `loop` is the ident of the loop's thread, `interval` systemd's, if it watches us."""

    def __init__(self, heart: Heart, loop: int, interval: float | None) -> None:
        self._heart = heart
        self._loop = loop
        self._interval = interval
        self._late: float | None = None  # since when, while a standstill lasts that was told
        self._awake = 0.0  # when the process last ran again after it had stood still as a whole

    def run(self) -> None:
        """Look until the heart has stopped."""
        heart, interval = self._heart, self._interval
        pause = LOOK if interval is None else min(LOOK, interval)
        looked = fed = time.monotonic()
        while not heart._stopped.wait(pause):
            before, looked = looked, time.monotonic()
            due = interval is not None and looked - fed >= interval - pause / 2
            if due and looked - heart._ticked < (interval or 0.0):
                fed = looked
                notify("WATCHDOG=1")
            self._look(looked, overslept=looked - before - pause)

    def _look(self, now: float, overslept: float) -> None:
        ticked = self._heart._ticked
        if self._late is not None:
            if ticked > self._late:
                self._tell_end(ticked - self._late)
        elif overslept >= STANDSTILL:
            self._awake = now
            text = "the whole daemon stood still for %.1f s: stopped, frozen, without CPU, or kept by one call"
            log.warning(text, overslept, extra=of_event(Event.STOOD_STILL))
        elif now - max(ticked, self._awake) >= STANDSTILL:
            self._late = max(ticked, self._awake)
            self._heart._told_late()
            text, doing = "the loop has not run for %.1f s; what each thread does:\n%s", stacks.of_all(first=self._loop)
            log.error(text, now - self._late, doing, extra=of_event(Event.LOOP_LATE))

    def _tell_end(self, lasted: float) -> None:
        self._late = None
        log.warning("the loop runs again: it stood still for %.1f s", lasted, extra=of_event(Event.LOOP_ON_TIME))
