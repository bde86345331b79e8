from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.core.readings import (
    BEGAN,
    EDGE,
    ONESHOT,
    PID,
    PIPE,
    WEB,
    E,
    Epolls,
    Trace,
    asleep,
    but,
    elsewhere,
    epoll,
    healthy,
    reading,
    running,
    sampled,
    touched,
    without_thread,
)
from watchdog.reading import Baseline, Family, Process, Reading, Stream
from watchdog.symptoms import Symptoms
from watchdog.symptoms import Trace as Told

BASELINE = healthy(asleep(), elsewhere(101))
ALL = pytest.mark.parametrize("number", range(len(BEGAN)))


def seen(*traces: Trace, baseline: Baseline | None = BASELINE, **more: Any) -> Symptoms:
    """What a reading of these threads shows."""
    return Symptoms(reading(*traces, **more), baseline)


def tids(traces: tuple[Told, ...]) -> list[int]:
    return [trace[0].tid for trace in traces]


# --- who serves the sockets -------------------------------------------------------------------------------------------


def test_the_loops_are_those_that_waited_in_epoll_while_healthy() -> None:
    assert tids(seen(elsewhere(100), asleep(101)).loops) == [100]


@pytest.mark.parametrize("baseline", [None, healthy(elsewhere(100)), healthy(asleep(300))])
def test_where_none_of_them_is_known_or_lives_they_are_those_that_wait_in_epoll(baseline: Baseline | None) -> None:
    waits_once = but(elsewhere(101), 2, call="epoll_wait", epfd=E)
    assert tids(seen(elsewhere(100), waits_once, baseline=baseline).loops) == [101]


def test_where_nobody_waits_in_epoll_each_first_thread_is_taken_for_one() -> None:
    assert tids(seen(elsewhere(100), elsewhere(101), elsewhere(200, pid=200), baseline=None).loops) == [100, 200]


def test_a_thread_that_was_not_there_all_the_time_or_has_ended_is_no_loop() -> None:
    baseline = healthy(asleep(), asleep(101), asleep(102))
    found = without_thread(reading(asleep(), asleep(101), asleep(102, state="Z")), 101, 1)
    assert tids(Symptoms(found, baseline).loops) == [100]


@pytest.mark.parametrize(
    ("found", "informed"),
    [
        (reading(), True),
        (Reading(samples=reading().samples[:1]), False),
        (reading(asleep(call="", epfd=None)), False),
        (reading(running(100)), True),  # it is in no system call, and that is told
        (reading(running(100), asleep(101, call="", epfd=None)), False),
        (reading(running(100), elsewhere(101, call="", state="Z")), True),
        (Reading(), False),
    ],
)
def test_a_reading_informs_where_two_samples_tell_of_system_calls(found: Reading, informed: bool) -> None:
    assert Symptoms(found, BASELINE).informed is informed


def test_an_empty_reading_shows_nothing() -> None:
    nothing_seen = Symptoms(Reading(), BASELINE)
    assert nothing_seen.loops == nothing_seen.in_epoll() == nothing_seen.asleep() == nothing_seen.blocked() == ()
    assert nothing_seen.listeners() == nothing_seen.filled() == ()
    assert {
        nothing_seen.paused(),
        nothing_seen.stuck(),
        nothing_seen.busy(),
        nothing_seen.starved(),
        nothing_seen.at_fd_limit(),
        nothing_seen.drained(),
    } == {None}
    assert (nothing_seen.accepted(), nothing_seen.span) == (False, 0.0)


# --- paused, stuck ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "T"}, "thread 100 (t100) is stopped (state T)"),
        ({"state": "t"}, "thread 100 (t100) is stopped (state t)"),
        ({"tracer": 4711}, "thread 100 (t100) is traced by process 4711"),
    ],
)
def test_a_loop_that_is_stopped_or_traced_all_the_time_is_paused(fields: dict[str, Any], said: str) -> None:
    assert seen(asleep(**fields)).paused() == said


