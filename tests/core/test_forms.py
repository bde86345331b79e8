"""The forms of the proof: what shows that an epoll should have woken who waits on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.readings import (
    BEGAN,
    EDGE,
    EMPTY,
    EXCLUSIVE,
    FLAT,
    LEVEL,
    NOTHING,
    ONESHOT,
    PID,
    PIPE,
    WEB,
    E,
    Trace,
    asleep,
    but,
    elsewhere,
    epoll,
    healthy,
    nothing,
    proven,
    reading,
    refuted,
    running,
    sampled,
    touched,
    without_thread,
)
from watchdog.reading import EPOLLET, EPOLLRDNORM, Baseline, Epoll, Form, Reading, Watch

SECOND = asleep(101)


# --- arrival ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [LEVEL, EDGE, ONESHOT, EXCLUSIVE, EPOLLRDNORM])
def test_an_arrival_needs_no_kind_of_entry_but_an_armed_one(events: int) -> None:
    assert proven(reading(epolls=(epoll(events=events),))).form is Form.ARRIVAL


@pytest.mark.parametrize(
    "lengths",
    [(1, 1, 2), (1, 2, 2), (2, 1, 2), (1, 3, 2), (3, 2, 1), (0, 0, 0), (None, 2, 3), (1, None, 3), (1, 2, None)],
)
def test_a_queue_that_does_not_grow_in_each_window_is_no_arrival(lengths: tuple[int | None, ...]) -> None:
    assert "no listener that it watches got a connection in each window" in refuted(reading(lengths=lengths))


@pytest.mark.parametrize(
    "epolls",
    [
        (epoll(inode=PIPE),),  # another one's queue grows
        (epoll(events=EPOLLET | 0x18),),  # a ONESHOT or a disarmed entry has only its flags, and HUP and ERR
        (epoll(events=0x4),),  # OUT
        (nothing(E),),
        [(epoll(),), (epoll(events=0),), (epoll(),), (epoll(),)],
        [(epoll(),), (epoll(inode=PIPE),), (epoll(),), (epoll(),)],
        [(epoll(events=EDGE),), (epoll(),), (epoll(),), (epoll(),)],
    ],
)
def test_only_what_it_watches_all_the_time_and_armed_must_wake_it(epolls: object) -> None:
    assert "got a connection in each window" in refuted(reading(epolls=epolls))  # type: ignore[arg-type]


def test_a_kernel_that_tells_no_inodes_proves_no_arrival() -> None:
    found = reading(epolls=(epoll(inode=0),))
    queues = tuple(replace(x, queues=(replace(x.queues[0], inode=0),)) for x in found.queues)
    assert "got a connection in each window" in refuted(replace(found, queues=queues))


# --- standing ---------------------------------------------------------------------------------------------------------


def test_connections_that_stand_for_a_second_before_a_level_triggered_entry_are_one() -> None:
    proof = proven(reading(lengths=FLAT), None, reading(lengths=FLAT, at=999.0))
    assert (proof.form, proof.listeners) == (Form.STANDING, ("127.0.0.1:80",))
    assert "for 1.1 s while thread 100 (t100) slept on" in proof.text


def test_a_full_queue_is_found_so_too() -> None:
    before, now = (reading(lengths=(129, 129, 129), limit=128, at=at) for at in (999.0, 1000.0))
    assert proven(now, None, before).form is Form.STANDING


@pytest.mark.parametrize("events", [EDGE, ONESHOT, EXCLUSIVE])
def test_only_a_level_triggered_entry_that_is_its_own_tells_of_what_stands(events: int) -> None:
    found, before = (reading(lengths=FLAT, epolls=(epoll(events=events),), at=at) for at in (1000.0, 998.0))
    assert "no connection stood before a level-triggered entry" in refuted(found, None, before)


@pytest.mark.parametrize(
    "before",
    [
        reading(lengths=FLAT, at=999.11),  # 0.998 s
        reading(lengths=(2, 2, 0), at=998.0),
        reading(lengths=(2, 2, None), at=998.0),
        reading(but(asleep(), switches=49), lengths=FLAT, at=998.0),
        reading(but(asleep(), 0, state="R"), lengths=FLAT, at=998.0),
        sampled(reading(lengths=FLAT, at=998.0), 1, threads=()),
        touched(reading(lengths=FLAT, at=998.0), at=998.2),
        Reading(queues=reading(lengths=FLAT, at=998.0).queues),
    ],
)
def test_what_stood_for_less_than_a_second_of_one_sleep_proves_nothing(before: Reading) -> None:
    stirred = replace(before, touched=tuple(replace(x, threads=()) for x in before.touched))
    assert "no connection stood before a level-triggered entry for a second" in refuted(
        reading(lengths=FLAT), None, stirred
    )


def test_a_sleep_is_followed_back_to_where_it_began_and_no_farther() -> None:
    older, newer = reading(but(asleep(), switches=1), lengths=FLAT, at=997.0), reading(lengths=FLAT, at=999.5)
    assert "no connection stood" in refuted(reading(lengths=FLAT), None, older, newer)


def test_what_stood_before_says_nothing_of_queues_that_are_not_read_now() -> None:
    before, now = reading(lengths=FLAT, at=998.0), replace(reading(), queues=())
    assert "no connection stood" in refuted(now, None, before)


def test_what_stands_in_this_reading_alone_proves_nothing() -> None:
    assert "for a second" in refuted(reading(lengths=FLAT))


# --- copy -------------------------------------------------------------------------------------------------------------


def test_a_copy_that_is_readable_while_the_waiter_sleeps_is_one() -> None:
    proof = proven(touched(reading(lengths=EMPTY)))
    assert (proof.form, proof.threads, proof.listeners) == (Form.COPY, {"100:1000": 50}, ())


def test_a_copy_needs_no_listener() -> None:
    connections = Epoll(PID, E, (Watch(8, EDGE, 4711),))
    assert proven(touched(reading(epolls=(connections,), lengths=EMPTY))).form is Form.COPY


@pytest.mark.parametrize("number", range(len(BEGAN)))
def test_a_copy_must_be_readable_each_time(number: int) -> None:
    said = [at != number for at in range(len(BEGAN))]
    assert "nothing in it is ready" in refuted(touched(reading(lengths=EMPTY), *said))


@pytest.mark.parametrize("number", range(len(BEGAN)))
def test_a_copy_that_could_not_be_polled_says_nothing(number: int) -> None:
    said = [None if at == number else True for at in range(len(BEGAN))]
    assert "no copy of it could be polled" in refuted(touched(reading(lengths=EMPTY), *said))


def test_each_of_the_copies_must_be_there() -> None:
    found = touched(reading(lengths=EMPTY))
    last = replace(found.touched[3], epolls=())
    assert "no copy of it could be polled" in refuted(replace(found, touched=(*found.touched[:3], last)))


def test_what_was_proven_without_touching_needs_no_copy() -> None:
    assert proven(touched(reading())).form is Form.ARRIVAL


def test_the_copies_count_only_while_the_waiter_sleeps() -> None:
    found = touched(reading(but(asleep(), 2, 3, switches=51), lengths=EMPTY))
    assert "was woken in between" in refuted(found)


def test_an_idle_loop_beside_a_lost_one_is_not_proven() -> None:
    epolls = (epoll(), epoll(8, inode=PIPE))
    found = reading(asleep(), asleep(101, epfd=8), epolls=epolls)
    assert proven(found).epfd == E


# --- parked elsewhere -------------------------------------------------------------------------------------------------


PARKED = reading(asleep(epfd=NOTHING), epolls=(epoll(), nothing()))
KNOWN = healthy(asleep())


def test_who_served_it_and_waits_on_what_watches_nothing_is_parked() -> None:
    proof = proven(PARKED, KNOWN)
    assert (proof.form, proof.epfd, proof.threads) == (Form.PARKED, E, {"100:1000": 50})
    assert proof.text.startswith("thread 100 (t100) waits on epoll 9, which watches nothing, instead of 5; the accept")


def test_connections_that_stand_show_that_it_is_parked_too() -> None:
    before, now = (replace(PARKED, queues=reading(lengths=FLAT, at=at).queues) for at in (999.0, 1000.0))
    before = replace(before, samples=reading(asleep(epfd=NOTHING), epolls=(epoll(), nothing()), at=999.0).samples)
    assert proven(now, KNOWN, before).form is Form.PARKED


NEVER = (False, False, False, False)


def parked(*traces: Trace, decoy: Epoll | None = None) -> Reading:
    return reading(*traces, epolls=(epoll(), decoy or nothing()))


@pytest.mark.parametrize(
    ("found", "baseline", "why"),
    [
        (PARKED, None, "watches nothing|no listener that it watches"),
        (PARKED, healthy(elsewhere(100)), "no listener that it watches"),
        (parked(elsewhere(100)), KNOWN, "thread 100 (t100), which serves it, does something else"),
        (parked(asleep(epfd=NOTHING), decoy=epoll(NOTHING, inode=PIPE)), KNOWN, "does something else"),
        (parked(asleep(epfd=NOTHING), decoy=nothing(omitted=3)), KNOWN, "does something else"),
        (parked(asleep(epfd=8)), KNOWN, "does something else"),
        (parked(but(asleep(epfd=NOTHING), 1, epfd=None, call="read")), KNOWN, "does something else"),
        (parked(but(asleep(epfd=NOTHING), finite=True)), KNOWN, "waits with a time-out"),
        (parked(but(asleep(epfd=NOTHING), 2, 3, switches=51)), KNOWN, "was woken in between"),
        (parked(but(asleep(epfd=NOTHING), 2, state="R")), KNOWN, "does not sleep all the time"),
        (parked(asleep(epfd=NOTHING, state="Z")), KNOWN, "who served it has ended"),
        (parked(elsewhere(101)), KNOWN, "who served it has ended"),
        (parked(asleep(epfd=NOTHING), elsewhere(101)), healthy(asleep(), SECOND), "thread 101 (t101), which serves it"),
        (parked(asleep(epfd=NOTHING), running(101)), KNOWN, "the baseline does not know it"),
        (without_thread(PARKED, 100, 0), KNOWN, "was not there all the time"),
        (replace(PARKED, queues=reading(lengths=FLAT).queues), KNOWN, "no listener that it watches"),
        (touched(replace(PARKED, queues=reading(lengths=FLAT).queues), *NEVER), KNOWN, "nothing in it is ready"),
    ],
)
def test_parked_are_all_who_are_known_to_serve_it_and_nobody_else_comes(
    found: Reading, baseline: Baseline | None, why: str
) -> None:
    said = refuted(found, baseline)
    assert any(part in said for part in why.split("|"))


def test_who_is_parked_is_proven_to_be_by_a_readable_copy_too() -> None:
    assert proven(touched(replace(PARKED, queues=reading(lengths=FLAT).queues)), KNOWN).form is Form.PARKED


def test_who_is_parked_need_not_be_seen_so_in_a_last_sample_without_epolls() -> None:
    assert proven(sampled(PARKED, 3, epolls=()), KNOWN).form is Form.PARKED


def test_two_that_are_parked_apart_are_parked() -> None:
    found = reading(asleep(epfd=NOTHING), asleep(101, epfd=10), epolls=(epoll(), nothing(), nothing(10)))
    assert set(proven(found, healthy(asleep(), SECOND)).threads) == {"100:1000", "101:1010"}


def test_one_that_moves_from_one_empty_epoll_to_the_next_is_not_parked() -> None:
    moving = but(asleep(epfd=NOTHING), 2, 3, epfd=10)
    found = reading(moving, epolls=(epoll(), nothing(), nothing(10)))
    assert "does something else" in refuted(found, KNOWN)


@pytest.mark.parametrize("entry", [Watch(12, LEVEL, WEB), Watch(8, LEVEL, 777)])
def test_a_number_that_was_given_to_another_epoll_since_has_nobody_parked(entry: Watch) -> None:
    other = Epoll(PID, E, (entry, Watch(7, LEVEL, 9005)))  # the latter is an eventfd, as every loop has one
    found = touched(reading(asleep(epfd=NOTHING), epolls=(other, nothing())))
    assert "its number may be another epoll's" in refuted(found, KNOWN)


def test_of_several_epolls_each_is_known_by_its_own_entries() -> None:
    others = (epoll(4, inode=PIPE), epoll(), epoll(8, inode=PIPE))
    found = reading(asleep(epfd=NOTHING), epolls=(*others, nothing()))
    assert proven(found, healthy(asleep(), epolls=others)).form is Form.PARKED
