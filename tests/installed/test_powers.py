"""What a hijacked brain could do: a process under its uid, at the helper's socket, as installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.installed.site import CONFIG, DAEMON, HELPER, Site

HELPER_SOCKET = "/run/epoll-watchdog/helper.sock"
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as peer:
    peer.settimeout(20)
    peer.connect(sys.argv[1])
    lines = peer.makefile("rb")
    for request in sys.argv[2:]:
        peer.sendall(request.encode() + b"\\n")
        print(lines.readline().decode(), end="")
"""
CROWD = """
import socket, sys
peers = []
for _ in range(1000):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(sys.argv[1])  # waits where the queue is full: with a time-out it would be EAGAIN
    peer.settimeout(20)
    peers.append(peer)
print(sum(b"refused" in peer.recv(4096) for peer in peers[100:]))
"""
FLOOD = """
import socket, sys
with socket.socket(socket.AF_UNIX) as peer:
    peer.settimeout(20)
    peer.connect(sys.argv[1])
    peer.sendall(b"x" * (1 << 20) + b"\\n")
    print(peer.makefile("rb").readline().decode(), end="")
"""


def as_user(site: Site, user: str, code: str, *arguments: str) -> str:
    """What a program prints that runs as this user in the machine."""
    identity = (f"--reuid={user}", f"--regid={'nogroup' if user == 'nobody' else user}", "--clear-groups")
    return site.machine.run("setpriv", *identity, "/usr/bin/python3", "-c", code, *arguments, check=True).stdout


