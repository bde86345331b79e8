"""The proof: what it takes. Each condition has a reading that would be a proof, but for that condition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.core.readings import (
    ADDRESSES,
    BEGAN,
    EDGE,
    EMPTY,
    EXCLUSIVE,
    LEVEL,
    NOTHING,
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
    read_at,
    reading,
    refuted,
    running,
    sampled,
    touched,
    without_thread,
)
from watchdog.proof import TOLD, holds, prove
from watchdog.reading import EPOLLET, Epoll, Form, Process, Reading, Watch

FORK = 200
KNOWN = healthy(asleep())


# --- what is proven ---------------------------------------------------------------------------------------------------


def test_a_queue_that_grows_twice_while_the_waiter_sleeps_is_a_lost_wake_up() -> None:
    proof = proven(reading())
    assert (proof.form, proof.pid, proof.epfd) == (Form.ARRIVAL, PID, E)
    assert proof.threads == {"100:1000": 50}
    assert proof.listeners == ("127.0.0.1:80",)
    assert proof.text == (
        "the accept queue of 127.0.0.1:80 grew (1, 2, 3) while thread 100 (t100) slept on without waking"
    )


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
    first, second, *rest = touched(reading(lengths=EMPTY)).touched
    torn = replace(reading(lengths=EMPTY), touched=(first, replace(second, ended=rest[0].began + 0.001), *rest))
    assert "not read in turn" in refuted(torn)


def test_three_samples_of_copies_are_not_enough() -> None:
    first, _second, *rest = touched(reading(lengths=EMPTY)).touched
    assert "too short" in refuted(replace(reading(lengths=EMPTY), touched=(first, *rest)))


def test_the_last_sample_need_not_tell_of_epolls() -> None:
    assert proven(sampled(reading(), 3, epolls=()))


def test_an_empty_reading_proves_nothing() -> None:
    assert prove(Reading()).proofs == ()


# --- nobody on the way ------------------------------------------------------------------------------------------------

Build = Callable[..., Reading]
FORMS = [
    pytest.param(lambda *traces, **more: reading(asleep(), *traces, **more), id="arrival"),
    pytest.param(lambda *traces, **more: touched(reading(asleep(), *traces, lengths=EMPTY, **more)), id="copy"),
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


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "D", "call": "epoll_wait", "wchan": "folio_wait_bit_common"},
        {"state": "D", "call": ""},
        {"state": "T"},
    ],
)
def test_a_known_thread_that_is_held_up_who_knows_where_may_be_on_its_way(fields: dict[str, Any]) -> None:
    known = healthy(asleep(), elsewhere(101))
    assert "gets no CPU" in refuted(reading(asleep(), but(elsewhere(101), 1, **fields)), known)


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


def test_nor_where_the_last_sample_tells_of_no_epolls() -> None:
    epolls = (epoll(events=EXCLUSIVE), epoll(8, EXCLUSIVE))
    baseline = healthy(asleep(), asleep(101, epfd=8), epolls=epolls)
    woken = but(asleep(101, epfd=8), 1, 2, 3, state="R", call="", epfd=None)
    assert "serves it too" in refuted(sampled(reading(asleep(), woken, epolls=epolls), 3, epolls=()), baseline)


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


@pytest.mark.parametrize(
    "its",
    [
        Epoll(FORK, 8, (Watch(6, LEVEL, WEB),)),  # a worker's own
        Epoll(FORK, E, (Watch(7, LEVEL, 9005),)),  # another listener, or none
        Epoll(FORK, E, ()),
    ],
)
def test_an_epoll_of_another_process_is_mostly_another_one(its: Epoll) -> None:
    baseline = healthy(asleep(), asleep(200, pid=FORK, epfd=its.fd), epolls=(epoll(), its))
    woken = but(asleep(200, pid=FORK, epfd=its.fd), 1, 2, 3, state="R", call="", epfd=None)
    assert proven(reading(asleep(), woken, epolls=(epoll(), its)), baseline)


def test_an_epoll_with_a_second_descriptor_has_the_waiters_of_both() -> None:
    epolls = (epoll(), replace(epoll(), fd=8))
    baseline = healthy(asleep(), asleep(101, epfd=8), epolls=epolls)
    woken = but(asleep(101, epfd=8), 1, 2, 3, state="R", call="", epfd=None)
    found = touched(reading(asleep(), woken, epolls=epolls, lengths=EMPTY))
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


def test_hidden_entries_of_another_epoll_are_no_matter_where_all_are_woken() -> None:
    epolls = (epoll(), Epoll(PID, 8, (Watch(9, LEVEL, 4711),), omitted=1))
    baseline = healthy(asleep(), asleep(101, epfd=8), epolls=epolls)
    woken = but(asleep(101, epfd=8), 1, 2, 3, state="R", call="", epfd=None)
    assert proven(reading(asleep(), woken, epolls=epolls), baseline)


# --- what is told -----------------------------------------------------------------------------------------------------


def test_what_speaks_against_is_told_of_a_few_epolls_only() -> None:
    crowd = [asleep(300 + number, epfd=20 + number) for number in range(TOLD + 5)]
    epolls = tuple(epoll(20 + number, inode=PIPE) for number in range(TOLD + 5))
    said = prove(reading(*crowd, epolls=epolls, lengths=EMPTY)).against
    assert len(said) == TOLD + 1
    assert said[-1] == "and so on, for 5 more"


def test_of_few_epolls_all_is_told() -> None:
    crowd = [asleep(300 + number, epfd=20 + number) for number in range(TOLD)]
    epolls = tuple(epoll(20 + number, inode=PIPE) for number in range(TOLD))
    assert all("epoll 2" in said for said in prove(reading(*crowd, epolls=epolls, lengths=EMPTY)).against)


def test_nothing_speaks_against_an_epoll_that_another_form_proves() -> None:
    assert prove(touched(reading(lengths=EMPTY))).against == ()


def test_an_epoll_that_was_closed_is_not_spoken_of() -> None:
    assert prove(reading(elsewhere(100), epolls=(epoll(8),)), KNOWN).against == ()


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
