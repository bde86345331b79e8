"""When the host is so scarce of CPU or memory that a late answer says nothing of the service. Pure.

Theory. Being busy is no scarcity: on two CPUs three ordinary processes that compute keep `cpu_some` near 1, and every
probe is answered as fast as ever, for the scheduler lets go first who slept. Nor is a total of PSI alone: one container
that thrashes at its own limit makes `memory_full` 0.4 and `io_full` 0.4, and nobody else is late. What counts is
whether the watchdog itself is late, for it is an ordinary process too and wants no more than a service does. A request
and its answer are some ten wake-ups, here and there: 50 ms before each are half a second, a quarter of a probe's
time-out.

Measured on 6.18 (2 CPUs, 250 Hz), processes that compute on each CPU, in windows of a second: how long the watchdog
waited for a CPU each time it had something to do (`own_wait`), the worst lag of its loop, and how long an answer of a
small server took (median, worst):

| on each CPU | own_wait | lag | answer |
| --- | --- | --- | --- |
| 1 to 2, nice 0 | 0.3–1 ms | 6 ms | 1.2, 7 ms |
| 4, nice 0 | 1–3 ms | 8 ms | 5, 25 ms |
| 10, nice 0 | 2–9 ms | 18 ms | 5, 41 ms |
| 25, nice 0 | 7–18 ms | 34 ms | 28, 101 ms |
| 1, nice -20 | 8–17 ms | 74 ms | 68, 92 ms |
| 50 to 100, nice 0 | 32–79 ms | 118 ms | 140, 326 ms |
| 2, nice -20 | 47–225 ms | 435 ms | 196, 865 ms |
| 1, SCHED_FIFO | 31–250 ms | 751 ms | none for most of each second |

`own_delay`, the share of the time, does not do: with two processes that compute on each CPU it is 0.01 for a watchdog
that has little to do, and 0.9 for one that would like to use 0.3 of a CPU, whose probes are answered in 36 ms. Where
memory thrashes the wait is for pages and not for a CPU: four processes and the watchdog within 100 MB had `memory_full`
0.09 to 0.35, a lag of 110 to 468 ms and probes that timed out, while `own_wait` stayed at 3 ms. Steal was not measured.
"""

from __future__ import annotations

from watchdog.model import Host
from watchdog.reading import Pressure
from watchdog.settings import format_duration

LONG_WAIT = 0.05  # s that the watchdog waits for a CPU each time
LAG = 0.1  # s that its loop lags, where something below explains it
MEMORY = 0.05  # share of the time in which nobody gets on for want of memory
STEAL = 0.25  # share of the CPUs' time that the hypervisor gives to others


def scarcity(pressure: Pressure, host: Host) -> str | None:
    """Why a late answer says nothing of the service, in a clause; None where it does, also where nothing is known."""
    if pressure.own_wait is not None and pressure.own_wait >= LONG_WAIT:
        wait = format_duration(pressure.own_wait)
        return f"the host starves: the watchdog itself waits {wait} for a CPU each time it has something to do"
    if host.loop_lag < LAG:
        return None
    lag = format_duration(host.loop_lag)
    if pressure.memory_full is not None and pressure.memory_full >= MEMORY:
        return (
            f"the host is short of memory: nobody gets on for {pressure.memory_full:.0%} of the time, "
            f"and the watchdog's own loop lags by {lag}"
        )
    if pressure.steal is not None and pressure.steal >= STEAL:
        return (
            f"the hypervisor gives {pressure.steal:.0%} of the CPUs' time to others, "
            f"and the watchdog's own loop lags by {lag}"
        )
    return None
