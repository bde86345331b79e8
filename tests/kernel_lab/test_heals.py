"""Unmodified programs lose real wake-ups, and the installed daemon heals them by a nudge; no connection is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest

from tests.kernel_lab.programs import CONTROLS, LOSERS, NAMED, Program
from tests.kernel_lab.site import Site
from tests.kernel_lab.table import by_nudge
from tests.systemd.installed import HELPER

Record = Callable[[str, object], None]
NO_COPIES = "[Service]\nSystemCallFilter=~pidfd_getfd\n"  # the unit's SystemCallErrorNumber= says EPERM


@pytest.fixture(scope="module")
def guarded(site: Site) -> Site:
    """The daemon guards all of them."""
    site.restart_daemon()
    return site


@pytest.mark.parametrize("program", LOSERS, ids=lambda program: program.name)
def test_a_lost_wake_up_is_confirmed_and_healed_by_a_nudge(
    guarded: Site, program: Program, losses: int, record_property: Record
) -> None:
    before = guarded.life(program)
    healed = guarded.heal(program, losses)
    record_property("lab", {"program": program.name, "healed": [asdict(one) for one in healed]})
    assert [one.lost for one in healed] == [1] * losses
    assert [one for one in healed if (one.verdict, one.certainty) != ("epoll_stall", "confirmed")] == []
    assert [one for one in healed if not by_nudge(one)] == []
    assert {method for one in healed for method in one.methods} == {"ptrace"}
    assert guarded.life(program) == before


@pytest.mark.parametrize("program", CONTROLS, ids=lambda program: program.name)
def test_a_program_that_waits_with_a_time_out_loses_nothing(guarded: Site, program: Program) -> None:
    before = guarded.life(program)
    told = guarded.spare(program, 2.0)
    assert told["asked"] > 0
    assert (told["lost"], told["left"], told["incidents"]) == (0, 1, 0)
    assert guarded.life(program) == before


@pytest.fixture(scope="module")
def without_copies(guarded: Site) -> Site:
    """A filter forbids pidfd_getfd to the helper, from now on: its tests are this machine's last."""
    guarded.machine.write_file(f"/run/systemd/system/{HELPER}.d/no-copies.conf", NO_COPIES)
    guarded.machine.systemctl("daemon-reload")
    guarded.restart_daemon()
    return guarded


def test_without_pidfd_getfd_what_stands_before_the_loop_proves_it(without_copies: Site) -> None:
    [healed] = without_copies.heal(NAMED["java"], 1)
    assert (healed.verdict, healed.certainty) == ("epoll_stall", "confirmed"), healed
    assert by_nudge(healed), healed
    assert "(arrival)" in healed.reasons[0] or "(standing)" in healed.reasons[0]
