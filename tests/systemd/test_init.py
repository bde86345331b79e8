"""`epoll-watchdog init` in a booted systemd: Debian's own nginx, redis and snmpd, and units of our own."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.systemd.machine import PYTHON, Machine, booted, missing

VIEW = "/etc/snmp/snmpd.conf.d/epoll-watchdog.conf"
COMMUNITY = "/etc/epoll-watchdog/credentials/snmp-community"
ALSO = """
import os, socket, sys
listeners = [socket.create_server(("127.0.0.1", 7000)), socket.socket(socket.AF_UNIX)]
listeners[1].bind("/run/stranger.sock")
os.chmod("/run/stranger.sock", 0o600)
listeners[1].listen()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
    ready.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
if os.fork() == 0:
    while True:
        listeners[0].accept()
os.wait()
"""
UNIT = f"""
[Unit]
Description=A stranger "with" quotes \\\\ and a backslash
[Service]
Type=notify
ExecStart={PYTHON} -c 'exec(open("/run/stranger.py").read())'
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Servers as Debian ships them, but for the line that snmpd's view lacks."""
    if lack := missing():
        pytest.fail(f"a test machine needs {lack}")
    with booted(tmp_path_factory.mktemp("host")) as machine:
        machine.write_file(VIEW, "view systemonly included .1.3.6.1.2.1.25.4\n")
        machine.write_file("/run/stranger.py", ALSO)
        units = ("nginx.service", "redis-server.service", "snmpd.service")
        machine.systemctl("unmask", *units)
        machine.add_unit("stranger@a.b.service", UNIT)
        machine.systemctl("start", *units, "stranger@a.b.service")
        yield machine


def init(host: Machine, *arguments: str, user: str = "root", check: bool = True) -> subprocess.CompletedProcess[str]:
    identity = ("setpriv", f"--reuid={user}", "--clear-groups")
    return host.run(*identity, PYTHON, "-P", "-m", "watchdog", "init", *arguments, check=check)


def found(host: Machine, *arguments: str, user: str = "root") -> dict[str, Any]:
    return json.loads(init(host, "--json", *arguments, user=user).stdout)  # type: ignore[no-any-return]


def test_each_unit_that_listens_is_found_by_the_processes_of_its_cgroup(host: Machine) -> None:
    services = {each["unit"]: each for each in found(host)["services"]}

    assert set(services) == {"nginx.service", "redis-server.service", "stranger@a.b.service"}
    assert [probe["url"] for probe in services["nginx.service"]["probes"].values()] == ["http://127.0.0.1:80/"]
    assert [probe["kind"] for each in services.values() for probe in each["probes"].values()] == ["alive"] * 3
    assert services["stranger@a.b.service"]["probes"]["tcp"]["connect_only"] is True
    assert services["stranger@a.b.service"]["not_asked"][0]["reason"] == "only its owner may connect"


def test_what_the_host_stands_on_and_the_witness_are_left_out_and_told(host: Machine) -> None:
    left_out = {unit: each["reason"] for each in found(host)["not_included"] for unit in each["units"]}

    assert {"dbus.service", "init.scope", "systemd-journald.service"} <= left_out.keys()
    assert left_out["snmpd.service"] == "a witness of the others"


def test_a_unit_may_be_named_without_its_suffix_and_by_an_alias(host: Machine) -> None:
    assert [each["unit"] for each in found(host, "redis", "nginx")["services"]] == [
        "nginx.service",
        "redis-server.service",
    ]


def test_a_unit_that_does_not_listen_is_wrong_usage_and_a_near_name_is_told(host: Machine) -> None:
    done = init(host, "ngnix", check=False)

    assert done.returncode == 2
    assert "did you mean nginx.service?" in done.stderr


def test_who_is_not_root_is_told_of_what_he_can_t_see(host: Machine) -> None:
    done = init(host, user="nobody", check=False)

    assert done.returncode == 1
    assert "only root may look at" in done.stderr
    assert "127.0.0.1:6379" in found(host, user="nobody")["owner_unknown"]


def checked(host: Machine, file: str) -> str:
    """What check-config says of it."""
    return host.run(PYTHON, "-P", "-m", "watchdog", "check-config", file).stdout


def test_what_is_written_is_sound_and_answered_by_every_probe(host: Machine, tmp_path: Path) -> None:
    host.write_file(COMMUNITY, "public\n", 0o600)
    file = "/etc/epoll-watchdog/config.toml"
    told = init(host, "--output", file).stdout
    again = init(host, "--output", file, check=False)
    text = host.run("cat", file).stdout
    check = host.run(PYTHON, "-P", "-m", "watchdog", "check", "--json", check=False)
    guarded = init(host, check=False)
    host.run("rm", "-r", "/etc/epoll-watchdog")

    assert f"{file}: 3 services, in mode observe" in told
    assert (again.returncode, "exists; --force replaces it" in again.stderr) == (1, True)
    kinds = {
        (each["name"], name): probe["kind"]
        for each in json.loads(check.stdout)["services"]
        for name, probe in each["probes"].items()
    }
    assert set(kinds.values()) == {"alive"}
    assert {name for _, name in kinds} == {"http", "tcp", "process"}
    assert tomllib.loads(text)["service"]["stranger@a.b"]["unit"] == "stranger@a.b.service"
    assert "guarded already, by service nginx" in guarded.stderr


def test_check_config_finds_nothing_but_the_connection_that_proves_nothing(host: Machine) -> None:
    init(host, "--output", "/tmp/first.toml")
    said = checked(host, "/tmp/first.toml")
    host.run("rm", "/tmp/first.toml")

    assert "/tmp/first.toml: sound" in said
    assert "connect_only = true" in said