def test_a_process_whose_cgroup_is_frozen_is_paused() -> None:
    assert (
        seen(asleep(), processes=(Process(PID, 1000, frozen=True),)).paused() == "the cgroup of process 100 is frozen"
    )


@ALL
@pytest.mark.parametrize("fields", [{"state": "S"}, {"state": "R"}])
def test_one_sample_without_the_stop_is_enough_to_be_alive(fields: dict[str, Any], number: int) -> None:
    assert seen(but(asleep(state="T"), number, **fields)).paused() is None


@ALL
def test_one_sample_without_the_tracer_or_the_freeze_is_too(number: int) -> None:
    assert seen(but(asleep(tracer=1), number, tracer=0)).paused() is None
    frozen = reading(processes=(Process(PID, 1000, frozen=True),))
    assert Symptoms(sampled(frozen, number, processes=(Process(PID, 1000),)), BASELINE).paused() is None


def test_one_look_does_not_tell_of_a_pause() -> None:
    assert Symptoms(Reading(samples=reading(asleep(state="T")).samples[:1]), BASELINE).paused() is None


def test_two_samples_do() -> None:
    assert Symptoms(Reading(samples=reading(asleep(state="T")).samples[:2]), BASELINE).paused() is not None


def test_the_process_that_serves_may_be_frozen_alone() -> None:
    both = (Process(PID, 1000, frozen=True), Process(200, 2000))
    assert seen(asleep(), asleep(200, pid=200), processes=both).paused() == "the cgroup of process 100 is frozen"


def test_who_does_not_serve_the_sockets_may_be_stopped() -> None:
    shell = (elsewhere(101, state="T"), elsewhere(200, pid=200, tracer=1))
    assert seen(asleep(), *shell, processes=(Process(PID, 1), Process(200, 1, frozen=True))).paused() is None


@pytest.mark.parametrize("baseline", [None, healthy(elsewhere(100))])
def test_where_nobody_knows_who_serves_any_stopped_thread_tells(baseline: Baseline | None) -> None:
    assert (
        seen(asleep(), elsewhere(101, state="T"), baseline=baseline).paused()
        == "thread 101 (t101) is stopped (state T)"
    )


def test_a_loop_in_an_uninterruptible_sleep_all_the_time_is_stuck() -> None:
    stuck = seen(elsewhere(100, state="D", wchan="io_schedule")).stuck()
    assert stuck is not None
    assert (stuck.tid, stuck.wchan) == (100, "io_schedule")


@ALL
def test_a_disk_that_answers_in_between_does_not_stick(number: int) -> None:
    assert seen(but(elsewhere(100, state="D"), number, state="S")).stuck() is None


@pytest.mark.parametrize("state", ["D", "R"])
def test_one_look_does_not_tell_what_lasts(state: str) -> None:
    one = Symptoms(Reading(samples=reading(elsewhere(100, state=state)).samples[:1]), BASELINE)
    assert (one.stuck(), one.busy(), one.starved()) == (None, None, None)


def test_who_does_not_serve_the_sockets_may_wait_for_a_disk() -> None:
    assert seen(asleep(), elsewhere(101, state="D")).stuck() is None


# --- busy, starved ----------------------------------------------------------------------------------------------------


def spent(trace: Trace, *, cpu: float = 0.0, delayed: float = 0.0) -> Trace:
    """With these shares of a CPU used, and lacked, since the first sample."""
    return tuple(
        replace(thread, cpu=1.0 + cpu * at, delayed=delayed * at) for thread, at in zip(trace, BEGAN, strict=True)
    )


@pytest.mark.parametrize(("share", "busy"), [(0.15, False), (0.25, True), (1.0, True)])
def test_a_loop_that_never_rests_and_gets_more_than_crumbs_of_cpu_is_busy(share: float, busy: bool) -> None:
    assert (seen(spent(running(100), cpu=share)).busy() is not None) is busy


