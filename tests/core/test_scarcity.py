from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from watchdog.model import Host
from watchdog.reading import Pressure
from watchdog.scarcity import LAG, LONG_WAIT, MEMORY, STEAL, scarcity

NOTHING = Pressure(100.0, 2.0)
shares = st.none() | st.floats(0, 1)
pressures = st.builds(
    Pressure,
    st.just(100.0),
    st.just(2.0),
    cpu_some=shares,
    memory_full=shares,
    io_full=shares,
    unit_cpu_some=shares,
    unit_memory_full=shares,
    unit_io_full=shares,
    steal=shares,
    own_delay=shares,
    own_wait=st.none() | st.floats(0, 10),
)
lags = st.floats(0, 10)


def test_a_watchdog_that_waits_for_a_cpu_each_time_cannot_judge() -> None:
    said = scarcity(replace(NOTHING, cpu_some=1.0, own_delay=0.4, own_wait=0.0835), Host())
    assert said == "the host starves: the watchdog itself waits 83.5ms for a CPU each time it has something to do"


def test_two_cpus_kept_busy_by_four_ordinary_processes_are_no_scarcity() -> None:
    """As measured: see the module's table, and its words on a watchdog that itself would like to use 0.3 of a CPU."""
    assert scarcity(replace(NOTHING, cpu_some=1.0, own_delay=0.01, own_wait=0.0011), Host(loop_lag=0.005)) is None
    assert scarcity(replace(NOTHING, cpu_some=1.0, own_delay=0.9, own_wait=0.0388), Host(loop_lag=0.15)) is None


def test_a_container_that_thrashes_for_itself_is_no_scarcity() -> None:
    thrashing = replace(NOTHING, memory_full=0.47, io_full=0.5, own_wait=0.0002)
    assert scarcity(thrashing, Host(loop_lag=0.002)) is None


def test_a_host_that_thrashes_as_a_whole_is_told() -> None:
    thrashing = replace(NOTHING, memory_full=0.35, own_wait=0.003)
    assert scarcity(thrashing, Host(loop_lag=0.468)) == (
        "the host is short of memory: nobody gets on for 35% of the time, and the watchdog's own loop lags by 468ms"
    )


def test_a_hypervisor_that_gives_the_cpus_to_others_is_told() -> None:
    assert scarcity(replace(NOTHING, steal=0.6), Host(loop_lag=0.2)) == (
        "the hypervisor gives 60% of the CPUs' time to others, and the watchdog's own loop lags by 200ms"
    )


@given(lags)
def test_where_nothing_is_told_nothing_is_scarce(lag: float) -> None:
    assert scarcity(NOTHING, Host(loop_lag=lag)) is None


@given(pressures, lags)
def test_what_is_told_is_never_of_the_service_alone_nor_of_a_busy_host(pressure: Pressure, lag: float) -> None:
    """Whatever PSI says of others, a watchdog that is itself in time can judge."""
    in_time = (pressure.own_wait or 0.0) < LONG_WAIT and lag < LAG
    assert not in_time or scarcity(pressure, Host(loop_lag=lag)) is None


@given(pressures, lags, st.floats(0, 1))
def test_what_grows_scarcer_stays_scarce(pressure: Pressure, lag: float, more: float) -> None:
    grown = replace(
        pressure,
        own_wait=None if pressure.own_wait is None else pressure.own_wait + more,
        memory_full=None if pressure.memory_full is None else min(1.0, pressure.memory_full + more),
        steal=None if pressure.steal is None else min(1.0, pressure.steal + more),
    )
    before, after = scarcity(pressure, Host(loop_lag=lag)), scarcity(grown, Host(loop_lag=lag + more))
    assert before is None or after is not None


@given(pressures.filter(lambda p: (p.own_wait or 0) < LONG_WAIT), st.floats(LAG, 10))
def test_a_loop_that_lags_needs_a_reason(pressure: Pressure, lag: float) -> None:
    explained = (pressure.memory_full or 0) >= MEMORY or (pressure.steal or 0) >= STEAL
    assert (scarcity(pressure, Host(loop_lag=lag)) is not None) == explained
