"""Nobody guards the programs: what they lose stays lost. Then a daemon does to whom ptrace is forbidden: it freezes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest

from tests.kernel_lab.conftest import LOSSES
from tests.kernel_lab.programs import LOSERS, NAMED, Program
from tests.kernel_lab.site import Site
from tests.kernel_lab.table import by_nudge
from watchdog.proof import EPOLL_SLEEP

Record = Callable[[str, object], None]
FROZEN = LOSERS if LOSSES > 1 else [NAMED["nginx"]]  # each takes some 10 s, and half a minute on a busy host
WAITS = {"232 0xffffffff", "281 0xffffffff"}  # epoll_wait and epoll_pwait, without a time-out


def test_without_the_daemon_each_stays_dark_until_somebody_nudges_it(
    site: Site, losses: int, dark_s: float, record_property: Record
) -> None:
    seen = [one for _ in range(losses) for one in site.dark(dark_s, LOSERS)]
    record_property("lab", {"dark": [asdict(one) for one in seen]})
    assert [one.program for one in seen] == [program.name for program in LOSERS] * losses
    assert [one for one in seen if one.lost != 1 or not one.dark or one.for_s < dark_s] == []
    assert [one for one in seen if one.call not in WAITS or one.wchan not in EPOLL_SLEEP] == []
    assert [one for one in seen if not one.answered_after_nudge] == []


@pytest.fixture(scope="module")
def without_ptrace(site: Site) -> Site:
    """Yama forbids ptrace to everybody, until the machine is switched off."""
    site.machine.run("sysctl", "--quiet", "--write", "kernel.yama.ptrace_scope=3")
    site.restart_daemon()
    return site


@pytest.mark.parametrize("program", FROZEN, ids=lambda program: program.name)
def test_where_ptrace_is_forbidden_a_lost_wake_up_is_healed_by_freezing(
    without_ptrace: Site, program: Program, record_property: Record
) -> None:
    before = without_ptrace.life(program)
    [healed] = without_ptrace.heal(program, 1)
    record_property("lab", {"program": program.name, "frozen": asdict(healed)})
    # Yama forbids /proc/PID/syscall and pidfd_getfd, too: nobody knows which epoll a thread waits on.
    assert (healed.verdict, healed.certainty) == ("epoll_stall", "suspected"), healed
    assert by_nudge(healed), healed
    assert healed.methods == ["ptrace", "freeze"]
    assert without_ptrace.life(program) == before


def test_where_ptrace_is_forbidden_a_nudge_by_hand_says_why(without_ptrace: Site) -> None:
    done = without_ptrace.machine.run("epoll-watchdog", "nudge", NAMED["demo"].unit, check=False)
    assert done.returncode == 1
    assert "ptrace_scope" in done.stdout + done.stderr