def ask(site: Site, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    """The helper's replies to a process under the brain's uid."""
    lines = [json.dumps({"id": number, **request}) for number, request in enumerate(requests)]
    return [json.loads(line) for line in as_user(site, "epoll-watchdog", ASK, HELPER_SOCKET, *lines).splitlines()]


def pinned(site: Site, pid: int) -> dict[str, int]:
    """The PID with its start time."""
    stat = site.machine.run("cat", f"/proc/{pid}/stat").stdout
    return {"pid": pid, "start_time": int(stat.rpartition(")")[2].split()[19])}


def nudge(site: Site, pid: int, service: str = "nginx") -> dict[str, Any]:
    return {"verb": "nudge", "service": service, **pinned(site, pid)}


def test_no_process_but_those_of_the_named_unit_is_touched(site: Site) -> None:
    others = [1, site.pid("dbus.service"), site.pid("systemd-journald.service"), site.pid(HELPER), site.pid(DAEMON)]
    others += [site.pid("snmpd.service"), site.pid(site.redis.unit)]
    replies = ask(site, *(nudge(site, pid) for pid in others))
    assert {reply["outcome"] for reply in replies} == {"refused"}
    assert len(replies) == len(others)


@pytest.mark.parametrize("service", ["snmpd", "../nginx", "nginx.service", "", "/etc/passwd", "nginx\n"])
def test_no_service_is_touched_that_the_config_does_not_name(site: Site, service: str) -> None:
    [reply] = ask(site, nudge(site, site.pid(site.nginx.unit), service))
    assert reply["outcome"] == "refused"
    assert "the config names no service" in reply["reason"]


def test_a_pid_that_is_another_process_by_now_is_not_touched(site: Site) -> None:
    pid = site.pid(site.nginx.unit)
    older = {**pinned(site, pid), "start_time": 1}
    [reply] = ask(site, {"verb": "nudge", "service": "nginx", **older})
    assert reply["outcome"] == "gone"


@pytest.mark.parametrize("verb", ["stall", "freeze", "exec", "stop", "kill"])
def test_there_is_no_verb_but_those_of_the_table(site: Site, verb: str) -> None:
    [reply] = ask(site, {"verb": verb, "service": "nginx", **pinned(site, site.pid(site.nginx.unit))})
    assert "unknown verb" in reply["reason"]


def test_the_brain_may_not_ask_for_a_drill(site: Site) -> None:
    [reply] = ask(
        site, {"verb": "drill", "service": "nginx", **pinned(site, site.pid(site.nginx.unit)), "at_most": 9000}
    )
    assert reply["reason"].startswith("only root may ask for a drill, not uid ")


def test_others_cannot_even_connect(site: Site) -> None:
    with pytest.raises(AssertionError, match="PermissionError"):
        as_user(site, "nobody", ASK, HELPER_SOCKET, "{}")


@contextmanager
def written(site: Site, text: str, mode: str) -> Iterator[None]:
    """A config that names another unit, in a file that others can write."""
    path = "/etc/epoll-watchdog/conf.d/more.toml"
    site.machine.write_file(path, text)
    site.machine.run("sh", "-c", mode, "-", path)
    try:
        yield
    finally:
        site.machine.run("rm", "-f", path)


MORE = """
[service.agent]
unit = "snmpd.service"
[service.agent.probe.tcp]
type = "tcp"
address = "127.0.0.1:1"
connect_only = true
"""


@pytest.mark.parametrize("mode", ["chmod g+w $1", "chown epoll-watchdog $1"])
def test_a_config_that_others_can_write_is_not_obeyed(site: Site, mode: str) -> None:
    with written(site, MORE, mode):
        [reply] = ask(site, nudge(site, site.pid("snmpd.service"), "agent"))
    assert reply["outcome"] == "refused"
    assert "can be written by others than root" in reply["reason"]


def test_a_config_behind_a_link_that_others_can_bend_is_not_obeyed(site: Site) -> None:
    bend = 'mv "$1" /tmp/more.toml; ln -s /tmp/more.toml /run/stall/more.toml; ln -s /run/stall/more.toml "$1"'
    with written(site, MORE, bend):
        [reply] = ask(site, nudge(site, site.pid("snmpd.service"), "agent"))
    site.machine.run("rm", "-f", "/run/stall/more.toml", "/tmp/more.toml")
    assert reply["outcome"] == "refused"


def test_no_more_than_the_budget_is_spent_though_the_helper_was_gone_in_between(site: Site) -> None:
    site.wait_healthy(site.redis)
    path = "/etc/epoll-watchdog/config.toml"
    site.configure(redis="budget.capture.burst = 1")
    text = site.machine.run("cat", path).stdout
    site.machine.write_file(path, text.replace("[service.redis.budget.nudge]\nburst = 100", BUDGET))
    site.machine.run("rm", "-f", "/var/lib/epoll-watchdog-helper/ledger.json")
    site.machine.systemctl("restart", HELPER)
    request = nudge(site, site.pid(site.redis.unit), "redis")
    outcomes = []
    for _ in range(4):
        outcomes += ask(site, request)
        site.machine.systemctl("stop", HELPER)  # the next connection starts another one, as after an idle exit
    site.configure()
    # A healthy redis may be awake at that moment, and there is nothing to nudge: the use is spent all the same.
    assert ["budget is spent" in reply["reason"] for reply in outcomes] == [False, False, True, True]
    assert [reply["outcome"] for reply in outcomes[2:]] == ["refused", "refused"]
    assert all(reply["outcome"] == "done" or "nothing to nudge" in reply["reason"] for reply in outcomes[:2])
    site.wait_healthy(site.redis)


BUDGET = "[service.redis.budget.nudge]\nburst = 2"


def test_a_crowd_and_a_flood_keep_the_brain_from_nothing(site: Site) -> None:
    site.wait_healthy(site.nginx)
    assert int(as_user(site, "epoll-watchdog", CROWD, HELPER_SOCKET)) == 900
    assert "longer than" in as_user(site, "epoll-watchdog", FLOOD, HELPER_SOCKET)
    site.stall(site.nginx)
    assert "nudged" in [record["kind"] for record in site.wait_told(site.nginx, "resolved")["timeline"]]


def test_the_files_of_the_helper_are_closed_to_the_brain(site: Site) -> None:
    with pytest.raises(AssertionError, match="PermissionError"):
        as_user(site, "epoll-watchdog", "open('/var/lib/epoll-watchdog-helper/ledger.json')")
    with pytest.raises(AssertionError, match="PermissionError"):
        as_user(site, "epoll-watchdog", f"open('{CONFIG}', 'a')")