@pytest.mark.parametrize(("cpu", "delayed", "busy"), [(0.5, 0.4, True), (0.5, 0.2, False), (0.85, 0.0, True)])
def test_so_is_one_that_slept_in_a_sample_but_wanted_to_run_nearly_all_the_time(
    cpu: float, delayed: float, busy: bool
) -> None:
    slept = but(spent(running(100), cpu=cpu, delayed=delayed), 1, state="S", call="read")
    assert (seen(slept).busy() is not None) is busy


def test_who_does_not_serve_the_sockets_may_burn_cpu() -> None:
    assert seen(asleep(), running(101)).busy() is None


@pytest.mark.parametrize(("share", "starved"), [(0.75, False), (0.85, True)])
def test_a_loop_that_lacked_a_cpu_for_most_of_the_time_starves(share: float, starved: bool) -> None:
    assert (seen(spent(asleep(), delayed=share)).starved() is not None) is starved


@pytest.mark.parametrize(("share", "starved"), [(0.0, True), (0.15, True), (0.25, False)])
def test_so_does_one_that_wants_to_run_all_the_time_and_hardly_does(share: float, starved: bool) -> None:
    assert (seen(spent(running(100), cpu=share)).starved() is not None) is starved


@ALL
def test_one_that_slept_in_between_lacks_no_cpu(number: int) -> None:
    assert seen(but(spent(running(100)), number, state="S")).starved() is None


def test_who_does_not_serve_the_sockets_may_starve() -> None:
    assert seen(asleep(), spent(running(101))).starved() is None


# --- asleep, blocked --------------------------------------------------------------------------------------------------


def test_a_thread_that_waits_in_epoll_in_some_sample_is_told() -> None:
    assert tids(seen(asleep(), but(elsewhere(101), 3, call="epoll_pwait2"), elsewhere(102)).in_epoll()) == [100, 101]


def test_asleep_is_who_sleeps_in_one_endless_epoll_wait() -> None:
    assert tids(seen(asleep(), asleep(101, wchan=""), elsewhere(102)).asleep()) == [100, 101]


@ALL
@pytest.mark.parametrize(
    "fields",
    [
        {"state": "R"},
        {"call": "futex"},
        {"finite": True},
        {"switches": 51},
        {"wchan": "do_freezer_trap"},
    ],
)
def test_who_woke_or_would_wake_by_itself_is_not_asleep(fields: dict[str, Any], number: int) -> None:
    assert seen(but(asleep(), number, **fields)).asleep() == ()


@pytest.mark.parametrize("states", ["SSSS", "DSSS", "SDDS"])
def test_loops_that_sleep_in_something_else_all_the_time_are_blocked(states: str) -> None:
    trace = tuple(replace(x, state=state) for x, state in zip(elsewhere(100), states, strict=True))
    assert tids(seen(trace, asleep(101)).blocked()) == [100]


@ALL
@pytest.mark.parametrize("fields", [{"call": "epoll_wait"}, {"state": "R"}])
def test_a_loop_that_runs_or_comes_back_to_epoll_is_not_blocked(fields: dict[str, Any], number: int) -> None:
    baseline = healthy(asleep(), asleep(101))
    assert seen(elsewhere(100), but(elsewhere(101), number, **fields), baseline=baseline).blocked() == ()


# --- descriptors ------------------------------------------------------------------------------------------------------

FULL, ROOM = Process(PID, 1000, fds=64, fd_limit=64), Process(PID, 1000, fds=63, fd_limit=64)


def test_a_process_without_a_descriptor_left_is_told() -> None:
    assert seen(processes=(FULL,)).at_fd_limit() == FULL


@pytest.mark.parametrize("process", [ROOM, replace(FULL, fds=None), replace(FULL, fd_limit=None)])
def test_one_with_room_or_of_which_that_is_not_known_is_not(process: Process) -> None:
    assert seen(processes=(process,)).at_fd_limit() is None


