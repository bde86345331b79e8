from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.readings import LEVEL, PID, E, Trace, asleep, but, elsewhere, epoll, healthy, nothing, reading, sampled
from watchdog.baseline import learn
from watchdog.reading import Baseline, Epoll, Sample, Waiter, Watch

SECOND = asleep(101)


def samples(*traces: Trace, epolls: tuple[Epoll, ...] = (epoll(),), at: float = 1000.0) -> tuple[Sample, ...]:
    return reading(*traces, epolls=epolls, at=at).samples


def waiters(baseline: Baseline) -> set[tuple[int, int]]:
    """By TID and epoll."""
    return {(waiter.tid, waiter.epfd) for waiter in baseline.waiters}


def test_a_thread_is_known_as_a_waiter_once_it_was_seen_waiting() -> None:
    seldom = but(elsewhere(101), 2, call="epoll_wait", epfd=E)
    baseline = learn(None, samples(asleep(), seldom, elsewhere(102)))
    assert waiters(baseline) == {(100, E), (101, E)}
    assert Waiter(PID, 101, 1010, E) in baseline.waiters
    assert baseline.threads == {(100, 1000), (101, 1010), (102, 1020)}
    assert (baseline.samples, baseline.at, baseline.epolls) == (4, 1000.125, (epoll(),))


def test_it_stays_known_though_it_does_something_else_now() -> None:
    baseline = learn(healthy(asleep(), SECOND), samples(asleep(), elsewhere(101), at=1300.0))
    assert waiters(baseline) == {(100, E), (101, E)}
    assert (baseline.samples, baseline.at) == (8, 1300.125)


@pytest.mark.parametrize("later", [asleep(), but(SECOND, started=1)])
def test_a_thread_that_ended_is_forgotten_though_its_number_is_used_again(later: Trace) -> None:
    baseline = learn(healthy(asleep(), SECOND), samples(asleep(), later))
    assert Waiter(PID, 101, 1010, E) not in baseline.waiters
    assert (101, 1010) not in baseline.threads


def test_a_thread_that_waits_on_two_epolls_is_known_for_both() -> None:
    both = but(asleep(), 2, 3, epfd=8)
    assert waiters(learn(None, samples(both, epolls=(epoll(), epoll(8))))) == {(100, E), (100, 8)}


@pytest.mark.parametrize(
    ("now", "known"),
    [
        ((Epoll(PID, E, (Watch(6, 0, 7001), Watch(30, LEVEL, 4711))),), True),  # other connections, and disarmed
        ((Epoll(PID, E, (Watch(30, LEVEL, 4711),)), epoll(8)), False),  # another epoll by now
        ((epoll(8),), False),  # closed
        ((), True),  # nobody tells
    ],
)
def test_a_waiter_is_known_of_an_epoll_as_long_as_that_is_the_same(now: tuple[Epoll, ...], known: bool) -> None:
    baseline = learn(healthy(asleep(), SECOND), samples(elsewhere(100), elsewhere(101), epolls=now))
    assert waiters(baseline) == ({(100, E), (101, E)} if known else set())


def test_an_epoll_that_watched_nothing_may_be_the_same() -> None:
    before = healthy(asleep(), epolls=(nothing(E),))
    assert waiters(learn(before, samples(elsewhere(100)))) == {(100, E)}


def test_of_samples_that_tell_of_epolls_the_last_counts() -> None:
    found = sampled(reading(asleep()), 0, epolls=(nothing(E),))
    assert learn(None, sampled(found, 3, epolls=()).samples).epolls == (epoll(),)


Crowds = st.lists(
    st.builds(
        lambda tid, epfd: asleep(tid, epfd=epfd) if epfd else elsewhere(tid),
        st.integers(100, 104),
        st.sampled_from([None, E, 8]),
    ),
    max_size=5,
    unique_by=lambda trace: trace[0].tid,
)
EPOLLS = (epoll(), epoll(8))


@given(st.none() | Crowds.map(lambda crowd: healthy(*crowd, epolls=EPOLLS)), Crowds)
def test_what_was_learnt_once_is_not_changed_by_learning_it_again(before: Baseline | None, crowd: list[Trace]) -> None:
    found = samples(*crowd, asleep(99), epolls=EPOLLS)
    once = learn(before, found)
    again = learn(once, found)
    assert (again.waiters, again.threads, again.epolls) == (once.waiters, once.threads, once.epolls)


@given(Crowds.map(lambda crowd: healthy(*crowd, epolls=EPOLLS)), Crowds)
def test_whoever_lives_stays_known_and_nobody_else_does(before: Baseline, crowd: list[Trace]) -> None:
    found = samples(*crowd, asleep(99), epolls=EPOLLS)
    living = {trace[0].key for trace in crowd}
    after = learn(before, found)
    assert after.threads == living | {(99, 990)}
    assert {waiter for waiter in before.waiters if waiter.thread in living} <= after.waiters
    assert {waiter.thread for waiter in after.waiters} <= after.threads
