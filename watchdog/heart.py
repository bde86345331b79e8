"""The daemon's heartbeat, and its word to systemd.

The loop ticks; a plain thread, not the loop, feeds systemd's watchdog, and only while the loop ticks (sd_notify(3),
WATCHDOG=1; systemd.service(5), WatchdogSec=). The lag of a tick is how late everything else of ours runs, so a verdict
can tell our own delay from the service's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable

PERIOD = 0.25  # s
REMEMBERED = 4  # ticks, of which the worst lag is told: a second
LATE = 5.0  # s without a tick, and the daemon no longer calls itself healthy


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
    """Beats in the loop, and lets a thread tell systemd that it does."""

    def __init__(self, told_lag: Callable[[float], None]) -> None:
        self._lags: deque[float] = deque([0.0], maxlen=REMEMBERED)
        self._told_lag = told_lag
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
        interval = watchdog_interval()
        if interval is not None:
            threading.Thread(target=self._feed, args=(interval,), name="sd_watchdog", daemon=True).start()
        try:
            while True:
                due = loop.time() + PERIOD
                await asyncio.sleep(PERIOD)
                self._lags.append(max(0.0, loop.time() - due))
                self._told_lag(self._lags[-1])
                self._ticked = time.monotonic()
        finally:
            self._stopped.set()

    def _feed(self, interval: float) -> None:
        while not self._stopped.wait(interval):
            if time.monotonic() - self._ticked < interval:
                notify("WATCHDOG=1")