def test_one_that_serves_no_socket_may_be_without() -> None:
    other = Process(999, 1000, fds=1, fd_limit=0)
    assert seen(processes=(ROOM, other)).at_fd_limit() is None


@ALL
def test_one_that_had_room_in_between_is_not(number: int) -> None:
    assert Symptoms(sampled(reading(processes=(FULL,)), number, processes=(ROOM,)), BASELINE).at_fd_limit() is None


# --- queues -----------------------------------------------------------------------------------------------------------


def inodes(symptoms: Symptoms, asked: tuple[str, ...] = ()) -> list[int]:
    return [queue.inode for queue in replace(symptoms, asked=asked).listeners()]


@pytest.mark.parametrize(
    ("asked", "listeners"),
    [
        ((), [WEB, PIPE]),
        (("127.0.0.1:80", "*:80"), [WEB]),
        (("/run/web.sock",), [PIPE]),
        (("web.example:80", "*:80"), [WEB, PIPE]),  # a name says nothing of which one it leads to
    ],
)
def test_the_listeners_are_those_that_are_asked_where_that_can_be_told(
    asked: tuple[str, ...], listeners: list[int]
) -> None:
    assert inodes(seen(), asked) == listeners


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80"])
def test_a_listener_on_all_addresses_is_asked_by_its_port(address: str) -> None:
    found = reading()
    web, pipe = found.queues[-1].queues
    last = replace(found.queues[-1], queues=(replace(web, address=address), pipe))
    assert inodes(Symptoms(replace(found, queues=(last,)), None), ("10.0.0.1:80", "*:80")) == [WEB]


@pytest.mark.parametrize(("lengths", "filled"), [((1, 1, 1), True), ((3, 1, 2), True), ((1, 0, 1), False)])
def test_a_queue_is_filled_that_was_never_empty(lengths: tuple[int, ...], filled: bool) -> None:
    assert [queue.inode for queue in seen(lengths=lengths).filled()] == ([WEB] if filled else [])


def test_a_queue_that_was_not_read_each_time_is_not_called_filled() -> None:
    assert seen(lengths=(1, None, 1)).filled() == ()


@pytest.mark.parametrize(("lengths", "drains"), [((3, 2, 2), True), ((1, 3, 2), True), ((1, 1, 3), False)])
def test_a_queue_that_becomes_shorter_drains(lengths: tuple[int, ...], drains: bool) -> None:
    assert (seen(lengths=lengths).drained() is not None) is drains


def test_a_queue_that_was_not_read_at_first_may_drain_then() -> None:
    assert seen(lengths=(None, 3, 2)).drained() is not None


def test_a_queue_that_nobody_asks_may_drain() -> None:
    symptoms = seen(lengths=(1, 2, 3), pipe=(3, 2, 1))
    assert replace(symptoms, asked=("127.0.0.1:80",)).drained() is None


WAITING = Stream(0, Family.TCP, "127.0.0.1:80", "127.0.0.1:5000", 4)


@pytest.mark.parametrize(
    ("before", "after", "accepted"),
    [
        (WAITING, replace(WAITING, inode=8001), True),
        (WAITING, WAITING, False),
        (replace(WAITING, inode=8001), replace(WAITING, inode=8001), False),
        (WAITING, replace(WAITING, inode=8002, peer="127.0.0.1:5001"), False),
    ],
)
def test_a_connection_that_waited_and_has_an_owner_now_was_taken(before: Stream, after: Stream, accepted: bool) -> None:
    found = replace(reading(), streams=(before,), streams_after=(after,))
    assert Symptoms(found, None).accepted() is accepted


# --- who watches the queues -------------------------------------------------------------------------------------------


