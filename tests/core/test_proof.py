"""The proof: what it takes. Each condition has a reading that would be a proof, but for that condition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.readings import (
    ADDRESSES,
    BEGAN,
    EDGE,
    EXCLUSIVE,
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
    read_at,
    reading,
    running,
    sampled,
    touched,
    without_thread,
)
from watchdog.proof import TOLD, holds, prove
from watchdog.reading import EPOLLET, EPOLLRDNORM, Baseline, Epoll, Form, Process, Proof, Reading, Watch

FLAT = (2, 2, 2)  # connections stand, and none comes
FORK = 200


def proven(found: Reading, baseline: Baseline | None = None, *earlier: Reading) -> Proof:
    """The one proof of the reading."""
    (proof,) = prove(found, baseline, earlier).proofs
    return proof


def refuted(found: Reading, baseline: Baseline | None = None, *earlier: Reading) -> str:
    """Why nothing is proven."""
    said = prove(found, baseline, earlier)
    assert said.proofs == ()
    return "; ".join(said.against)


# --- what is proven ---------------------------------------------------------------------------------------------------


def test_a_queue_that_grows_twice_while_the_waiter_sleeps_is_a_lost_wake_up() -> None:
    proof = proven(reading())
    assert (proof.form, proof.pid, proof.epfd) == (Form.ARRIVAL, PID, E)
    assert proof.threads == {"100:1000": 50}
    assert proof.listeners == ("127.0.0.1:80",)
    assert proof.text == (
        "the accept queue of 127.0.0.1:80 grew (1, 2, 3) while thread 100 (t100) slept on without waking"
    )


@pytest.mark.parametrize("events", [LEVEL, EDGE, ONESHOT, EXCLUSIVE, EPOLLRDNORM])
def test_an_arrival_needs_no_kind_of_entry_but_an_armed_one(events: int) -> None:
    assert proven(reading(epolls=(epoll(events=events),))).form is Form.ARRIVAL


def test_all_waiters_of_the_epoll_are_part_of_its_proof() -> None:
    proof = proven(reading(asleep(), asleep(101, switches=7)))
    assert proof.threads == {"100:1000": 50, "101:1010": 7}
    assert "thread 100 (t100) and 1 more" in proof.text


def test_a_loop_that_sleeps_is_proven_though_another_one_serves() -> None:
    others = (running(101), asleep(102, epfd=NOTHING), but(asleep(103, epfd=8), 1, switches=51))
    baseline = healthy(asleep(), asleep(101, epfd=8), asleep(102, epfd=NOTHING), asleep(103, epfd=8))
    assert proven(reading(asleep(), *others), baseline).epfd == E


def test_every_loop_that_lost_its_wake_up_is_proven() -> None:
    two = reading(
        asleep(), asleep(101, epfd=8), epolls=(epoll(), epoll(8, inode=PIPE)), lengths=(1, 2, 3), pipe=(1, 2, 4)
    )
    assert [(proof.epfd, proof.listeners) for proof in prove(two).proofs] == [
        (E, (ADDRESSES[WEB],)),
        (8, (ADDRESSES[PIPE],)),
    ]


def test_connections_that_stand_for_a_second_before_a_level_triggered_entry_are_one() -> None:
    proof = proven(reading(lengths=FLAT), None, reading(lengths=FLAT, at=999.0))
    assert (proof.form, proof.listeners) == (Form.STANDING, ("127.0.0.1:80",))
    assert "for 1.1 s while thread 100 (t100) slept on" in proof.text


def test_a_full_queue_is_found_so_too() -> None:
    full = reading(lengths=(129, 129, 129))
    assert proven(full, None, replace(full, samples=reading(at=999.0).samples, queues=reading(at=998.9).queues))


def test_a_copy_that_is_readable_while_the_waiter_sleeps_is_one() -> None:
    proof = proven(touched(reading(lengths=(0, 0, 0))))
    assert (proof.form, proof.threads, proof.listeners) == (Form.COPY, {"100:1000": 50}, ())


def test_a_copy_needs_no_listener() -> None:
    connections = Epoll(PID, E, (Watch(8, EDGE, 4711),))
    assert proven(touched(reading(epolls=(connections,), lengths=(0, 0, 0)))).form is Form.COPY


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


# --- the common conditions --------------------------------------------------------------------------------------------

SECOND = asleep(101)


@pytest.mark.parametrize("number", range(1, len(BEGAN)))
def test_a_waiter_that_was_switched_is_served(number: int) -> None:
    later = range(number, len(BEGAN))
    assert "thread 100 (t100) was woken in between" in refuted(reading(but(asleep(), *later, switches=51)))


@pytest.mark.parametrize("number", range(len(BEGAN)))
@pytest.mark.parametrize("state", ["R", "D", "T", "t"])
def test_a_waiter_that_does_not_sleep_in_each_sample_may_be_on_its_way(state: str, number: int) -> None:
    assert "does not sleep all the time" in refuted(reading(but(asleep(), number, state=state)))


@pytest.mark.parametrize("number", range(len(BEGAN)))
@pytest.mark.parametrize(
    ("trace", "why"),
    [
        ({"tracer": 4711}, "is traced"),
        ({"finite": True}, "waits with a time-out: it heals itself"),
        ({"wchan": "do_freezer_trap"}, "does not sleep where epoll_wait sleeps, but in do_freezer_trap"),
        ({"wchan": "get_signal"}, "but in get_signal"),
        ({"wchan": ""}, "but in an unknown place"),
        ({"call": "ppoll"}, "does not sleep where epoll_wait sleeps"),
    ],
)
def test_a_waiter_sleeps_nowhere_but_in_an_endless_epoll_wait(trace: dict[str, object], why: str, number: int) -> None:
    assert why in refuted(reading(but(asleep(), number, **trace)))


def test_on_newer_kernels_epoll_wait_sleeps_under_another_name() -> None:
    assert proven(reading(asleep(wchan="do_epoll_wait")))


@pytest.mark.parametrize("number", range(len(BEGAN)))
def test_a_frozen_process_sleeps_and_lost_nothing(number: int) -> None:
    frozen = (Process(PID, 1000, frozen=True),)
    assert "its cgroup is frozen" in refuted(sampled(reading(), number, processes=frozen))


def test_another_process_that_is_frozen_is_no_matter() -> None:
    assert proven(reading(processes=(Process(PID, 1000), Process(FORK, 2000, frozen=True))))


@pytest.mark.parametrize("number", range(len(BEGAN)))
def test_waiters_that_come_and_go_are_served(number: int) -> None:
    changed = "its waiters changed in between"
    assert changed in refuted(reading(asleep(), but(SECOND, number, epfd=None, call="read", wchan="pipe_read")))
    assert changed in refuted(without_thread(reading(asleep(), SECOND), 101, number))


def test_a_thread_of_the_same_number_is_not_the_same_thread() -> None:
    assert "its waiters changed in between" in refuted(reading(but(asleep(), 2, 3, started=1)))


# --- a reading as long and as whole as it must be ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (replace(reading(), samples=reading().samples[:3]), "too short"),
        (replace(reading(), queues=reading().queues[:2]), "no connection stood|not read in turn"),
        (sampled(reading(), 2, began=1000.0999), "too short"),
        (sampled(reading(), 3, began=1000.117), "no grace"),
        (read_at(reading(), 2, 1000.111), "no grace"),
        (read_at(reading(), 0, 1000.004), "not read in turn"),
        (read_at(reading(), 1, 1000.051), "not read in turn"),
        (read_at(reading(), 1, 1000.101), "not read in turn"),
        (sampled(reading(), 1, ended=1000.101), "not read in turn"),
        (sampled(reading(), 0, whole=False), "not every thread could be read"),
        (sampled(reading(), 3, whole=False), "not every thread could be read"),
        (sampled(reading(), 0, epolls=()), "could not be read in every sample"),
        (sampled(reading(), 1, epolls=()), "could not be read in every sample"),
        (sampled(reading(), 2, epolls=(nothing(),)), "could not be read in every sample"),
        (sampled(reading(), 3, epolls=(nothing(),)), "could not be read in every sample"),
    ],
)
def test_a_reading_that_lacks_something_proves_nothing(found: Reading, why: str) -> None:
    said = refuted(found)
    assert any(part in said for part in why.split("|"))


def test_samples_of_copies_that_were_not_read_in_turn_prove_nothing() -> None:
    found = touched(reading(lengths=(0, 0, 0)))
    torn = replace(found, samples=(), touched=(*found.touched[:1], *found.touched[:3]))
    assert "the reading was too short" in refuted(torn)


def test_the_last_sample_need_not_tell_of_epolls() -> None:
    assert proven(sampled(reading(), 3, epolls=()))


def test_an_empty_reading_proves_nothing() -> None:
    assert prove(Reading()).proofs == ()


# --- nobody on the way ------------------------------------------------------------------------------------------------

Build = Callable[..., Reading]
FORMS = [
    pytest.param(lambda *traces, **more: reading(asleep(), *traces, **more), id="arrival"),
    pytest.param(lambda *traces, **more: touched(reading(asleep(), *traces, lengths=(0, 0, 0), **more)), id="copy"),
]
ANY_STATE = pytest.mark.parametrize("state", ["R", "D", "T", "t"])


@pytest.mark.parametrize("form", FORMS)
@ANY_STATE
@pytest.mark.parametrize("number", range(len(BEGAN)))
def test_without_a_baseline_no_thread_at_all_may_be_awake(form: Build, state: str, number: int) -> None:
    awake = but(elsewhere(101), number, state=state)
    assert f"thread 101 (t101) is in state {state}, and there is no baseline to say of what" in refuted(form(awake))


@pytest.mark.parametrize("form", FORMS)
@ANY_STATE
@pytest.mark.parametrize("number", range(len(BEGAN)))
def test_who_is_known_to_serve_it_may_not_be_awake(form: Build, state: str, number: int) -> None:
    baseline = healthy(asleep(), SECOND)
    assert "and serves it too" in refuted(form(but(running(101), number, state=state)), baseline)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", range(len(BEGAN)))
def test_a_thread_that_the_baseline_does_not_know_may_not_be_awake(form: Build, number: int) -> None:
    awake = but(elsewhere(101), number, state="R")
    assert "and the baseline does not know it" in refuted(form(awake), KNOWN)


def test_nor_may_one_that_started_meanwhile() -> None:
    late = without_thread(reading(asleep(), but(elsewhere(101), 3, state="R")), 101, 0, 1, 2)
    assert "and the baseline does not know it" in refuted(late, KNOWN)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", range(len(BEGAN) - 1))
def test_a_known_thread_that_wants_to_run_and_gets_no_cpu_may_have_been_woken_for_it(form: Build, number: int) -> None:
    baseline = healthy(asleep(), elsewhere(101))
    assert "gets no CPU to say of what" in refuted(form(but(elsewhere(101), number, state="R", call="")), baseline)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "other",
    [
        running(101),
        but(elsewhere(101), 3, state="R"),  # no more is seen of it
        but(elsewhere(101, call="fsync", wchan="jbd2_log_wait_commit"), 1, 2, state="D"),
        but(elsewhere(101), state="Z"),
    ],
)
def test_a_known_thread_that_has_something_else_to_do_is_no_matter(form: Build, other: Trace) -> None:
    assert proven(form(other), healthy(asleep(), elsewhere(101)))


def test_a_thread_that_waits_for_a_disk_within_an_epoll_wait_may_be_on_its_way() -> None:
    known = healthy(asleep(), elsewhere(101))
    faulting = but(elsewhere(101), 1, state="D", call="epoll_wait", wchan="folio_wait_bit_common")
    assert "gets no CPU" in refuted(reading(asleep(), faulting), known)


def test_a_known_thread_that_ends_while_it_runs_is_no_matter() -> None:
    found = without_thread(reading(asleep(), but(elsewhere(101), 1, state="R")), 101, 2, 3)
    assert proven(found, healthy(asleep(), elsewhere(101)))


def test_who_waits_on_another_epoll_when_all_is_well_may_lack_cpu() -> None:
    baseline = healthy(asleep(), asleep(101, epfd=8), epolls=(epoll(), epoll(8)))
    other = but(asleep(101, epfd=8), state="R", call="", epfd=None)
    assert proven(reading(asleep(), other, epolls=(epoll(), epoll(8))), baseline)


def test_who_was_seen_to_serve_it_in_an_earlier_reading_may_not_be_awake() -> None:
    baseline = healthy(asleep(), elsewhere(101))
    earlier = reading(asleep(), SECOND, at=999.0)
    assert "serves it too" in refuted(reading(asleep(), running(101)), baseline, earlier)


def test_where_only_one_of_several_is_woken_none_of_the_others_may_be_awake() -> None:
    epolls = (epoll(events=EXCLUSIVE), epoll(8, EXCLUSIVE | EPOLLET))
    baseline = healthy(asleep(), asleep(101, epfd=8), epolls=epolls)
    woken = but(asleep(101, epfd=8), 1, 2, 3, state="R", call="", epfd=None)
    assert "serves it too" in refuted(reading(asleep(), woken, epolls=epolls), baseline)


def test_nor_where_only_this_reading_tells_that_they_wait_there() -> None:
    epolls = (epoll(events=EXCLUSIVE), epoll(8, EXCLUSIVE))
    woken = but(asleep(101, epfd=8), 1, 2, 3, state="R", call="", epfd=None, cpu=2.0)
    woken = but(but(woken, 2, cpu=3.0), 3, cpu=4.0)
    known = healthy(asleep(), elsewhere(101))
    assert "serves it too" in refuted(reading(asleep(), woken, epolls=epolls), known)


def test_where_all_are_woken_one_of_the_others_may_be_awake() -> None:
    epolls = (epoll(), epoll(8))
    baseline = healthy(asleep(), asleep(101, epfd=8), epolls=epolls)
    woken = but(asleep(101, epfd=8), 1, 2, 3, state="R", call="", epfd=None)
    assert proven(reading(asleep(), woken, epolls=epolls), baseline)


def test_an_epoll_that_a_fork_shares_has_the_waiters_of_both() -> None:
    mine, its = epoll(), Epoll(FORK, E, (Watch(6, LEVEL, WEB), Watch(11, EDGE, 4711)))  # read a moment later
    baseline = healthy(asleep(), asleep(200, pid=FORK), epolls=(mine, its))
    woken = but(asleep(200, pid=FORK), 1, 2, 3, state="R", call="", epfd=None)
    assert "serves it too" in refuted(reading(asleep(), woken, epolls=(mine, its)), baseline)


def test_an_epoll_with_a_second_descriptor_has_the_waiters_of_both() -> None:
    epolls = (epoll(), replace(epoll(), fd=8))
    baseline = healthy(asleep(), asleep(101, epfd=8), epolls=epolls)
    woken = but(asleep(101, epfd=8), 1, 2, 3, state="R", call="", epfd=None)
    found = touched(reading(asleep(), woken, epolls=epolls, lengths=(0, 0, 0)))
    assert "serves it too" in refuted(found, baseline)


@pytest.mark.parametrize(
    "epolls",
    [
        (epoll(omitted=1), Epoll(PID, 8, (Watch(9, LEVEL, 4711),))),
        (epoll(events=EXCLUSIVE), Epoll(PID, 8, (Watch(9, LEVEL, 4711),), omitted=1)),
    ],
)
def test_entries_that_were_not_read_may_be_shared_with_anybody(epolls: tuple[Epoll, ...]) -> None:
    woken = but(asleep(101, epfd=8), 1, 2, 3, state="R", call="", epfd=None)
    baseline = healthy(asleep(), asleep(101, epfd=8), epolls=epolls)
    assert "serves it too" in refuted(reading(asleep(), woken, epolls=epolls), baseline)


# --- arrival ----------------------------------------------------------------------------------------------------------


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


def test_what_stands_in_this_reading_alone_proves_nothing() -> None:
    assert "for a second" in refuted(reading(lengths=FLAT))


# --- copy -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(BEGAN)))
def test_a_copy_must_be_readable_each_time(number: int) -> None:
    said = [at != number for at in range(len(BEGAN))]
    assert "nothing in it is ready" in refuted(touched(reading(lengths=(0, 0, 0)), *said))


@pytest.mark.parametrize("number", range(len(BEGAN)))
def test_a_copy_that_could_not_be_polled_says_nothing(number: int) -> None:
    said = [None if at == number else True for at in range(len(BEGAN))]
    assert "no copy of it could be polled" in refuted(touched(reading(lengths=(0, 0, 0)), *said))


def test_each_of_the_copies_must_be_there() -> None:
    found = touched(reading(lengths=(0, 0, 0)))
    last = replace(found.touched[3], epolls=())
    assert "no copy of it could be polled" in refuted(replace(found, touched=(*found.touched[:3], last)))


def test_the_copies_count_only_while_the_waiter_sleeps() -> None:
    found = touched(reading(but(asleep(), 2, 3, switches=51), lengths=(0, 0, 0)))
    assert "was woken in between" in refuted(found)


def test_an_idle_loop_beside_a_lost_one_is_not_proven() -> None:
    epolls = (epoll(), epoll(8, inode=PIPE))
    found = reading(asleep(), asleep(101, epfd=8), epolls=epolls)
    assert proven(found).epfd == E


# --- parked elsewhere -------------------------------------------------------------------------------------------------


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
        (parked(asleep(epfd=NOTHING), elsewhere(101)), healthy(asleep(), SECOND), "thread 101 (t101), which serves it"),
        (parked(asleep(epfd=NOTHING), running(101)), KNOWN, "the baseline does not know it"),
        (without_thread(PARKED, 100, 0), KNOWN, "was not there all the time"),
        (replace(PARKED, queues=reading(lengths=FLAT).queues), KNOWN, "no listener that it watches"),
        (touched(replace(PARKED, queues=reading(lengths=FLAT).queues)), KNOWN, "nobody waits on it"),
    ],
)
def test_parked_are_all_who_are_known_to_serve_it_and_nobody_else_comes(
    found: Reading, baseline: Baseline | None, why: str
) -> None:
    said = refuted(found, baseline)
    assert any(part in said for part in why.split("|"))


def test_two_that_are_parked_apart_are_parked() -> None:
    found = reading(asleep(epfd=NOTHING), asleep(101, epfd=10), epolls=(epoll(), nothing(), nothing(10)))
    assert set(proven(found, healthy(asleep(), SECOND)).threads) == {"100:1000", "101:1010"}


def test_one_that_moves_from_one_empty_epoll_to_the_next_is_not_parked() -> None:
    moving = but(asleep(epfd=NOTHING), 2, 3, epfd=10)
    found = reading(moving, epolls=(epoll(), nothing(), nothing(10)))
    assert "does something else" in refuted(found, KNOWN)


def test_a_number_that_was_given_to_another_epoll_since_has_nobody_parked() -> None:
    other = Epoll(PID, E, (Watch(12, LEVEL, WEB), Watch(7, LEVEL, 9005)))
    found = reading(asleep(epfd=NOTHING), epolls=(other, nothing()))
    assert "no listener that it watches got a connection" in refuted(found, KNOWN)


# --- what is told -----------------------------------------------------------------------------------------------------


def test_what_speaks_against_is_told_of_a_few_epolls_only() -> None:
    crowd = [asleep(300 + number, epfd=20 + number) for number in range(TOLD + 5)]
    epolls = tuple(epoll(20 + number, inode=PIPE) for number in range(TOLD + 5))
    said = prove(reading(*crowd, epolls=epolls, lengths=(0, 0, 0))).against
    assert len(said) == TOLD + 1
    assert said[-1] == "and so on, for 5 more"


def test_nothing_speaks_against_an_epoll_that_another_form_proves() -> None:
    assert prove(touched(reading(lengths=(0, 0, 0)))).against == ()


# --- whatever a reading holds -----------------------------------------------------------------------------------------

CHANGES: st.SearchStrategy[dict[str, object]] = st.sampled_from(
    [
        *({"state": state} for state in "RDTZ"),
        *({"epfd": epfd} for epfd in (E, 8, None)),
        *({"finite": True}, {"tracer": 1}, {"wchan": "get_signal"}, {"cpu": 2.0}, {"switches": 9}, {"started": 1}),
    ]
)


@st.composite
def traces(draw: st.DrawFn, tid: int) -> Trace:
    """A thread that mostly sleeps on one of three epolls, and sometimes not."""
    steady = asleep(tid, epfd=draw(st.sampled_from([E, E, 8, NOTHING, None])), switches=draw(st.integers(0, 2)))
    changes = draw(st.lists(st.tuples(st.integers(0, 3), CHANGES), max_size=2))
    for at, fields in changes:
        steady = but(steady, at, **fields)
    return steady


Lengths = st.lists(st.sampled_from([None, 0, 1, 2, 3, 4]), min_size=3, max_size=3) | st.just([1, 2, 3])
EpollsDrawn = st.tuples(
    st.builds(epoll, st.just(E), st.sampled_from([LEVEL, EDGE, EXCLUSIVE, ONESHOT, 0x18])),
    st.builds(epoll, st.just(8), st.sampled_from([LEVEL, EXCLUSIVE]), inode=st.sampled_from([WEB, PIPE])),
    st.just(nothing()),
)
Crowds = st.integers(1, 4).flatmap(lambda size: st.tuples(*(traces(100 + number) for number in range(size))))


@settings(max_examples=600, deadline=None)
@given(
    Crowds, Crowds, EpollsDrawn, Lengths, st.booleans(), st.booleans(), st.lists(st.booleans(), min_size=4, max_size=4)
)
def test_a_proof_has_sleepers_that_never_ran_and_something_that_should_have_woken_them(
    now: tuple[Trace, ...],
    before: tuple[Trace, ...],
    epolls: tuple[Epoll, ...],
    lengths: list[int | None],
    known: bool,
    was: bool,
    readable: list[bool],
) -> None:
    found = touched(reading(*now, epolls=epolls, lengths=lengths), *readable)
    baseline = healthy(*before, epolls=epolls) if known else None
    earlier = (reading(*now, epolls=epolls, lengths=lengths, at=998.0),) if was else ()
    proofs = prove(found, baseline, earlier).proofs
    grew = None not in lengths and len(set(lengths)) == 3 and lengths == sorted(lengths, key=str)
    shown = grew or (was and all(lengths))
    assert all(shown or (proof.form is Form.COPY and all(readable)) for proof in proofs)
    assert all(is_sound(proof, now) and holds(proof, found.samples[-1]) for proof in proofs)
    assert known or not proofs or all(thread.state not in "RDT" for trace in now for thread in trace)


def is_sound(proof: Proof, traces: tuple[Trace, ...]) -> bool:
    """Whether its threads slept in one endless epoll wait from the first sample to the last."""
    sleepers = [trace for trace in traces if f"{trace[0].tid}:{trace[0].started}" in proof.threads]
    return bool(sleepers) and all(
        len({(x.switches, x.epfd, x.started) for x in trace}) == 1
        and all(x.state == "S" and x.wchan == "ep_poll" and not x.finite and not x.tracer for x in trace)
        and (trace[0].epfd == proof.epfd or proof.form is Form.PARKED)
        for trace in sleepers
    )


# --- a proof holds ----------------------------------------------------------------------------------------------------


def test_a_proof_holds_while_its_threads_sleep_on() -> None:
    proof = proven(reading(asleep(), SECOND))
    assert holds(proof, reading(asleep(), SECOND, running(105), at=1001.0).samples[0])


@pytest.mark.parametrize(
    "second",
    [but(SECOND, switches=51), but(SECOND, state="R"), but(SECOND, state="D"), but(SECOND, started=1), elsewhere(105)],
)
def test_a_proof_is_gone_once_one_of_its_threads_has_moved(second: Trace) -> None:
    proof = proven(reading(asleep(), SECOND))
    assert not holds(proof, reading(asleep(), second, at=1001.0).samples[0])


def test_a_proof_is_not_held_by_another_process() -> None:
    proof = proven(reading())
    assert not holds(proof, reading(but(asleep(), pid=FORK)).samples[0])


@given(st.tuples(traces(100), traces(101)), st.integers(0, 3))
def test_a_proof_holds_exactly_while_every_thread_sleeps_and_was_not_switched(
    found: tuple[Trace, ...], number: int
) -> None:
    proof = Proof(Form.COPY, PID, E, {"100:1000": 1, "101:1010": 1}, "", 0.0)
    now = [trace[number] for trace in found]
    still = all(x.state == "S" and x.switches == 1 and x.started == x.tid * 10 for x in now)
    assert holds(proof, reading(*found).samples[number]) == still
