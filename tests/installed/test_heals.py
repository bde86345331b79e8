"""The main job, installed: Debian's nginx and redis lose a wake-up, and the unprivileged daemon has them healed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.installed.site import DAEMON, HELPER, NGINX_SOCKET, Guarded, Site
from tests.stall import Held

RIGHTS = {"cap_dac_read_search": 1 << 2, "cap_sys_ptrace": 1 << 19}


@pytest.fixture(params=["nginx", "redis"])
def guarded(request: pytest.FixtureRequest, site: Site) -> Guarded:
    found: Guarded = getattr(site, request.param)
    site.wait_healthy(found)
    return found


def status(site: Site, unit: str) -> dict[str, str]:
    """/proc/PID/status of a unit's main process."""
    text = site.machine.run("cat", f"/proc/{site.pid(unit)}/status").stdout
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))


def test_a_lost_wakeup_is_healed_by_a_nudge_and_no_connection_is_lost(site: Site, guarded: Guarded) -> None:
    before = site.machine.show(guarded.unit, "InvocationID")
    with guarded.held() as client:
        site.stall(guarded)
        client.ask()
        incident = site.wait_told(guarded, "resolved")
        assert_answered(client, guarded)
    rungs = [record["kind"] for record in incident["timeline"] if record["kind"] in ("nudged", "restarted")]
    assert rungs == ["nudged"]
    assert (incident["verdict"], incident["certainty"]) == ("epoll_stall", "confirmed")
    assert site.machine.show(guarded.unit, "InvocationID") == before
    assert site.letters_until("resolved")[0]["kind"] == "opened"


def assert_answered(client: Held, guarded: Guarded) -> None:
    assert client.answer().endswith(guarded.conversation[1])


def test_who_probes_has_no_power_and_who_acts_has_two_and_no_network(site: Site) -> None:
    brain, hands = status(site, DAEMON), status(site, HELPER)
    assert int(brain["CapEff"], 16) == int(brain["CapPrm"], 16) == int(brain["CapBnd"], 16) == 0
    assert brain["Uid"].split() == [site.machine.run("id", "-u", "epoll-watchdog").stdout.strip()] * 4
    assert hands["Uid"].split() == ["0"] * 4
    assert int(hands["CapBnd"], 16) == int(hands["CapEff"], 16) == sum(RIGHTS.values())
    assert brain["NoNewPrivs"] == hands["NoNewPrivs"] == "1"
    networks = {site.machine.run("readlink", f"/proc/{site.pid(unit)}/ns/net").stdout for unit in (DAEMON, HELPER)}
    assert len(networks) == 2
    assert site.machine.run("readlink", "/proc/1/ns/net").stdout in networks


@pytest.fixture
def sick(site: Site) -> Iterator[Callable[[str], None]]:
    """nginx with what is added to its unit; whatever a test does to it, it is well again afterwards."""
    site.wait_healthy(site.nginx)
    site.receiver.letters()
    with ExitStack() as undone:

        def add(text: str) -> None:
            undone.callback(site.drop_in(site.nginx.unit, text))

        yield add
    revive(site, site.nginx)


def test_a_stall_that_outlives_nudges_is_answered_by_a_restart_through_systemd(
    site: Site, sick: Callable[[str], None]
) -> None:
    sick("[Service]\nTimeoutStopSec=1\n")
    before = site.machine.show(site.nginx.unit, "InvocationID")
    site.stall(site.nginx, outlives=-1)
    incident = site.wait_told(site.nginx, "resolved", within_s=40)
    kinds = [record["kind"] for record in incident["timeline"] if record["kind"] in ("nudged", "restarted")]
    assert kinds[0] == "nudged"
    assert kinds[-1] == "restarted"
    after = site.machine.show(site.nginx.unit, "InvocationID")
    assert after != before
    [restarted] = [record for record in incident["timeline"] if record["kind"] == "restarted"]
    assert restarted["detail"]["new_invocation_id"] == after
    letters = {letter["kind"]: letter for letter in site.letters_until("resolved", 10)}
    assert {"opened", "restarted", "resolved"} <= set(letters)


@pytest.mark.usefixtures("sick")
def test_a_unit_that_another_requires_is_not_restarted_and_people_are_told(site: Site) -> None:
    above = f"[Unit]\nRequires={site.nginx.unit}\nAfter={site.nginx.unit}\n[Service]\nExecStart=/bin/sleep infinity\n"
    site.machine.add_unit("stands-on-nginx.service", above, start=True)
    before = site.machine.show(site.nginx.unit, "InvocationID")
    site.stall(site.nginx, outlives=-1)
    incident = site.wait_told(site.nginx, "escalated")
    after = site.machine.show(site.nginx.unit, "InvocationID")
    site.machine.systemctl("stop", "stands-on-nginx.service")
    assert after == before
    refused = [record["text"] for record in incident["timeline"] if "stands-on-nginx.service" in record["text"]]
    assert refused
    assert site.letters_until("escalated")


def revive(site: Site, guarded: Guarded) -> None:
    """End a stall as an operator does who knows no better."""
    site.machine.systemctl("kill", "--signal=KILL", guarded.unit, check=False)
    site.machine.run("rm", "-f", NGINX_SOCKET)  # which nginx, killed, leaves behind, and does not bind anew
    site.machine.systemctl("reset-failed", guarded.unit, check=False)
    site.machine.systemctl("restart", guarded.unit)
    site.wait_healthy(guarded)
    site.receiver.letters()


@pytest.mark.parametrize("moment", ["opened", "nudged"])
def test_a_unit_that_its_operator_stops_while_it_is_dark_stays_stopped(
    site: Site, sick: Callable[[str], None], moment: str
) -> None:
    sick("[Service]\nTimeoutStopSec=1\n")
    site.stall(site.nginx, outlives=-1)
    site.wait_told(site.nginx, moment)
    before = site.machine.show(site.nginx.unit, "InvocationID")
    site.machine.systemctl("stop", site.nginx.unit)
    # Where systemd had to kill it, its unit has failed, and that is told.
    site.wait(lambda: site.service(site.nginx)["verdict"] in ("stopped", "dead"), "nginx stopped")
    rounds = site.service(site.nginx)["last_round_at"]
    site.wait(lambda: site.service(site.nginx)["last_round_at"] > rounds, "another round")
    assert site.machine.show(site.nginx.unit, "ActiveState") in ("inactive", "failed")
    assert site.machine.show(site.nginx.unit, "InvocationID") in ("", before)


def test_a_unit_at_its_start_limit_is_not_stopped_for_a_restart_that_would_not_start_it(
    site: Site, sick: Callable[[str], None]
) -> None:
    sick("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n")
    site.machine.systemctl("reset-failed", site.nginx.unit)
    site.machine.systemctl("restart", site.nginx.unit)
    site.wait_healthy(site.nginx)
    before = site.machine.show(site.nginx.unit, "InvocationID")
    site.stall(site.nginx, outlives=-1)
    incident = site.wait_told(site.nginx, "escalated")
    assert site.machine.show(site.nginx.unit, "InvocationID") == before
    assert [record["text"] for record in incident["timeline"] if "start limit" in record["text"]]


def test_the_shim_is_the_only_thing_that_the_test_put_into_the_units(site: Site) -> None:
    """What is guarded is Debian's own unit: hardened as it ships."""
    for unit in (site.nginx.unit, site.redis.unit):
        dropped = site.machine.show(unit, "DropInPaths").split()
        assert dropped == [f"/etc/systemd/system/{unit}.d/shim.conf"]
        assert Path(site.machine.show(unit, "FragmentPath")).parent.name == "system"
