"""When the bench makes a program stall, and how it does."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stalled import losing, next_at
from tests.servers import redis
from tests.stall import PING, Shim, build_shim, held, interrupt, kicker, shim_for

MOMENTS = st.floats(0, 1e6)


@given(MOMENTS, st.sampled_from([0.5, 1.0, 5.0]), st.floats(0, 1, exclude_max=True), MOMENTS)
def test_a_stall_begins_at_the_chosen_part_of_an_interval_and_never_in_the_past(
    last_round: float, interval: float, share: float, since: float
) -> None:
    now = last_round + since
    due = next_at(last_round, interval, share, now)
    intervals = (due - last_round) / interval - share
    assert intervals == pytest.approx(round(intervals), abs=1e-6)
    assert now - 1e-6 <= due <= now + interval + 1e-6


@pytest.mark.parametrize(("now", "due"), [(100.0, 101.0), (101.0, 101.0), (101.1, 106.0), (111.0, 111.0)])
def test_a_fifth_of_an_interval_after_a_round(now: float, due: float) -> None:
    assert next_at(100.0, 5.0, 0.2, now) == due


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    return shim_for(build_shim(tmp_path), tmp_path / "shim")


def test_a_loop_is_kicked_once_so_nothing_waits_before_it(shim: Shim, tmp_path: Path) -> None:
    kicks = itertools.count()
    with redis(tmp_path, env=shim.environment) as server, held(("127.0.0.1", server.port), PING) as client:
        kick = kicker(("127.0.0.1", server.port), PING[0])

        def counted() -> None:
            next(kicks)
            kick()

        lose = losing(shim, counted)
        lost = [lose()]
        interrupt(server.pid)
        client.ask()
        client.answer()
        lost.append(lose())
        interrupt(server.pid)
    assert lost == [moment.at for moment in shim.moments("lost")]
    assert next(kicks) == 2