def overlooked(found: Reading, baseline: Baseline | None = BASELINE) -> str | None:
    symptoms = Symptoms(found, baseline)
    return symptoms.overlooked(symptoms.listeners()[0])


def test_an_armed_entry_overlooks_nothing() -> None:
    assert overlooked(reading()) is None


def test_a_listener_that_was_watched_and_is_not_any_more_is_overlooked() -> None:
    assert overlooked(reading(epolls=(epoll(inode=PIPE),))) == "no epoll watches 127.0.0.1:80 any more"


@pytest.mark.parametrize(
    ("epolls", "baseline"),
    [
        ((epoll(inode=PIPE),), None),
        ((epoll(inode=PIPE),), healthy(asleep(), epolls=(epoll(inode=PIPE),))),  # nobody ever watched it
        ((epoll(inode=PIPE, omitted=1),), BASELINE),  # the entry may be there
        ((), BASELINE),
    ],
)
def test_what_is_not_known_is_not_called_overlooked(epolls: Epolls, baseline: Baseline | None) -> None:
    assert overlooked(reading(epolls=epolls), baseline) is None


def test_an_entry_that_is_never_armed_is_overlooked() -> None:
    said = overlooked(reading(epolls=(epoll(events=ONESHOT & ~1),)))
    assert said == "127.0.0.1:80 is watched, but not armed (a ONESHOT that was not set again)"


@ALL
def test_a_oneshot_that_is_armed_again_in_between_is_not(number: int) -> None:
    disarmed = reading(epolls=(epoll(events=ONESHOT & ~1),))
    assert overlooked(sampled(disarmed, number, epolls=(epoll(events=ONESHOT),))) is None


def test_nor_is_one_that_another_epoll_watches() -> None:
    assert overlooked(reading(epolls=(epoll(events=ONESHOT & ~1), epoll(8)))) is None


def test_connections_that_no_copy_tells_of_are_overlooked() -> None:
    found = touched(reading(epolls=(epoll(events=EDGE),)), False, False, False, False)
    assert overlooked(found) == "127.0.0.1:80 has connections and is in no ready list: its edge was consumed"


@ALL
def test_not_so_where_one_copy_told_of_them(number: int) -> None:
    said = [at == number for at in range(len(BEGAN))]
    assert overlooked(touched(reading(epolls=(epoll(events=EDGE),)), *said)) is None


def test_not_so_where_no_copy_could_be_polled() -> None:
    assert overlooked(touched(reading(epolls=(epoll(events=EDGE),)), None, None, None, None)) is None


def test_every_epoll_that_watches_it_must_be_silent() -> None:
    found = touched(reading(epolls=(epoll(events=EDGE), epoll(8))), False, False, False, False)
    tell = tuple(
        replace(sample, epolls=tuple(replace(each, readable=each.fd == 8) for each in sample.epolls))
        for sample in found.touched
    )
    assert overlooked(replace(found, touched=tell)) is None


def test_a_copy_of_an_epoll_that_does_not_watch_it_says_nothing_of_it() -> None:
    found = touched(reading(epolls=(epoll(events=EDGE), epoll(8, inode=PIPE))))
    tell = tuple(
        replace(sample, epolls=tuple(replace(each, readable=each.fd == 8) for each in sample.epolls))
        for sample in found.touched
    )
    assert overlooked(replace(found, touched=tell)) is not None


def test_of_samples_that_tell_of_epolls_the_last_says_who_watches_it() -> None:
    consumed = touched(reading(epolls=(epoll(events=EDGE),)), False, False, False, False)
    assert overlooked(sampled(consumed, 3, epolls=())) is not None
    assert overlooked(sampled(consumed, 3, epolls=(epoll(inode=PIPE),))) is None


def test_hidden_entries_of_one_epoll_may_watch_it() -> None:
    hidden = (epoll(inode=PIPE), epoll(8, inode=PIPE, omitted=1))
    assert overlooked(reading(epolls=hidden)) is None
