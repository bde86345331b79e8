"""Recurring maintenance windows: a `[window.NAME]` table, and whether it is open at a moment. Pure.

Words and meanings are those of Alertmanager's time intervals (`weekdays`, `days_of_month`, `location`; a day must fit
all that are given), but a window has a `start` and a `duration`, so that it may go past midnight. Its start is a time
of the wall clock, its duration elapses: where clocks are turned forward over the start, it begins as much later.

Sources: https://prometheus.io/docs/alerting/latest/configuration/#time_interval; Python's zoneinfo, PEP 495.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from watchdog.settings import Seconds

WEEKDAYS = tuple(day.lower() for day in calendar.day_name)  # monday is 0, as date.weekday() has it
LONGEST = 7 * 86400.0  # s
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When no remedy is used. `services` empty: of all; no `weekdays` and no `days_of_month`: every day."""

    start: str  # "HH:MM"
    duration: Seconds
    services: tuple[str, ...] = ()
    weekdays: tuple[str, ...] = ()  # "sunday", "monday:friday"
    days_of_month: tuple[str, ...] = ()  # "1", "1:7"; "-1" is the last day
    location: str | None = None  # of the time zone database; None: the host's
    reason: str = ""

    def covers(self, service: str) -> bool:
        """Whether it is meant for this service."""
        return not self.services or service in self.services


def open_until(window: Window, now: float) -> float | None:
    """When it ends, where it is open at `now` (both in seconds since 1970); None where it is not."""
    zone = ZoneInfo(window.location) if window.location is not None else None
    today = datetime.fromtimestamp(now, zone).date()
    days = (today - number * DAY for number in range(-1, int(window.duration // 86400) + 3))
    begins = (_begin(window, day, zone) for day in days if _fits(window, day))
    return max((begin + window.duration for begin in begins if begin <= now < begin + window.duration), default=None)


def _begin(window: Window, day: date, zone: tzinfo | None) -> float:
    return datetime.combine(day, time_of_day(window.start), zone).timestamp()


def _fits(window: Window, day: date) -> bool:
    fits = not window.weekdays or day.weekday() in _all(map(weekdays, window.weekdays))
    last = calendar.monthrange(day.year, day.month)[1]
    return fits and (
        not window.days_of_month or day.day in _all(days_of_month(text, last) for text in window.days_of_month)
    )


def _all(ranges: Iterable[range]) -> set[int]:
    return {number for each in ranges for number in each}


# --- the words --------------------------------------------------------------------------------------------------------


def time_of_day(text: str) -> time:
    """ "HH:MM". Raises `ValueError`."""
    if not re.fullmatch(r"[0-2]\d:[0-5]\d", text):
        raise ValueError('is no time of day; write it as "03:30"')
    hour, minute = map(int, text.split(":"))
    if hour > 23:
        raise ValueError('is no time of day; the last is "23:59"')
    return time(hour, minute)


def weekdays(text: str) -> range:
    """ "sunday" or "monday:friday", from Monday's 0 on. Raises `ValueError`."""
    first, _, last = text.partition(":")
    if first not in WEEKDAYS or (last or first) not in WEEKDAYS or text.endswith(":"):
        raise ValueError('is no weekday; write "sunday", or "monday:friday" for a range')
    found = range(WEEKDAYS.index(first), WEEKDAYS.index(last or first) + 1)
    if not found:
        raise ValueError(f'ends before it begins; write "{first}:sunday" and "monday:{last}"')
    return found


def days_of_month(text: str, last_day: int = 31) -> range:
    """ "1", "1:7", "-1" (the last) or "-3:-1". Raises `ValueError`."""
    if not re.fullmatch(r"-?\d{1,2}(:-?\d{1,2})?", text):
        raise ValueError('is no day of the month; write "1", "1:7" for a range, or "-1" for the last day')
    first, _, last = text.partition(":")
    low, high = int(first), int(last or first)
    if not (1 <= abs(low) <= 31 and 1 <= abs(high) <= 31):
        raise ValueError('is no day of the month; the days are "1" to "31", or from the end "-1" to "-31"')
    if not any(_days(low, high, length) for length in range(28, 32)):
        raise ValueError("ends before it begins, in every month; write the earlier day first")
    return _days(low, high, last_day)


def _days(first: int, last: int, last_day: int) -> range:
    begin, end = (number if number > 0 else last_day + 1 + number for number in (first, last))
    return range(begin, min(end, last_day) + 1)


# --- which is open ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Open:
    """A window that is open now."""

    name: str
    until: float  # s since 1970
    reason: str


def ends(windows: Mapping[str, Window], now: float) -> dict[str, float]:
    """Of each window that is open, its end."""
    found = {name: open_until(window, now) for name, window in windows.items()}
    return {name: end for name, end in found.items() if end is not None}


def longest(windows: Mapping[str, Window], open_ones: Mapping[str, float], service: str) -> Open | None:
    """Of those that are open, the one of this service that ends last; None where it has none."""
    found = [Open(name, end, windows[name].reason) for name, end in open_ones.items() if windows[name].covers(service)]
    return max(found, key=lambda each: each.until, default=None)
