from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from watchdog.settings import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("5s", 5.0), ("1h30m", 5400.0), ("1.5h", 5400.0), ("2d", 172800.0)]
)
def test_a_duration_is_numbers_with_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 s", "-5s", "5sec", "s", "5s!", "١s", "5\n"])
def test_what_is_no_duration_is_told_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write a number and a unit"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["367d", "9" * 400 + "h"])
def test_a_duration_is_never_longer_than_a_year(text: str) -> None:
    with pytest.raises(ValueError, match="at most a year"):
        parse_duration(text)


@given(st.integers(1, 10**7))
def test_whole_seconds_are_written_so_that_they_read_back(seconds: int) -> None:
    assert parse_duration(format_duration(float(seconds))) == seconds


@example(0.9996)
@example(0.9994999999999999)
@given(st.floats(1e-6, 10**7))
def test_any_time_is_written_so_that_it_reads_back_to_three_digits_or_half_a_second(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.0051, abs=0.5 * (seconds > 60))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0037, "3.7ms"), (0.5, "500ms"), (59.96, "60s"), (59.4, "59.4s"), (5400, "1h30m"), (60, "1m")],
)
def test_a_duration_is_written_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
