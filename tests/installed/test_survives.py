"""What may happen to the daemon itself while it guards: reloads, kills, a full disk, an upgrade."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.installed.site import CONFIG, DAEMON, HELPER, SOCKET, Site
from tests.installed.test_heals import revive

STATE = "/var/lib/epoll-watchdog"
READ = "config_last_reload_success_timestamp_seconds"


@pytest.fixture(autouse=True)
def well(site: Site) -> Iterator[None]:
    site.wait_healthy(site.nginx, site.redis)
    yield
    if not site.nginx.answers():
        revive(site, site.nginx)


@contextmanager
def configured(site: Site, **keys: str) -> Iterator[None]:
    """The daemon runs with these keys for its services."""
    reload(site, **keys)
    try:
        yield
    finally:
        reload(site)


def reload(site: Site, **keys: str) -> None:
    """`systemctl reload` ends with the signal; the daemon, "reloading" meanwhile, has read its config later."""
    site.configure(**keys)
    before = site.metric(READ)
    site.machine.systemctl("reload", DAEMON)
    site.wait(lambda: site.metric(READ) != before, "the new config in force")
    site.machine.wait_until(DAEMON, timeout=30)


def test_a_good_config_is_in_force_after_a_reload_and_a_bad_one_fails_it_and_changes_nothing(site: Site) -> None:
    pid = site.pid(DAEMON)
    with configured(site, nginx='mode = "nudge"'):
        site.wait(lambda: site.service(site.nginx)["mode"] == "nudge", "the new mode in the next round")
        site.configure(nginx='mode = "nudges"')
        refused = site.machine.run("systemctl", "reload", DAEMON, check=False)
        said = site.journal(DAEMON)
        state, after = site.machine.show(DAEMON, "ActiveState"), site.service(site.nginx)["mode"]
    assert refused.returncode != 0
    assert f"{CONFIG}: service.nginx.mode" in said
    assert (state, after) == ("active", "nudge")
    assert site.pid(DAEMON) == pid
    site.wait(lambda: site.service(site.nginx)["mode"] == "full", "the old mode")


def test_a_start_with_a_broken_config_fails_at_once_and_says_where(site: Site) -> None:
    site.machine.systemctl("stop", DAEMON)
    site.configure(redis="fall = 0")
    start = site.machine.run("systemctl", "start", DAEMON, check=False)
    state, restarts, said = (
        site.machine.show(DAEMON, "ActiveState"),
        site.machine.show(DAEMON, "NRestarts"),
        site.journal(DAEMON),
    )
    site.configure()
    site.machine.systemctl("reset-failed", DAEMON)
    site.machine.systemctl("start", DAEMON)
    site.wait_healthy(site.nginx, site.redis)
    assert start.returncode != 0
    assert (state, restarts) == ("failed", "0")
    assert f"{CONFIG}: service.redis.fall" in said


def test_a_brain_that_stands_still_is_restarted_by_systemd_and_takes_the_incident_up(site: Site) -> None:
    with configured(site, nginx='mode = "nudge"'):
        site.stall(site.nginx, outlives=-1)
        before = site.wait_told(site.nginx, "escalated")
        pid = site.pid(DAEMON)
        site.machine.run("kill", "-STOP", str(pid))
        site.wait(lambda: site.pid(DAEMON) not in (0, pid), "another brain", within_s=30)
        site.wait(lambda: site.service(site.nginx)["incident"] is not None, "the incident in the new brain")
        after = site.incidents(site.nginx)[0]
        revive(site, site.nginx)
        ended = site.wait_told(site.nginx, "resolved")  # the view knows it before the store
    assert after["id"] == before["id"] == ended["id"]
    assert [record["kind"] for record in ended["timeline"]].count("opened") == 1
    assert ended["timeline"][-1]["kind"] == "resolved"


def test_a_restart_of_the_brain_leaves_the_helpers_socket_and_an_idle_helper_alone(site: Site) -> None:
    listening = site.machine.show(SOCKET, "InvocationID")
    inode = site.machine.run("stat", "-c", "%i", "/run/epoll-watchdog/helper.sock").stdout
    site.machine.systemctl("restart", DAEMON)
    site.wait_healthy(site.nginx)
    assert site.machine.show(SOCKET, "InvocationID") == listening
    assert site.machine.run("stat", "-c", "%i", "/run/epoll-watchdog/helper.sock").stdout == inode
    site.stall(site.nginx)
    assert "nudged" in [record["kind"] for record in site.wait_told(site.nginx, "resolved")["timeline"]]


def test_a_helper_that_is_killed_in_a_nudge_is_there_for_the_next_one(site: Site) -> None:
    pid = site.pid(HELPER)
    site.machine.run("kill", "-STOP", str(pid))
    site.stall(site.nginx)
    site.wait_told(site.nginx, "acting")
    site.machine.run("kill", "-KILL", str(pid))
    incident = site.wait_told(site.nginx, "resolved")
    nudges = [record for record in incident["timeline"] if record["kind"] == "nudged"]
    assert [nudge["detail"]["outcome"] for nudge in nudges][-1] == "done"
    assert len(nudges) == 2
    assert "restarted" not in [record["kind"] for record in incident["timeline"]]
    assert site.pid(HELPER) not in (0, pid)


def test_a_full_state_directory_costs_no_nudge(site: Site) -> None:
    machine = site.machine
    machine.systemctl("stop", DAEMON)
    owner = "uid=epoll-watchdog,gid=epoll-watchdog"
    machine.run("mount", "-t", "tmpfs", "-o", f"size=1m,mode=700,{owner}", "tmpfs", STATE)
    try:
        machine.systemctl("start", DAEMON)
        site.wait_healthy(site.nginx)
        machine.run("dd", "if=/dev/zero", f"of={STATE}/ballast", "bs=4k", check=False)
        woken = len(site.nginx.shim.moments("woken"))
        site.stall(site.nginx)
        site.wait(lambda: len(site.nginx.shim.moments("woken")) > woken, "the nudge")
        site.wait(lambda: site.service(site.nginx)["verdict"] == "healthy", "nginx healthy")
        machine.run("rm", f"{STATE}/ballast")
        site.stall(site.nginx)
        site.wait_told(site.nginx, "resolved")
    finally:
        machine.systemctl("stop", DAEMON)
        machine.run("umount", STATE)
        machine.systemctl("start", DAEMON)
        site.wait_healthy(site.nginx, site.redis)
    assert "the state cannot be written" in site.journal(DAEMON, 400)


def test_an_upgrade_in_the_middle_of_an_incident_loses_nothing_of_it(site: Site, newer: Path) -> None:
    with configured(site, nginx='mode = "nudge"'):
        site.stall(site.nginx, outlives=-1)
        before = site.wait_told(site.nginx, "escalated")
        pid, listening = site.pid(DAEMON), site.machine.show(SOCKET, "InvocationID")
        site.machine.run("dpkg", "--force-confold", "-i", str(newer), timeout=300)
        site.wait(lambda: site.pid(DAEMON) not in (0, pid), "the new brain")
        site.wait(lambda: site.service(site.nginx)["incident"] is not None, "the incident in the new brain")
        revive(site, site.nginx)
        ended = site.wait_told(site.nginx, "resolved")  # the view knows it before the store
    assert ended["id"] == before["id"]
    assert ended["timeline"][: len(before["timeline"])] == before["timeline"]
    assert ended["timeline"][-1]["kind"] == "resolved"
    assert site.machine.show(SOCKET, "ActiveState") == "active"
    assert listening
    site.stall(site.nginx)
    assert "nudged" in [record["kind"] for record in site.wait_told(site.nginx, "resolved")["timeline"]]


INSTALLED = "/usr/lib/epoll-watchdog/bin/python3"
RECORD = "import sys; from watchdog.helper import frozen; frozen.record(sys.argv[1], sys.argv[2])"
FROZEN = "/var/lib/epoll-watchdog-helper/frozen"


def test_where_ptrace_is_not_to_be_used_a_freeze_heals_and_loses_no_connection(site: Site) -> None:
    before = site.machine.show(site.nginx.unit, "InvocationID")
    with configured(site, nginx='nudge = { methods = ["freeze"] }'), site.nginx.held() as client:
        site.stall(site.nginx)
        client.ask()
        incident = site.wait_told(site.nginx, "resolved")
        assert client.answer().endswith(site.nginx.conversation[1])
    [nudged] = [record for record in incident["timeline"] if record["kind"] == "nudged"]
    assert [each["method"] for each in nudged["detail"]["methods"]] == ["freeze"]
    assert nudged["detail"]["outcome"] == "done"
    assert site.machine.show(site.nginx.unit, "InvocationID") == before
    assert site.machine.show(site.nginx.unit, "FreezerState") == "running"
    assert site.machine.run("ls", FROZEN).stdout == ""


def test_a_unit_that_a_helper_froze_and_left_by_its_death_is_thawed_by_systemd(site: Site) -> None:
    """As a helper leaves it that dies between freeze and thaw: recorded and frozen."""
    machine, pid = site.machine, site.pid(HELPER)
    with configured(site, redis='mode = "observe"'):
        # As the helper sees the host: nspawn shows another boot_id than the kernel's own, which a fresh /proc has.
        machine.run("nsenter", "-m", "-t", str(pid), INSTALLED, "-I", "-c", RECORD, FROZEN, site.redis.unit)
        machine.systemctl("freeze", site.redis.unit)
        machine.run("kill", "-KILL", str(pid))
        site.wait(lambda: machine.show(site.redis.unit, "FreezerState") == "running", "the thaw")
        site.wait(site.redis.answers, "an answer of redis")
        site.wait(lambda: machine.run("ls", FROZEN).stdout == "", "the record's end")
        site.wait_healthy(site.redis)
