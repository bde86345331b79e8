"""The drill, installed: root asks the helper at its socket, and the unprivileged daemon heals Debian's own units."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.installed.site import DAEMON, HELPER, Guarded, Site
from tests.installed.test_survives import configured
from tests.servers import until

ALLOWED = "drill = true\ndrill_under_seccomp = true"  # in a container everybody has the filter of nspawn
NOT_HEALTHY = "is not healthy but"  # a probe was late in the very round that the command looked at: it is asked again


def drill(site: Site, guarded: Guarded, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the command came to, once it found the service healthy."""
    done: list[subprocess.CompletedProcess[str]] = []

    def begun() -> bool:
        site.wait_healthy(guarded)
        command = ("epoll-watchdog", "drill", guarded.name, *arguments)
        done.append(site.machine.run(*command, check=False, timeout=200))
        return NOT_HEALTHY not in done[-1].stderr

    until(begun, 60, f"a healthy {guarded.name} for the drill")
    return done[-1]


@pytest.mark.parametrize("name", ["nginx", "redis"])
def test_root_drills_a_unit_and_the_daemon_heals_it(site: Site, name: str) -> None:
    guarded = getattr(site, name)
    site.wait_healthy(guarded)
    before = site.machine.show(guarded.unit, "InvocationID")
    with configured(site, **{name: ALLOWED}), guarded.held() as client:
        done = drill(site, guarded, "--json", "--at-most", "60s")
        client.ask()
        assert client.answer().endswith(guarded.conversation[1])
    assert done.returncode == 0, done.stdout + done.stderr + site.journal(DAEMON) + site.journal(HELPER)
    told = json.loads(done.stdout)
    assert (told["healed_by"], told["service"]) == ("a nudge", name)
    assert site.machine.show(guarded.unit, "InvocationID") == before
    assert f"drill of '{name}': " in site.journal(HELPER)


def test_a_helper_that_is_killed_in_a_drill_leaves_nobody_dark(site: Site) -> None:
    """Where the daemon would not heal it: its ladder has the alert alone."""
    alone = ALLOWED + '\nladder = { epoll_stall = ["alert"], hung = ["alert"], lost_edge = ["alert"] }'
    site.wait_healthy(site.nginx)
    with configured(site, nginx=alone):
        site.wait_healthy(site.nginx)
        again = f"while epoll-watchdog drill nginx --at-most 60s 2>&1 | grep -q '{NOT_HEALTHY}'; do sleep 0.2; done"
        site.machine.run("systemd-run", "--unit=drill.service", "--collect", "sh", "-c", again)
        site.wait(lambda: not site.nginx.answers(), "a dark nginx")
        site.machine.run("kill", "-KILL", str(site.pid(HELPER)))
        site.wait(site.nginx.answers, "an answer of nginx", within_s=10)
        site.machine.systemctl("stop", "drill.service", check=False)
    site.wait_healthy(site.nginx)


def test_a_service_under_seccomp_is_left_alone_unless_its_filter_is_known(site: Site) -> None:
    site.wait_healthy(site.redis)
    seccomp = site.machine.run("grep", "Seccomp:", f"/proc/{site.pid(site.redis.unit)}/status").stdout.split()[1]
    with configured(site, redis="drill = true"):
        done = drill(site, site.redis)
    assert seccomp == "2"
    assert done.returncode == 4
    assert "seccomp filter" in done.stderr
    site.wait_healthy(site.redis)
