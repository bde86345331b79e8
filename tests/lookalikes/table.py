"""The conditions and their right verdicts: the suite is this table, in the issue's order where there is one.

Where two verdicts are right, either may come: which one depends on the moment that the daemon looks.
"""

from __future__ import annotations

from tests.lookalikes import loops, outside, slow, stalls, standing
from tests.lookalikes.condition import Condition, Course, Staged
from watchdog.model import Verdict


def _stall(name: str, staged: Staged, *, delicate: bool = False) -> Condition:
    """To be proven; healed by a nudge, and by nothing else."""
    right = frozenset({Verdict.EPOLL_STALL})
    return Condition(name=name, staged=staged, right=right, confirmed=True, course=Course.PASSES, delicate=delicate)


def _sick(name: str, staged: Staged, *right: Verdict, delicate: bool = False) -> Condition:
    """It lasts, and the right verdict is there at the end."""
    return Condition(name=name, staged=staged, right=frozenset(right), delicate=delicate)


def _passing(name: str, staged: Staged, *right: Verdict, delicate: bool = False) -> Condition:
    """It ends by itself."""
    return Condition(name=name, staged=staged, right=frozenset(right), course=Course.PASSES, delicate=delicate)


def _well(name: str, staged: Staged, *right: Verdict, alone: bool = False, delicate: bool = False) -> Condition:
    """Nothing is wrong: no other verdict is ever told, and no incident opened.

    A delicate one may also be *blind* while every core is kept busy: hogs may keep the daemon's loop waiting for longer
    than a quarter of its short `timeout` (`watched.PACE`), and then it says so.
    """
    verdicts = frozenset({Verdict.HEALTHY, *right})
    return Condition(
        name=name,
        staged=staged,
        right=verdicts,
        busy_too=frozenset({Verdict.BLIND} if delicate else ()),
        course=Course.NOTHING,
        watch_s=6.0,
        alone=alone,
        delicate=delicate,
    )


STARVED = (Verdict.OVERLOADED, Verdict.BLIND)

CONDITIONS: tuple[Condition, ...] = (
    _stall("nginx: both loops lost a wake-up", stalls.nginx),
    _stall("redis: its loop lost a wake-up", stalls.redis, delicate=True),
    _stall("demo service: its loop lost a wake-up", stalls.demo),
    _stall("all of four loops lost a wake-up", stalls.all_of_four),
    _stall("one loop of four lost a wake-up, no traffic", stalls.one_of_four, delicate=True),
    _stall("one loop of four lost a wake-up, under traffic", stalls.one_of_four_under_traffic),
    _stall("the loop of four that serves the Unix socket lost one", stalls.the_first_of_four),
    _sick("nginx: SIGSTOP of its worker", standing.sigstop, Verdict.PAUSED_PROCESS),
    _sick("redis: frozen by its cgroup", standing.frozen, Verdict.PAUSED_PROCESS),
    _sick("redis: held by a debugger", standing.debugged, Verdict.PAUSED_PROCESS),
    _sick("redis: a CPU-bound loop", loops.cpu_bound, Verdict.LOOP_BUSY, delicate=True),
    _sick("a loop blocked on a lock", loops.ordered("lock 0"), Verdict.LOOP_BLOCKED, delicate=True),
    _sick("a loop blocked on a FIFO", loops.ordered("fifo 0"), Verdict.LOOP_BLOCKED),
    _sick("a loop in state D", standing.uninterruptible, Verdict.IO_STUCK),
    _sick("its thread pool is exhausted", loops.ordered("exhaust 0", "pool=2"), Verdict.POOL_STARVED, delicate=True),
    _sick("EMFILE, edge-triggered", loops.ordered("emfile 0", "files=64", "trigger=edge"), Verdict.FD_EXHAUSTED),
    _sick("EMFILE, level-triggered", loops.ordered("emfile 0", "files=64"), Verdict.FD_EXHAUSTED),
    _sick("ONESHOT not re-armed", loops.ordered("forget 0", "trigger=oneshot"), Verdict.LOST_EDGE),
    _sick("an edge was consumed, and nothing done", loops.ordered("deaf 0", "trigger=edge"), Verdict.LOST_EDGE),
    _sick("its listeners are closed", loops.closed, Verdict.LISTENER_LOST),
    _sick("its backlog is full, it takes one at a time", slow.full_backlog, Verdict.OVERLOADED, delicate=True),
    _sick("nginx: its backend answers after 4 s", slow.slow_backend, Verdict.OVERLOADED, delicate=True),
    _sick("packets to its port are dropped", outside.dropped, Verdict.NETWORK),
    _sick("packets to its port are dropped, no Unix socket", outside.dropped_without_unix, Verdict.NETWORK),
    _sick("nginx: the SNMP agent is gone", outside.agent_gone, Verdict.WITNESS_LOST),
    _sick("the SNMP agent is stale", outside.agent_stale, Verdict.WITNESS_LOST),
    _sick("nginx: its certificate has expired", outside.expired, Verdict.WRONG_ANSWERS),
    _sick("nginx: HTTP 500", outside.http_500, Verdict.WRONG_ANSWERS),
    _sick("redis: killed", standing.killed, Verdict.DEAD),
    _sick("a unit stopped by its operator", outside.unit_stopped, Verdict.STOPPED),
    _passing("a unit is restarted by its operator", outside.unit_restarting, Verdict.STARTING),
    _passing("all threads stand still for 3 s", slow.paused, Verdict.HUNG, Verdict.OVERLOADED, delicate=True),
    _well("idle: nobody asks", slow.idle, delicate=True),
    _well("two loops, one of them busy", slow.busy_loop, delicate=True),
    _well("four threads on one epoll, starved of CPU", slow.starved_threads, *STARVED, alone=True),
    _well("the host is starved of CPU", slow.starved_host, *STARVED, alone=True),
)
