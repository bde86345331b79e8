"""The differential diagnosis: what evidence tells apart where the probes alone see one and the same darkness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.make import RUNNING, case
from tests.core.readings import (
    EDGE,
    ONESHOT,
    PID,
    PIPE,
    Trace,
    asleep,
    but,
    elsewhere,
    epoll,
    healthy,
    reading,
    running,
    touched,
)
from tests.core.test_proof_properties import Crowds, EpollsDrawn, Lengths
from watchdog.diagnosis import diagnose
from watchdog.model import Case, Certainty, Host, Kind, Verdict
from watchdog.proof import prove
from watchdog.reading import Advisory, Baseline, Family, Form, Lack, Pressure, Process, Proof, Queue, Reading, Stream
from watchdog.sight import look_at
from watchdog.verdicts import VERDICTS, Stance

ALIVE, SILENT, REFUSED, WRONG = Kind.ALIVE, Kind.SILENT, Kind.REFUSED, Kind.WRONG
UNREACHABLE, LATE = Kind.UNREACHABLE, Kind.LATE
BASELINE = healthy(asleep(), elsewhere(101))
FLAT = (2, 2, 2)
EMPTY = (0, 0, 0)
FULL = Process(PID, 1000, fds=64, fd_limit=64)
PROOF = Proof(Form.ARRIVAL, PID, 5, {"100:1000": 50}, "the accept queue grew while nobody woke", 1000.0)


def told(
    found: Reading | None, *, baseline: Baseline | None = BASELINE, tcp: Kind = SILENT, snmp: Kind = ALIVE, **more: Any
) -> Case:
    """A case of one TCP probe and a witness, with this evidence."""
    return replace(case(tcp=tcp, snmp=snmp), reading=found, baseline=baseline, **more)


def verdict(found: Reading | None, **more: Any) -> Verdict:
    return diagnose(told(found, **more)).verdict


# --- a verdict for each row of the table ------------------------------------------------------------------------------

BLOCKED = reading(elsewhere(100), lengths=FLAT)
BUSY = reading(running(100), lengths=FLAT)
UNARMED = reading(but(asleep(), 3, switches=51), epolls=(epoll(events=ONESHOT & ~1),), lengths=FLAT)
CONSUMED = touched(reading(epolls=(epoll(events=EDGE),), lengths=FLAT), False, False, False, False)
UNWATCHED = reading(epolls=(epoll(inode=PIPE),), lengths=FLAT)
ACCEPTED = Stream(0, Family.TCP, "127.0.0.1:80", "127.0.0.1:5000", 4)
ROWS: dict[str, tuple[Reading, Verdict, str]] = {
    "stopped by a signal": (
        reading(asleep(state="T")),
        Verdict.PAUSED_PROCESS,
        "thread 100 (t100) is stopped (state T)",
    ),
    "traced": (reading(asleep(tracer=9)), Verdict.PAUSED_PROCESS, "thread 100 (t100) is traced by process 9"),
    "frozen": (
        reading(processes=(Process(PID, 1000, frozen=True),)),
        Verdict.PAUSED_PROCESS,
        "the cgroup of process 100 is frozen",
    ),
    "a device": (
        reading(elsewhere(100, state="D", wchan="io_schedule")),
        Verdict.IO_STUCK,
        "thread 100 (t100) sleeps uninterruptibly in io_schedule (state D)",
    ),
    "descriptors": (reading(processes=(FULL,)), Verdict.FD_EXHAUSTED, "process 100 has 64 of 64 descriptors open"),
    "a queue that drains": (
        reading(lengths=(4, 3, 3)),
        Verdict.OVERLOADED,
        "the accept queue of 127.0.0.1:80 drains: somebody takes connections",
    ),
    "a connection that was taken": (
        replace(reading(lengths=FLAT), streams=(ACCEPTED,), streams_after=(replace(ACCEPTED, inode=8001),)),
        Verdict.OVERLOADED,
        "connections that waited were taken meanwhile",
    ),
    "no CPU": (
        reading(but(running(100), cpu=1.0), lengths=FLAT),
        Verdict.OVERLOADED,
        "thread 100 (t100) could run, and gets no CPU",
    ),
    "a handler that computes": (BUSY, Verdict.LOOP_BUSY, "thread 100 (t100) burns CPU and serves nobody"),
    "a lock": (BLOCKED, Verdict.LOOP_BLOCKED, "thread 100 (t100) is in futex (futex_wait_queue), not in epoll"),
    "a disk": (
        reading(but(elsewhere(100, call="pread64", wchan=""), 1, 2, state="D"), lengths=FLAT),
        Verdict.LOOP_BLOCKED,
        "thread 100 (t100) is in pread64, not in epoll",
    ),
    "a call that is not told": (
        reading(elsewhere(100, call="", wchan=""), asleep(101), lengths=FLAT),
        Verdict.LOOP_BLOCKED,
        "thread 100 (t100) is in a system call that is not told, not in epoll",
    ),
    "a ONESHOT": (
        UNARMED,
        Verdict.LOST_EDGE,
        "127.0.0.1:80 is watched, but not armed (a ONESHOT that was not set again); a nudge would not help",
    ),
    "a consumed edge": (
        CONSUMED,
        Verdict.LOST_EDGE,
        "127.0.0.1:80 has connections and is in no ready list: its edge was consumed; a nudge would not help",
    ),
    "a listener that was taken out": (
        UNWATCHED,
        Verdict.LOST_EDGE,
        "no epoll watches 127.0.0.1:80 any more; a nudge would not help",
    ),
    "a pool": (
        reading(lengths=EMPTY),
        Verdict.POOL_STARVED,
        "connections are accepted, for no queue holds any; answers never come",
    ),
    "a loop that sleeps, unproven": (
        reading(epolls=(epoll(events=EDGE),), lengths=FLAT),
        Verdict.EPOLL_STALL,
        "every socket is dark while snmp (inside) answers",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_evidence_names_the_cause_of_a_darkness(row: str) -> None:
    found, expected, reason = ROWS[row]
    diagnosis = diagnose(told(found))
    assert (diagnosis.verdict, diagnosis.reasons[0]) == (expected, reason)
    assert "tcp: silent, silent here" in diagnosis.reasons


@pytest.mark.parametrize("row", ROWS)
def test_only_a_stopped_process_is_certain_without_a_proof(row: str) -> None:
    diagnosis = diagnose(told(ROWS[row][0]))
    assert (diagnosis.certainty is Certainty.CONFIRMED) == (diagnosis.verdict is Verdict.PAUSED_PROCESS)


@pytest.mark.parametrize("row", ROWS)
def test_the_same_evidence_of_a_service_that_answers_is_no_matter(row: str) -> None:
    assert verdict(ROWS[row][0], tcp=ALIVE) is Verdict.HEALTHY


def test_a_sleeping_loop_before_a_filled_queue_is_a_stall_that_is_suspected_by_name() -> None:
    diagnosis = diagnose(told(reading(epolls=(epoll(events=EDGE),), lengths=FLAT)))
    assert diagnosis.certainty is Certainty.SUSPECTED
    assert diagnosis.reasons[1] == ("thread 100 (t100) slept in epoll_wait while connections waited at 127.0.0.1:80")


@pytest.mark.parametrize(
    "found",
    [None, Reading(lacks=(Lack("the threads", "no rights"),)), Reading(samples=reading().samples[:1])],
)
def test_without_evidence_the_divergence_is_a_stall_that_is_suspected(found: Reading | None) -> None:
    diagnosis = diagnose(told(found))
    assert (diagnosis.verdict, diagnosis.certainty) == (Verdict.EPOLL_STALL, Certainty.SUSPECTED)


def test_what_the_evidence_lacks_is_told() -> None:
    lacking = Reading(lacks=(Lack("system calls of process 100", "no rights: run it as root"),))
    diagnosis = diagnose(told(lacking))
    assert "without evidence: system calls of process 100: no rights: run it as root" in diagnosis.reasons
    assert "epoll_stall: not proven: system calls of process 100: no rights: run it as root" in diagnosis.against


def test_a_kernel_that_is_known_to_lose_wake_ups_is_a_reason_and_no_proof() -> None:
    advisory = Advisory("lp1996678", "5.4.0-1095-azure drops a waiter", "5.4.0-1098", "launchpad")
    diagnosis = diagnose(told(None, advisories=(advisory,)))
    assert diagnosis.certainty is Certainty.SUSPECTED
    assert "this kernel is known to lose wake-ups: 5.4.0-1095-azure drops a waiter" in diagnosis.reasons


def test_evidence_that_speaks_for_nothing_is_unsettled() -> None:
    half = reading(but(elsewhere(100), 1, state="R"), lengths=FLAT)
    diagnosis = diagnose(told(half))
    assert diagnosis.verdict is Verdict.UNSETTLED
    assert diagnosis.against[-1] == "epoll_stall: no thread sleeps in epoll all the time"


# --- the proof --------------------------------------------------------------------------------------------------------


def test_a_proof_confirms_and_names_its_form_and_who_answers() -> None:
    diagnosis = diagnose(told(reading(), proofs=(PROOF,)))
    assert (diagnosis.verdict, diagnosis.certainty) == (Verdict.EPOLL_STALL, Certainty.CONFIRMED)
    assert diagnosis.reasons == (
        "the accept queue grew while nobody woke (arrival)",
        "snmp (inside) answers",
        "tcp: silent, silent here",
    )


@pytest.mark.parametrize(
    ("tcp", "unix", "snmp"),
    [
        (SILENT, ALIVE, ALIVE),
        (ALIVE, ALIVE, ALIVE),
        (LATE, ALIVE, LATE),
        (SILENT, SILENT, SILENT),
        (WRONG, ALIVE, ALIVE),
        (REFUSED, REFUSED, ALIVE),
    ],
)
def test_a_proof_confirms_whatever_the_probes_found(tcp: Kind, unix: Kind, snmp: Kind) -> None:
    found = replace(case(tcp=tcp, unix=unix, snmp=snmp), reading=reading(), proofs=(PROOF,))
    assert (diagnose(found).verdict, diagnose(found).certainty) == (Verdict.EPOLL_STALL, Certainty.CONFIRMED)


def test_each_proof_is_told() -> None:
    copy = replace(PROOF, form=Form.COPY, text="epoll 8 has events ready")
    reasons = diagnose(told(None, proofs=(PROOF, copy))).reasons
    assert reasons[:2] == ("the accept queue grew while nobody woke (arrival)", "epoll 8 has events ready (copy)")


def test_why_nothing_is_proven_is_told_of_what_lost() -> None:
    diagnosis = diagnose(told(BUSY, unproven=("epoll 5 of process 100: nobody waits on it",)))
    assert diagnosis.against[0] == "epoll_stall: not proven: epoll 5 of process 100: nobody waits on it"


# --- what lost, and why -----------------------------------------------------------------------------------------------


def test_the_hypotheses_that_lost_are_told_in_the_order_of_the_table() -> None:
    diagnosis = diagnose(told(reading(lengths=EMPTY)))
    assert diagnosis.verdict is Verdict.POOL_STARVED
    assert diagnosis.against == (
        "overloaded: no late answer came, and no accept queue drains",
        "loop_busy: no thread of a loop burns CPU",
        "loop_blocked: a loop's thread waits in epoll",
        "lost_edge: the sockets with work are watched, and ready as far as that could be read",
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (reading(epolls=(epoll(events=EDGE),), lengths=FLAT), "pool_starved: 2 connections wait at 127.0.0.1:80"),
        (replace(reading(lengths=FLAT), queues=()), "pool_starved: its listeners are not known"),
        (reading(elsewhere(100), lengths=EMPTY), "loop_blocked: no connection waits to be accepted"),
    ],
)
def test_a_hypothesis_that_lost_says_what_spoke_against_it(found: Reading, said: str) -> None:
    assert said in diagnose(told(found)).against


def test_of_a_connection_that_was_never_made_no_pool_is_to_blame() -> None:
    assert "pool_starved: not every connection was made" in diagnose(told(reading(), tcp=UNREACHABLE)).against


def test_a_healthy_service_has_nothing_against_it() -> None:
    assert diagnose(told(reading(), tcp=ALIVE, unproven=("epoll 5: nothing",))).against == ()


# --- the first that matches -------------------------------------------------------------------------------------------

STUCK = elsewhere(100, state="D")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (told(reading(asleep(state="T"), STUCK), unit=replace(RUNNING, active_state="inactive")), Verdict.STOPPED),
        (told(reading(asleep(state="T")), unit=replace(RUNNING, active_state="reloading")), Verdict.STARTING),
        (told(reading(asleep(state="T")), host=Host(loop_lag=9.0)), Verdict.BLIND),
        (told(reading(asleep(state="T")), epoch=None), Verdict.DEAD),
        (told(reading(STUCK, processes=(Process(PID, 1, frozen=True),)), proofs=(PROOF,)), Verdict.PAUSED_PROCESS),
        (told(reading(STUCK, processes=(FULL,)), proofs=(PROOF,)), Verdict.IO_STUCK),
        (told(reading(processes=(FULL,), lengths=(3, 2, 1)), proofs=(PROOF,)), Verdict.EPOLL_STALL),
        (told(reading(processes=(FULL,), lengths=(3, 2, 1)), tcp=REFUSED), Verdict.FD_EXHAUSTED),
        (told(reading(lengths=(None,) * 3), tcp=REFUSED, late_answer=999.0), Verdict.LISTENER_LOST),
        (told(reading(lengths=EMPTY), tcp=UNREACHABLE, late_answer=999.0), Verdict.NETWORK),
        (told(reading(running(100), lengths=(3, 2, 1))), Verdict.OVERLOADED),
        (told(reading(running(100), epolls=(epoll(inode=PIPE),), lengths=FLAT)), Verdict.LOOP_BUSY),
        (told(reading(elsewhere(100), epolls=(epoll(inode=PIPE),), lengths=FLAT)), Verdict.LOOP_BLOCKED),
        (told(UNWATCHED), Verdict.LOST_EDGE),
    ],
)
def test_where_several_match_the_first_decides(found: Case, expected: Verdict) -> None:
    assert diagnose(found).verdict is expected


# --- the host, the network and the listeners --------------------------------------------------------------------------

STARVING = Pressure(at=1000.0, window=1.0, own_wait=0.08)


def test_a_host_that_starves_blinds() -> None:
    diagnosis = diagnose(told(reading(), proofs=(PROOF,), pressure=STARVING))
    assert diagnosis.verdict is Verdict.BLIND
    assert "the host starves" in diagnosis.reasons[0]


def test_not_so_where_every_answer_came_in_time() -> None:
    assert verdict(reading(), tcp=ALIVE, pressure=STARVING) is Verdict.HEALTHY


def listening(*queues: Queue) -> Reading:
    found = reading()
    return replace(found, queues=tuple(replace(moment, queues=queues) for moment in found.queues))


HERE, ADMIN = reading(lengths=EMPTY).queues[0].queues[0], replace(reading().queues[0].queues[0], address="127.0.0.1:9")
ASKED = frozenset({"127.0.0.1:80", "*:80"})


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        ((), "every socket refuses connections, and it has no listening socket"),
        ((ADMIN,), "every socket refuses connections, and it still listens on 127.0.0.1:9"),
    ],
)
def test_a_listener_is_lost_that_is_not_there_any_more(left: tuple[Queue, ...], reason: str) -> None:
    diagnosis = diagnose(told(listening(*left), tcp=REFUSED, asked=ASKED))
    assert (diagnosis.verdict, diagnosis.reasons[0]) == (Verdict.LISTENER_LOST, reason)


def test_connections_that_are_refused_though_it_listens_there_are_the_networks_matter() -> None:
    diagnosis = diagnose(told(listening(HERE, ADMIN), tcp=REFUSED, asked=ASKED))
    assert diagnosis.verdict is Verdict.NETWORK
    assert diagnosis.reasons[0] == "no connection arrives at 127.0.0.1:80, which has room for it"
    assert "listener_lost: it still listens on 127.0.0.1:80" in diagnosis.against


def test_a_queue_that_overflows_is_no_matter_of_the_network() -> None:
    full = replace(HERE, length=129)
    diagnosis = diagnose(told(listening(full), tcp=REFUSED, asked=ASKED))
    assert diagnosis.verdict is Verdict.EPOLL_STALL
    assert "network: connections arrive at 127.0.0.1:80" in diagnosis.against


def test_tcp_that_is_dark_before_a_filled_queue_is_no_matter_of_the_network_though_a_unix_socket_answers() -> None:
    found = replace(case(tcp=SILENT, unix=ALIVE, snmp=ALIVE), reading=reading(lengths=FLAT), baseline=BASELINE)
    assert diagnose(found).verdict is Verdict.PARTLY_DARK


@pytest.mark.parametrize(
    ("unix", "verdict_"), [(ALIVE, Verdict.NETWORK), (UNREACHABLE, Verdict.EPOLL_STALL), (SILENT, Verdict.EPOLL_STALL)]
)
def test_a_unix_socket_that_is_dark_too_speaks_against_the_network(unix: Kind, verdict_: Verdict) -> None:
    full = replace(reading(lengths=EMPTY, pipe=(129, 129, 129)))
    found = replace(case(tcp=UNREACHABLE, unix=unix, snmp=ALIVE), reading=full, baseline=BASELINE)
    assert diagnose(found).verdict is verdict_


def test_a_late_answer_of_sockets_that_all_answer_now_is_past() -> None:
    assert verdict(reading(), tcp=ALIVE, snmp=SILENT, late_answer=999.0) is Verdict.WITNESS_LOST


def test_one_that_listens_at_the_asked_port_of_a_host_that_is_called_by_its_name_is_not_lost() -> None:
    there = replace(HERE, address="10.0.0.5:8443")
    diagnosis = diagnose(told(listening(there), tcp=REFUSED, asked=("db.example.org:8443", "*:8443")))
    assert diagnosis.verdict is Verdict.NETWORK
    assert "listener_lost: it still listens on 10.0.0.5:8443" in diagnosis.against


@pytest.mark.parametrize(
    "unread",
    [
        replace(listening(), samples=()),
        replace(listening(), lacks=(Lack("TCP listeners", "the kernel refuses"),)),
    ],
)
def test_listeners_that_could_not_be_read_are_not_lost(unread: Reading) -> None:
    assert verdict(unread, tcp=REFUSED, asked=ASKED) is Verdict.UNSETTLED


@pytest.mark.parametrize("witness", [SILENT, WRONG])
def test_a_loop_that_burns_cpu_is_busy_whatever_a_witness_says(witness: Kind) -> None:
    assert verdict(BUSY, snmp=witness) is Verdict.LOOP_BUSY


def test_a_witness_that_speaks_of_another_process_switches_off_no_evidence() -> None:
    assert verdict(BLOCKED, snmp=WRONG) is Verdict.LOOP_BLOCKED


def test_a_server_that_has_enough_to_do_may_let_new_clients_wait() -> None:
    busy_with_others = reading(but(asleep(), 3, switches=51), epolls=(epoll(inode=PIPE),), lengths=FLAT)
    assert verdict(busy_with_others) is not Verdict.LOST_EDGE


@pytest.mark.parametrize(
    ("tcp", "proofs", "dark"), [(LATE, (PROOF,), True), (ALIVE, (PROOF,), False), (LATE, (), False)]
)
def test_a_round_that_a_proof_has_ended_is_dark_though_its_probes_were_only_late(
    tcp: Kind, proofs: tuple[Proof, ...], dark: bool
) -> None:
    assert look_at(told(reading(), tcp=tcp, proofs=proofs)).gone_dark is dark


# --- no witness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["a handler that computes", "a lock", "a ONESHOT", "a pool", "a queue that drains"])
def test_where_no_witness_is_set_the_kernel_is_one(row: str) -> None:
    found, expected, _ = ROWS[row]
    assert diagnose(replace(case(tcp=SILENT), reading=found, baseline=BASELINE)).verdict is expected


def test_where_the_witness_is_dark_too_the_process_hangs() -> None:
    assert verdict(BLOCKED, snmp=SILENT) is Verdict.HUNG


# --- whatever the evidence --------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(Crowds, Crowds, EpollsDrawn, Lengths)
def test_a_service_that_answers_is_healthy_whatever_its_threads_do_unless_a_wake_up_is_proven_lost(
    now: tuple[Trace, ...], before: tuple[Trace, ...], epolls: tuple[Any, ...], lengths: list[int | None]
) -> None:
    found, baseline = touched(reading(*now, epolls=epolls, lengths=lengths)), healthy(*before, epolls=epolls)
    proven = prove(found, baseline)
    said = diagnose(told(found, baseline=baseline, tcp=ALIVE, proofs=proven.proofs, unproven=proven.against))
    assert said.verdict is (Verdict.EPOLL_STALL if proven.proofs else Verdict.HEALTHY)


@settings(max_examples=300, deadline=None)
@given(Crowds, Crowds, EpollsDrawn, Lengths, st.sampled_from([SILENT, REFUSED, UNREACHABLE]), st.booleans())
def test_a_nudge_is_only_for_who_sleeps_in_epoll_and_never_where_the_kernel_says_otherwise(
    now: tuple[Trace, ...],
    before: tuple[Trace, ...],
    epolls: tuple[Any, ...],
    lengths: list[int | None],
    tcp: Kind,
    known: bool,
) -> None:
    found, baseline = reading(*now, epolls=epolls, lengths=lengths), healthy(*before, epolls=epolls) if known else None
    said = diagnose(told(found, baseline=baseline, tcp=tcp))
    sleeps = any(all(x.state == "S" and x.waits_in_epoll for x in trace) for trace in now)
    told_of = any(trace[-1].state != "Z" for trace in now)
    assert said.verdict is not Verdict.EPOLL_STALL or sleeps or not told_of
    assert VERDICTS[said.verdict].stance is not Stance.GOOD
