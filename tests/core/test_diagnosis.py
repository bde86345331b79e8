from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.make import EPOCH, ROADS, RUNNING, case
from watchdog.diagnosis import LATE_FOR, RULES, diagnose
from watchdog.model import Case, Certainty, Host, Kind, Observation, Plane, Policy, Round, Verdict
from watchdog.reading import Pressure
from watchdog.verdicts import VERDICTS, Stance

ALIVE, SILENT, REFUSED, WRONG, ERROR = Kind.ALIVE, Kind.SILENT, Kind.REFUSED, Kind.WRONG, Kind.ERROR
UNREACHABLE, LATE = Kind.UNREACHABLE, Kind.LATE


@pytest.mark.parametrize(
    ("tcp", "unix", "snmp", "verdict"),
    [
        (ALIVE, ALIVE, ALIVE, Verdict.HEALTHY),
        (SILENT, SILENT, ALIVE, Verdict.EPOLL_STALL),
        (UNREACHABLE, UNREACHABLE, ALIVE, Verdict.EPOLL_STALL),
        (SILENT, REFUSED, ALIVE, Verdict.EPOLL_STALL),
        (REFUSED, REFUSED, ALIVE, Verdict.LISTENER_LOST),
        (SILENT, ALIVE, ALIVE, Verdict.NETWORK),
        (REFUSED, ALIVE, ALIVE, Verdict.NETWORK),
        (ALIVE, SILENT, ALIVE, Verdict.PARTLY_DARK),
        (SILENT, WRONG, ALIVE, Verdict.PARTLY_DARK),
        (SILENT, SILENT, SILENT, Verdict.HUNG),
        (REFUSED, REFUSED, SILENT, Verdict.HUNG),
        (SILENT, SILENT, WRONG, Verdict.HUNG),
        (WRONG, ALIVE, ALIVE, Verdict.WRONG_ANSWERS),
        (WRONG, WRONG, SILENT, Verdict.WRONG_ANSWERS),
        (ALIVE, ALIVE, SILENT, Verdict.WITNESS_LOST),
        (ALIVE, ALIVE, WRONG, Verdict.WITNESS_LOST),
        (ERROR, SILENT, ALIVE, Verdict.EPOLL_STALL),
        (ERROR, ALIVE, ALIVE, Verdict.HEALTHY),
        (ERROR, ERROR, ALIVE, Verdict.BLIND),
        (ALIVE, ALIVE, ERROR, Verdict.BLIND),
        (SILENT, SILENT, ERROR, Verdict.BLIND),
        (ALIVE, ALIVE, LATE, Verdict.HEALTHY),
        (SILENT, SILENT, LATE, Verdict.UNSETTLED),
    ],
)
def test_what_the_probes_found_has_its_verdict(tcp: Kind, unix: Kind, snmp: Kind, verdict: Verdict) -> None:
    assert diagnose(case(tcp=tcp, unix=unix, snmp=snmp)).verdict is verdict


def test_a_service_without_a_witness_that_is_dark_is_hung_not_stalled() -> None:
    diagnosis = diagnose(case(tcp=SILENT, unix=SILENT))
    assert diagnosis.verdict is Verdict.HUNG
    assert "no witness is set" in diagnosis.reasons[0]


def test_a_stall_names_the_witness_with_its_strength_and_what_each_probe_found() -> None:
    reasons = diagnose(case(tcp=SILENT, snmp=ALIVE)).reasons
    assert reasons[0] == "every socket is dark while snmp (inside) answers"
    assert "tcp: silent, silent here" in reasons


def test_an_erring_probe_is_left_out_and_told() -> None:
    diagnosis = diagnose(case(tcp=ERROR, unix=ALIVE, snmp=ALIVE))
    assert diagnosis.verdict is Verdict.HEALTHY
    assert "tcp: error, error here" in diagnosis.reasons


def test_without_evidence_nothing_that_probes_found_is_confirmed() -> None:
    assert diagnose(case(tcp=SILENT, snmp=ALIVE)).certainty is Certainty.SUSPECTED


