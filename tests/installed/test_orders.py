"""Orders to the installed daemon: by root, by a member of its group, and by nobody else."""

from __future__ import annotations

import json

from tests.installed.site import DAEMON, Site

SOCKET = "/run/epoll-watchdog/control/control.sock"
OPERATOR = ("setpriv", "--reuid=4242", "--regid=4242", "--groups")


def test_root_orders_by_the_commands_own_default(site: Site) -> None:
    site.wait_healthy(site.nginx)
    done = site.machine.run("env", "SUDO_USER=alice", "epoll-watchdog", "pause", "nginx", "--reason", "a new disk")
    assert done.stdout == "nginx: paused\n"
    assert site.service(site.nginx)["pause_by"] == "root (for alice, as it says)"
    site.machine.systemctl("restart", DAEMON)
    site.wait_healthy(site.nginx)
    assert site.service(site.nginx)["paused"]
    assert site.machine.run("epoll-watchdog", "resume", "--all").returncode == 0
    assert not site.service(site.nginx)["paused"]


def test_a_member_of_its_group_may_order_and_nobody_else(site: Site) -> None:
    site.wait_healthy(site.nginx)
    assert site.machine.run("stat", "-c", "%a %U:%G", SOCKET).stdout.split() == ["660", "epoll-watchdog:epoll-watchdog"]
    command = ("epoll-watchdog", "resume", "nginx", "--json")
    member = site.machine.run(*OPERATOR, _group(site), *command)
    assert json.loads(member.stdout)["by"].startswith("somebody of the socket's group")  # PrivateUsers=
    stranger = site.machine.run(*OPERATOR, "4242", *command, check=False)
    assert stranger.returncode != 0
    assert "is for root and its group: run this with sudo" in stranger.stderr


def _group(site: Site) -> str:
    return site.machine.run("getent", "group", "epoll-watchdog").stdout.split(":")[2]
