"""The bounded memory of what was seen, against a naive one that keeps everything."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.history import HOURS, LONGEST, MINUTES, SHORTEST, WORSE, History, Span, coded, decoded
from watchdog.model import Kind, Observation
from watchdog.reading import Family, Queue, Queues

spans = pytest.mark.parametrize("span", [HOURS, MINUTES])
seen = st.lists(
    st.tuples(st.floats(0.01, 4000), st.sampled_from(list(Kind)), st.floats(0, 60)), min_size=1, max_size=60
)


def alive(latency: float = 0.001) -> dict[str, Observation]:
    return {"tcp": Observation(Kind.ALIVE, latency, "answered")}


def queues(*lengths: int, limit: int | None = 128) -> Queues:
    return Queues(0.0, tuple(Queue(at, Family.TCP, f"*:{at}", length, limit) for at, length in enumerate(lengths)))


def kinds(history: History, now: float, span: Span = HOURS, service: str = "web", probe: str = "tcp") -> list[object]:
    return list(history.of(service, now).probes[probe][span].kinds())


def by_bucket(span: Span, now: float, rounds: Sequence[tuple[float, Kind, float]]) -> list[list[tuple[Kind, float]]]:
    """What fell into each bucket, of all that ever was."""
    newest = int(now // span.width)
    numbers = range(newest - span.count + 1, newest + 1)
    return [[(kind, took) for at, kind, took in rounds if int(at // span.width) == number] for number in numbers]


@spans
@given(steps=seen)
def test_a_bucket_keeps_the_worst_kind_and_the_longest_wait(span: Span, steps: list[tuple[float, Kind, float]]) -> None:
    history, now, rounds = History(), 1e6, []
    for step, kind, took in steps:
        now += step
        rounds.append((now, kind, took))
        history.looked("web", now, {"tcp": Observation(kind, took, "")}, interval=0.0)
    expected = by_bucket(span, now, rounds)
    track = history.of("web", now).probes["tcp"][span]
    assert [each for each, fell in zip(track.kinds(), expected, strict=True) if fell] == [
        max((kind for kind, _ in fell), key=WORSE.index) for fell in expected if fell
    ]
    assert [each for each, fell in zip(track.latencies(), expected, strict=True) if fell] == pytest.approx(
        [min(max([SHORTEST, *(took for _, took in fell)]), LONGEST) for fell in expected if fell], rel=1e-3
    )


@spans
@given(steps=seen)
def test_where_nobody_looked_nothing_is_told(span: Span, steps: list[tuple[float, Kind, float]]) -> None:
    """Beside buckets in a row, which no interval is too short for."""
    history, now, rounds = History(), 1e6, []
    for step, kind, took in steps:
        now += step
        rounds.append((now, kind, took))
        history.looked("web", now, {"tcp": Observation(kind, took, "")}, interval=0.0)
    fell = by_bucket(span, now + 7, rounds)
    assert [each is None for each in history.of("web", now + 7).probes["tcp"][span].kinds()] == [
        not bucket for bucket in fell
    ]


@given(st.lists(st.sampled_from([None, *Kind]), min_size=1, max_size=60))
def test_the_runs_are_the_kinds(steps: list[Kind | None]) -> None:
    history, now = History(), 1e6
    for kind in steps:
        now += 60
        if kind is not None:
            history.looked("web", now, {"tcp": Observation(kind, 0.1, "")}, interval=0.0)
    history.looked("web", now, alive(), interval=0.0)
    track = history.of("web", now).probes["tcp"][HOURS]
    runs = list(track.runs())
    assert [kind for kind, _, count in runs for _ in range(count)] == track.kinds()
    assert [start for _, start, _ in runs] == [sum(count for _, _, count in runs[:place]) for place in range(len(runs))]


def test_what_was_last_found_holds_between_two_rounds() -> None:
    history = History()
    history.looked("web", 60_000.0, alive(), interval=300.0)
    history.looked("web", 60_300.0, alive(), interval=300.0)
    assert kinds(history, 60_300.0)[-6:] == [Kind.ALIVE] * 6


def test_a_pause_that_is_longer_is_a_gap() -> None:
    history = History()
    history.looked("web", 60_000.0, alive(), interval=60.0)
    history.looked("web", 60_300.0, alive(), interval=60.0)
    assert kinds(history, 60_300.0)[-6:] == [Kind.ALIVE, None, None, None, None, Kind.ALIVE]


def test_what_was_last_found_holds_up_to_now() -> None:
    """However long the interval is: no gap until the next round is overdue, and then all of it is one."""
    history = History()
    history.looked("web", 60_000.0, alive(), interval=60.0)
    assert kinds(history, 60_055.0, MINUTES)[-12:] == [Kind.ALIVE] * 12
    assert kinds(history, 60_120.0, MINUTES)[-25:] == [Kind.ALIVE] * 25
    assert kinds(history, 60_121.0, MINUTES)[-25:] == [Kind.ALIVE, *[None] * 24]
    assert kinds(history, 60_120.0)[-3:] == [Kind.ALIVE] * 3


def test_what_holds_is_the_last_that_was_found_and_not_the_worst_of_its_bucket() -> None:
    history = History()
    history.looked("web", 60_001.0, {"tcp": Observation(Kind.SILENT, 2.0, "")}, interval=5.0)
    history.looked("web", 60_059.0, alive(), interval=5.0)
    assert kinds(history, 60_061.0)[-2:] == [Kind.SILENT, Kind.ALIVE]


def test_after_all_the_hours_nothing_is_left() -> None:
    history = History()
    history.looked("web", 60_000.0, alive(), interval=5.0)
    assert kinds(history, 60_000.0 + HOURS.seconds - HOURS.width)[0] is Kind.ALIVE
    assert set(kinds(history, 60_000.0 + HOURS.seconds)) == {None}
    assert set(kinds(history, 60_000.0 + 10 * HOURS.seconds)) == {None}


def test_the_longest_of_the_accept_queues_is_kept() -> None:
    history = History()
    history.queued("web", 60_000.0, queues(3, 130))
    history.queued("web", 60_010.0, queues(7, 0))
    history.queued("web", 60_060.0, queues(0, 0))
    past = history.of("web", 60_060.0)
    assert list(past.backlog[HOURS].longest[-3:]) == [0, 131, 1]
    assert past.queues == queues(0, 0)


def test_whether_one_of_them_was_full_is_kept_apart_from_which_is_the_longest() -> None:
    history = History()
    history.queued("web", 60_000.0, Queues(0.0, queues(60, limit=4096).queues + queues(11, limit=10).queues))
    history.queued("web", 60_010.0, queues(0, 0))
    history.queued("web", 60_060.0, Queues(0.0, queues(60, limit=4096).queues + queues(10, limit=10).queues))
    history.queued("web", 60_120.0, queues(1000, limit=None))
    kept = history.of("web", 60_120.0).backlog[HOURS]
    assert list(kept.longest[-3:]) == [61, 61, 1001]
    assert list(kept.full[-3:]) == [1, 0, 0]


def test_a_service_without_listeners_has_no_queue() -> None:
    history = History()
    history.queued("web", 60_000.0, queues())
    assert set(history.of("web", 60_000.0).backlog[HOURS].longest) == {0}


def test_an_absurd_queue_is_kept_as_the_longest_there_is_room_for() -> None:
    history = History()
    history.queued("web", 60_000.0, queues(10**9))
    assert history.of("web", 60_000.0).backlog[HOURS].longest[-1] == 65535


def test_what_is_guarded_no_more_is_forgotten() -> None:
    history = History()
    history.looked("web", 60_000.0, {**alive(), "old": alive()["tcp"]}, interval=5.0)
    history.looked("gone", 60_000.0, alive(), interval=5.0)
    history.keep_only({"web": ["tcp"]})
    assert list(history.of("web", 60_000.0).probes) == ["tcp"]
    assert history.of("gone", 60_000.0).probes == {}


@given(st.floats(SHORTEST, LONGEST))
def test_a_latency_is_kept_to_a_thousandth(seconds: float) -> None:
    assert decoded(coded(seconds)) == pytest.approx(seconds, rel=1e-3)


@given(st.floats(allow_nan=False))
def test_any_latency_has_a_code_of_16_bits(seconds: float) -> None:
    assert 1 <= coded(seconds) <= 65535


def test_a_thousand_services_with_three_probes_take_less_than_10_mb() -> None:
    history = History()
    tracemalloc.start()
    for number in range(1000):
        for at in range(0, HOURS.seconds, 3600):
            found = {f"probe{each}": Observation(Kind.ALIVE, 0.001, "") for each in range(3)}
            history.looked(f"service{number}", 60_000.0 + at, found, interval=5.0)
            history.queued(f"service{number}", 60_000.0 + at, queues(1))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 10_000_000