# --- late answers -----------------------------------------------------------------------------------------------------


def test_a_late_answer_tells_a_slow_service_from_a_dark_one() -> None:
    slow = replace(case(tcp=SILENT, snmp=ALIVE), late_answer=990.0)
    assert diagnose(slow).verdict is Verdict.OVERLOADED


def test_a_late_answer_is_forgotten_after_a_while() -> None:
    dark = replace(case(tcp=SILENT, snmp=ALIVE), late_answer=1000.0 - LATE_FOR - 1)
    assert diagnose(dark).verdict is Verdict.EPOLL_STALL


@pytest.mark.parametrize("after", [-0.5, 0.004, 1.9])
def test_a_late_answer_around_a_remedy_is_its_cure_and_no_sign_of_load(after: float) -> None:
    again_dark = replace(case(tcp=SILENT, snmp=ALIVE), acted=980.0, late_answer=980.0 + after)
    assert diagnose(again_dark).verdict is Verdict.EPOLL_STALL


def test_a_late_answer_well_after_a_remedy_is_a_sign_of_load() -> None:
    slow = replace(case(tcp=SILENT, snmp=ALIVE), acted=980.0, late_answer=985.0)
    assert diagnose(slow).verdict is Verdict.OVERLOADED


def test_a_service_that_answers_again_is_healthy_whatever_came_late() -> None:
    assert diagnose(replace(case(tcp=ALIVE, snmp=ALIVE), late_answer=999.0)).verdict is Verdict.HEALTHY


# --- the unit and its process -----------------------------------------------------------------------------------------


def dark() -> Case:
    return replace(case(tcp=SILENT, snmp=ALIVE), unit=RUNNING)


@pytest.mark.parametrize(
    ("unit", "verdict"),
    [
        (RUNNING, Verdict.EPOLL_STALL),
        (replace(RUNNING, active_state="inactive", sub_state="dead"), Verdict.STOPPED),
        (replace(RUNNING, job="stop"), Verdict.STOPPED),
        (replace(RUNNING, load_state="not-found", active_state="inactive"), Verdict.STOPPED),
        (replace(RUNNING, active_state="activating"), Verdict.STARTING),
        (replace(RUNNING, active_state="deactivating"), Verdict.STARTING),
        (replace(RUNNING, active_state="reloading"), Verdict.STARTING),
        (replace(RUNNING, active_state="failed"), Verdict.DEAD),
    ],
)
def test_what_systemd_says_comes_first(unit: object, verdict: Verdict) -> None:
    assert diagnose(replace(dark(), unit=unit)).verdict is verdict  # type: ignore[arg-type]


def test_a_failed_unit_is_dead_though_a_former_process_is_known() -> None:
    failed = replace(RUNNING, active_state="failed", sub_state="failed")
    diagnosis = diagnose(replace(dark(), unit=failed))
    assert (diagnosis.verdict, diagnosis.certainty) == (Verdict.DEAD, Certainty.CONFIRMED)


def test_no_process_is_dead() -> None:
    assert diagnose(replace(dark(), unit=None, epoch=None)).verdict is Verdict.DEAD


def test_a_bus_that_does_not_answer_blinds() -> None:
    diagnosis = diagnose(replace(dark(), unit=None, process_error="no such bus"))
    assert diagnosis.verdict is Verdict.BLIND
    assert "no such bus" in diagnosis.reasons[0]


def test_a_young_process_that_was_never_healthy_is_starting() -> None:
    young = replace(dark(), seen_healthy=False, age=599.0)
    assert diagnose(young).verdict is Verdict.STARTING


def test_a_young_process_that_was_healthy_is_not_starting_any_more() -> None:
    assert diagnose(replace(dark(), seen_healthy=True, age=5.0)).verdict is Verdict.EPOLL_STALL


def test_an_old_process_is_not_starting_though_nobody_saw_it_healthy() -> None:
    assert diagnose(replace(dark(), seen_healthy=False, age=600.0)).verdict is Verdict.EPOLL_STALL


