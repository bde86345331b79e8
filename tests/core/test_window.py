"""When a recurring window is open: by the wall clock, over midnight, and where clocks are turned."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.window import WEEKDAYS, Open, Window, days_of_month, ends, longest, open_until, time_of_day, weekdays

BERLIN = "Europe/Berlin"
HOUR = 3600.0


def at(text: str, location: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(location)).timestamp()


def until(window: Window, text: str) -> str | None:
    """When it ends, as seen at that time in Berlin."""
    end = open_until(window, at(text))
    return None if end is None else datetime.fromtimestamp(end, ZoneInfo(BERLIN)).isoformat(" ", "minutes")[:16]


def window(start: str = "02:30", hours: float = 2, **keys: object) -> Window:
    return Window(start=start, duration=hours * HOUR, **{"location": BERLIN, **keys})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        ("2026-11-27 02:29:59", None),
        ("2026-11-27 02:30:00", "2026-11-27 04:30"),
        ("2026-11-27 04:29:59", "2026-11-27 04:30"),
        ("2026-11-27 04:30:00", None),
    ],
)
def test_it_is_open_from_its_start_to_its_end(moment: str, end: str | None) -> None:
    assert until(window(), moment) == end


def test_it_may_go_past_midnight_and_counts_by_the_day_it_began() -> None:
    nightly = window("23:00", 3, weekdays=("friday",))
    assert until(nightly, "2026-11-28 01:59") == "2026-11-28 02:00"  # a Saturday
    assert until(nightly, "2026-11-27 01:59") is None


def test_it_may_last_for_days() -> None:
    weekend = window("18:00", 60, weekdays=("friday",))
    assert until(weekend, "2026-11-30 05:59") == "2026-11-30 06:00"
    assert until(weekend, "2026-11-30 06:00") is None


def test_a_day_must_fit_the_weekdays_and_the_days_of_the_month() -> None:
    first_sunday = window(weekdays=("sunday",), days_of_month=("1:7",))
    assert until(first_sunday, "2026-12-06 03:00") is not None
    assert until(first_sunday, "2026-12-13 03:00") is None
    assert until(first_sunday, "2026-12-01 03:00") is None


def test_the_last_day_of_the_month_is_minus_one() -> None:
    last = window(days_of_month=("-1",))
    assert [until(last, f"2028-02-{day} 03:00") is not None for day in (28, 29)] == [False, True]
    assert until(last, "2026-02-28 03:00") is not None


def test_where_clocks_are_turned_it_lasts_as_long_as_on_other_days() -> None:
    assert until(window("01:30"), "2026-03-29 03:30") == "2026-03-29 04:30"  # 02:00 is 03:00
    assert until(window("02:30"), "2026-03-29 03:30") == "2026-03-29 05:30"  # there is no 02:30
    assert until(window("01:30"), "2026-10-25 02:15") == "2026-10-25 02:30"  # the first 02:15; the second is over
    assert open_until(window("01:30"), at("2026-10-25 02:15") + HOUR) == at("2026-10-25 02:30") + HOUR


def test_of_several_the_one_that_ends_last_is_told() -> None:
    windows = {"a": window(hours=1), "b": window(hours=3, reason="upgrade"), "c": window(hours=9, services=("db",))}
    found = ends(windows, at("2026-11-27 03:00"))
    assert longest(windows, found, "web") == Open("b", at("2026-11-27 05:30"), "upgrade")
    assert longest(windows, found, "db") == Open("c", at("2026-11-27 11:30"), "")
    assert longest(windows, ends(windows, at("2026-11-27 12:00")), "db") is None


ZONES = st.sampled_from(["UTC", BERLIN, "America/New_York", "Pacific/Chatham", "Australia/Lord_Howe", None])
WINDOWS = st.builds(
    Window,
    start=st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59)),
    duration=st.floats(60.0, 7 * 86400.0),
    weekdays=st.lists(st.sampled_from(WEEKDAYS), max_size=3).map(tuple),
    days_of_month=st.lists(st.integers(-31, 31).filter(bool).map(str), max_size=3).map(tuple),
    location=ZONES,
)
TIMES = st.floats(at("1990-01-01 00:00"), at("2037-01-01 00:00"))


@given(WINDOWS, TIMES)
def test_a_window_that_is_open_ends_within_its_duration_and_is_open_until_then(one: Window, now: float) -> None:
    end = open_until(one, now)
    if end is None:
        return
    assert now < end <= now + one.duration
    assert open_until(one, end - 0.001) is not None


@given(WINDOWS, TIMES)
def test_it_is_open_where_one_of_the_days_before_began_it(one: Window, now: float) -> None:
    zone = ZoneInfo(one.location) if one.location else None
    here = datetime.fromtimestamp(now, zone)
    began = False
    for number in range(-1, 10):
        day = (here - timedelta(days=number)).date()
        fits = not one.weekdays or WEEKDAYS[day.weekday()] in one.weekdays
        last = (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        numbers = {int(text) if int(text) > 0 else last.day + 1 + int(text) for text in one.days_of_month}
        begin = datetime.combine(day, time_of_day(one.start), zone).timestamp()
        began |= fits and (not numbers or day.day in numbers) and begin <= now < begin + one.duration
    assert (open_until(one, now) is not None) == began


@pytest.mark.parametrize("text", ["", "3:30", "24:00", "03:60", "03:30:00", "noon", "29:00"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time of day"):
        time_of_day(text)


@pytest.mark.parametrize("text", ["", "sun", "Sunday", "sunday:", ":sunday", "friday:monday", "monday:friday:sunday"])
def test_what_are_no_weekdays_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no weekday|ends before"):
        weekdays(text)


@pytest.mark.parametrize(
    "text", ["", "0", "32", "-32", "7:1", "-1:-3", "1:", "1:2:3", "first", "1:0", "-1:1", "20:-15"]
)
def test_what_are_no_days_of_a_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no day of the month|the days are|ends before"):
        days_of_month(text)
