"""Which maintenance windows of the config are open now: found out once a second for all services."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from watchdog.clock import Clock
from watchdog.window import Open, Window, ends, longest

FRESH = 1.0  # s; a thousand services with ten windows each would else cost 6 % of a CPU


class Maintenance:
    """Asks `windows` for those of the config in force."""

    def __init__(self, windows: Callable[[], Mapping[str, Window]], clock: Clock) -> None:
        self._windows = windows
        self._clock = clock
        self._known: Mapping[str, Window] = {}
        self._open: dict[str, float] = {}
        self._looked = float("-inf")  # CLOCK_BOOTTIME: the wall clock may be set back

    def of(self, service: str) -> Open | None:
        """The window of this service that is open; of several the one that ends last."""
        windows, now = self._windows(), self._clock.now()
        if windows is not self._known or now - self._looked >= FRESH:
            self._known, self._looked = windows, now
            time.tzset()  # else the host's zone would be that of our start for ever (tzset(3))
            self._open = ends(windows, self._clock.wall())
        return longest(windows, self._open, service)


def clause(window: Open | None) -> str:
    """As a hold tells it; empty: none is open."""
    if window is None:
        return ""
    until = time.strftime("%a %H:%M", time.localtime(window.until))
    return f"maintenance window {window.name} until {until}" + (f": {window.reason}" if window.reason else "")
