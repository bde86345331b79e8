"""What the bench makes of its figures."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from bench import needs
from bench.processes import cpu_seconds, cpu_seconds_of_all, memory
from bench.report import Section, at_most_a, below, none, percentile, table
from bench.stops import parse

TRACE = """\
# tracer: nop
#
# entries-in-buffer/entries-written: 5/5   #P:2
#
    bench-victim-11  [001] d..2.  10.000100: sched_switch: prev_comm=bench-victim prev_pid=11 prev_prio=120 \
prev_state=t ==> next_comm=swapper/1 next_pid=0 next_prio=120
    bench-victim-12  [000] d..2.  10.000200: sched_switch: prev_comm=bench-victim prev_pid=12 prev_prio=120 \
prev_state=R+ ==> next_comm=strace next_pid=90 next_prio=120
    bench-victim-11  [001] d..2.  10.000143: sched_switch: prev_comm=bench-victim prev_pid=11 prev_prio=120 \
prev_state=S ==> next_comm=swapper/1 next_pid=0 next_prio=120
    bench-victim-11  [001] d..2.  10.999999: sched_switch: prev_comm=bench-victim prev_pid=11 prev_prio=120 \
prev_state=T ==> next_comm=swapper/1 next_pid=0 next_prio=120
    bench-victim-11  [001] d..2.  11.000009: sched_switch: prev_comm=bench-victim prev_pid=11 prev_prio=120 \
prev_state=S ==> next_comm=swapper/1 next_pid=0 next_prio=120
"""


def test_a_stop_is_from_the_traced_state_to_the_next_sleep() -> None:
    assert parse(TRACE) == {11: [43, 10]}


def test_a_record_that_is_not_whole_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        parse(TRACE.replace("5/5", "5/6"))


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(20, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.95, 1.0)] == [10.0, 19.0, 20.0]
    assert percentile([7.0], 0.95) == 7.0


def test_a_share_is_held_up_to_its_limit_and_not_beyond() -> None:
    assert at_most_a("", ours=1.0, theirs=3.0, part=3).held
    assert not at_most_a("", ours=1.01, theirs=3.0, part=3).held


def test_what_must_not_happen_is_held_only_if_it_never_did() -> None:
    assert none("", 0.0).held
    assert not none("", 1.0).held


def test_a_section_with_a_bar_that_is_missed_says_so() -> None:
    section = Section("title", "how", ("a",), (("1",),), (below("x", 1.0, 2.0, "s"), below("y", 2.0, 2.0, "s")))
    assert not section.held
    assert "| y         | 2 s   | under 2 s | **no** |" in str(section)


def test_a_table_is_aligned() -> None:
    assert table(("one", "2"), (("a", "long"),)) == "| one | 2    |\n| --- | ---- |\n| a   | long |"


def test_a_missing_program_is_told_with_its_package() -> None:
    with pytest.raises(needs.Missing, match=r"no no-such-program; as root: apt-get install its-package"):
        needs.programs(sh="dash", no_such_program="its-package")


def test_the_cpu_time_of_a_process_is_that_of_its_own_clock() -> None:
    before, own = cpu_seconds(os.getpid()), time.process_time()
    sum(range(1_000_000))
    assert cpu_seconds(os.getpid()) - before == pytest.approx(time.process_time() - own, abs=0.005)


def test_the_cpu_time_of_children_that_have_ended_is_added_where_it_is_asked_for() -> None:
    before, own = cpu_seconds_of_all(os.getpid()), cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
    children = cpu_seconds_of_all(os.getpid()) - before - (cpu_seconds(os.getpid()) - own)
    assert children > 0.05


def test_a_process_shares_pages_so_its_part_is_smaller_than_what_it_holds() -> None:
    held = memory(os.getpid())
    assert 0 < held.pss < held.rss