def test_a_young_process_that_answers_is_healthy_at_once() -> None:
    young = replace(case(tcp=ALIVE, snmp=ALIVE), seen_healthy=False, age=1.0)
    assert diagnose(young).verdict is Verdict.HEALTHY


# --- the watchdog itself ----------------------------------------------------------------------------------------------


def test_a_starved_host_blinds_but_not_to_what_is_answered() -> None:
    starved = Pressure(1000.0, 2.0, cpu_some=1.0, own_wait=0.2)
    dark = diagnose(replace(case(tcp=SILENT, snmp=ALIVE), pressure=starved))
    assert dark.verdict is Verdict.BLIND
    assert dark.reasons[0].startswith("the host starves: the watchdog itself waits 200ms for a CPU")
    assert diagnose(replace(case(tcp=ALIVE, snmp=ALIVE), pressure=starved)).verdict is Verdict.HEALTHY


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        (Host(loop_lag=0.49), Verdict.EPOLL_STALL),
        (Host(loop_lag=0.51), Verdict.BLIND),
        (Host(tick_gap=9.9), Verdict.EPOLL_STALL),
        (Host(tick_gap=10.1), Verdict.BLIND),
    ],
)
def test_a_round_that_was_itself_late_blinds(host: Host, verdict: Verdict) -> None:
    assert diagnose(replace(dark(), host=host)).verdict is verdict


# --- properties -------------------------------------------------------------------------------------------------------

kinds = st.sampled_from(Kind)


@given(st.dictionaries(st.sampled_from(sorted(ROADS)), kinds, max_size=3), st.booleans(), st.floats(0, 1e6))
def test_every_case_has_a_verdict_with_a_reason(found: dict[str, Kind], healthy: bool, age: float) -> None:
    observations = {name: Observation(kind, 0.01, "drawn") for name, kind in found.items()}
    drawn = replace(case(), roads=ROADS, round=Round("r", 0.0, 1.0, observations), seen_healthy=healthy, age=age)
    diagnosis = diagnose(drawn)
    assert diagnosis.reasons


@given(kinds, kinds, kinds)
def test_sick_and_dark_are_never_said_of_a_service_whose_every_socket_answers(
    tcp: Kind, unix: Kind, snmp: Kind
) -> None:
    verdict = diagnose(case(tcp=tcp, unix=unix, snmp=snmp)).verdict
    answering = tcp is ALIVE and unix is ALIVE
    assert not (answering and verdict in (Verdict.EPOLL_STALL, Verdict.HUNG, Verdict.PARTLY_DARK, Verdict.NETWORK))


@given(kinds, kinds, kinds)
def test_a_ladder_with_a_remedy_is_only_for_sockets_that_are_all_dark(tcp: Kind, unix: Kind, snmp: Kind) -> None:
    row = VERDICTS[diagnose(case(tcp=tcp, unix=unix, snmp=snmp)).verdict]
    sockets = [kind for kind in (tcp, unix) if kind is not ERROR]
    all_dark = bool(sockets) and all(kind.dark for kind in sockets)
    assert all_dark or len(row.ladder) <= 1


def test_every_rule_says_in_a_line_when_it_holds() -> None:
    assert all(rule.__doc__ and "\n" not in rule.__doc__ for rule in RULES)


def test_every_verdict_has_a_row_and_only_sick_ones_a_ladder() -> None:
    assert set(VERDICTS) == set(Verdict)
    assert all(bool(row.ladder) == (row.stance is Stance.SICK) for row in VERDICTS.values())


def test_a_round_in_which_a_probe_is_still_running_is_unsettled() -> None:
    found = {"tcp": Observation(Kind.LATE, 0.1, "not answered yet")}
    running = Case(
        now=1.0,
        policy=Policy(),
        roads={"tcp": ROADS["tcp"]},
        round=Round("r", 0.0, 1.0, found),
        epoch=EPOCH,
        seen_healthy=True,
    )
    assert ROADS["tcp"].plane is Plane.SOCKET
    assert diagnose(running).verdict is Verdict.UNSETTLED
