"""The snmp probe against a real snmpd, in every version, and against agents that are not there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.probes.asking import ask
from tests.servers import HRSWRUN_STATUS, SYS_UPTIME
from watchdog.demo.agent import RAVENDB_PID
from watchdog.model import Epoch, Kind, Observation, Plane, Strength
from watchdog.probes import snmp
from watchdog.settings import Secret

OF_PROCESS = f"{HRSWRUN_STATUS}.{{pid}}"
PUBLIC, NARROW = Secret(env="TEST_PUBLIC"), Secret(env="TEST_NARROW")
AUTH, PRIVACY, BAD = Secret(env="TEST_AUTH"), Secret(env="TEST_PRIVACY"), Secret(env="TEST_BAD")
ALIVE_PROCESS = (1, 2)
Given = dict[str, Any]


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch, snmpd: servers.Snmpd) -> None:
    monkeypatch.setenv("TEST_PUBLIC", snmpd.community)
    monkeypatch.setenv("TEST_NARROW", snmpd.narrow_community)
    monkeypatch.setenv("TEST_AUTH", snmpd.auth_password)
    monkeypatch.setenv("TEST_PRIVACY", snmpd.privacy_password)
    monkeypatch.setenv("TEST_BAD", "not-the-password")


async def get(agent: servers.Snmpd | str, oid: str, *, within_s: float = 5.0, **settings: object) -> Observation:
    where = agent if isinstance(agent, str) else agent.address
    made = snmp.Settings(address=where, oid=oid, **settings)  # type: ignore[arg-type]
    return await ask("snmp", made, within_s, Epoch(os.getpid(), 0))


@pytest.mark.parametrize(
    "settings",
    [
        {"version": "1", "community": PUBLIC},
        {"version": "2c", "community": PUBLIC},
        {"version": "3", "username": "watcher", "auth_password": AUTH},
        {"version": "3", "username": "watcher", "auth_password": AUTH, "privacy_password": PRIVACY},
    ],
    ids=["v1", "v2c", "v3-auth", "v3-privacy"],
)
async def test_the_agent_tells_of_the_service_s_own_process(snmpd: servers.Snmpd, settings: Given) -> None:
    found = await get(snmpd, OF_PROCESS, expect=ALIVE_PROCESS, **settings)
    assert found.kind is Kind.ALIVE
    assert re.fullmatch(r'answered "[12]" in [0-9.]+m?s', found.reason)


async def test_any_value_counts_where_none_is_expected(snmpd: servers.Snmpd) -> None:
    assert (await get(snmpd, SYS_UPTIME, community=PUBLIC)).kind is Kind.ALIVE


async def test_text_is_compared_as_text(snmpd: servers.Snmpd) -> None:
    system = os.uname().sysname
    found = await get(snmpd, "1.3.6.1.2.1.1.1.0", community=PUBLIC, expect=(system,))
    assert found.kind is Kind.WRONG
    assert f'expected "{system}", got "{system} ' in found.reason


async def test_another_value_is_wrong(snmpd: servers.Snmpd) -> None:
    found = await get(snmpd, OF_PROCESS, community=PUBLIC, expect=(4,))
    assert found.kind is Kind.WRONG
    assert re.fullmatch('expected "4", got "[12]"', found.reason)


async def test_what_the_view_hides_is_our_own_error_with_the_line_to_add(snmpd: servers.Snmpd) -> None:
    found = await get(snmpd, OF_PROCESS, community=NARROW)
    assert found.kind is Kind.ERROR
    assert "noSuchObject" in found.reason
    assert '"view systemonly included .1.3.6.1.2.1.25.4"' in found.reason


async def test_version_1_cannot_tell_a_hidden_table_from_a_missing_row(snmpd: servers.Snmpd) -> None:
    found = await get(snmpd, OF_PROCESS, community=NARROW, version="1")
    assert found.kind is Kind.ERROR
    assert "noSuchName" in found.reason
    assert ".1.3.6.1.2.1.25.4" in found.reason


async def test_a_process_that_the_table_lacks_is_our_own_error(snmpd: servers.Snmpd) -> None:
    settings = snmp.Settings(address=snmpd.address, oid=OF_PROCESS, community=PUBLIC)
    found = await ask("snmp", settings, target=Epoch(2**30, 0))
    assert found.kind is Kind.ERROR
    assert "noSuchInstance" in found.reason
    assert "anew every 30 s" in found.reason


@pytest.mark.parametrize(
    ("settings", "what"),
    [({"oid": OF_PROCESS}, "the OID has {pid}"), ({"oid": SYS_UPTIME, "pid_oid": RAVENDB_PID}, "pid_oid is given")],
)
async def test_a_service_without_a_process_is_our_own_error(snmpd: servers.Snmpd, settings: Given, what: str) -> None:
    found = await ask("snmp", snmp.Settings(address=snmpd.address, community=PUBLIC, **settings))
    assert (found.kind, found.reason) == (Kind.ERROR, f"{what}, and the service has no process")


async def test_a_wrong_community_is_silence_that_is_explained(snmpd: servers.Snmpd) -> None:
    found = await get(snmpd, SYS_UPTIME, community=BAD, within_s=0.2)
    assert found.kind is Kind.SILENT
    assert found.reason.endswith("(an agent keeps silent to a wrong community, too)")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"username": "watcher", "auth_password": BAD}, "the agent refused the user watcher: Wrong SNMP PDU digest"),
        ({"username": "nobody", "auth_password": AUTH}, "the agent refused the user nobody: Unknown USM user"),
    ],
)
async def test_a_user_that_the_agent_refuses_is_our_own_error(
    snmpd: servers.Snmpd, settings: Given, reason: str
) -> None:
    found = await get(snmpd, SYS_UPTIME, version="3", **settings)
    assert (found.kind, found.reason) == (Kind.ERROR, reason)


async def test_a_user_without_the_security_that_the_agent_asks_for_is_our_own_error(snmpd: servers.Snmpd) -> None:
    found = await get(snmpd, SYS_UPTIME, version="3", username="watcher")
    assert found.kind is Kind.ERROR
    assert "more security" in found.reason


async def test_the_same_user_with_two_passwords_is_two_users(snmpd: servers.Snmpd) -> None:
    good: Given = {"version": "3", "username": "watcher", "auth_password": AUTH}
    bad: Given = {"version": "3", "username": "watcher", "auth_password": BAD}
    kinds = [
        (await get(snmpd, SYS_UPTIME, **good)).kind,
        (await get(snmpd, SYS_UPTIME, **bad)).kind,
        (await get(snmpd, SYS_UPTIME, **good)).kind,
    ]
    assert kinds == [Kind.ALIVE, Kind.ERROR, Kind.ALIVE]


@pytest.mark.parametrize("kept", [True, False], ids=["restarted", "reinstalled"])
async def test_an_agent_that_comes_back_is_known_again(tmp_path: Path, kept: bool) -> None:
    user: Given = {"version": "3", "username": "watcher", "auth_password": AUTH, "privacy_password": PRIVACY}
    port = servers.free_port(socket.SOCK_DGRAM)
    # With its directory kept, its boots are counted on; without, it has another engine id.
    env = {"SNMP_PERSISTENT_DIR": str(tmp_path / "persistent")} if kept else {}
    with servers.snmpd(tmp_path, port=port, env=env) as agent:
        first = await get(agent, SYS_UPTIME, **user)
    with servers.snmpd(tmp_path, port=port, env=env) as agent:
        second = await get(agent, SYS_UPTIME, **user)
    assert (first.kind, second.kind) == (Kind.ALIVE, Kind.ALIVE)


@pytest.mark.parametrize(
    "settings",
    [{"community": PUBLIC}, {"version": "3", "username": "watcher", "auth_password": AUTH}],
    ids=["v2c", "v3"],
)
async def test_a_port_without_an_agent_is_refused(settings: Given) -> None:
    found = await get(f"127.0.0.1:{servers.free_port(socket.SOCK_DGRAM)}", SYS_UPTIME, **settings)
    assert (found.kind, found.reason) == (Kind.REFUSED, "connection refused")


@pytest.mark.parametrize(
    "settings",
    [{"community": PUBLIC}, {"version": "3", "username": "watcher", "auth_password": AUTH}],
    ids=["v2c", "v3"],
)
async def test_a_dark_agent_is_asked_again_and_silent(settings: Given) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dark:
        dark.bind(("127.0.0.1", 0))
        dark.setblocking(False)
        where = "{}:{}".format(*dark.getsockname())
        found = await get(where, SYS_UPTIME, retries=2, within_s=0.3, **settings)
        requests = [dark.recv(4096) for _ in range(3)]
        with pytest.raises(BlockingIOError):
            dark.recv(4096)
    assert found.kind is Kind.SILENT
    assert found.latency < 1
    assert all(requests)


@contextmanager
def beside(argv: list[str], sock: socket.socket) -> Iterator[None]:
    """A program that has the socket, too, and has said that it runs."""
    with subprocess.Popen(argv, pass_fds=[sock.fileno()], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


async def test_an_answer_to_the_second_request_counts(snmpd: servers.Snmpd) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as proxy:
        proxy.bind(("127.0.0.1", 0))
        where = "{}:{}".format(*proxy.getsockname())
        script = [sys.executable, "-c", DROP_THE_FIRST, str(proxy.fileno()), str(snmpd.port)]
        with beside(script, proxy):
            found = await get(where, SYS_UPTIME, community=PUBLIC, retries=3, within_s=2)
    assert found.kind is Kind.ALIVE
    assert 0.4 < found.latency < 2


DROP_THE_FIRST = """
import socket, sys
proxy = socket.socket(fileno=int(sys.argv[1]))
agent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
agent.connect(("127.0.0.1", int(sys.argv[2])))
print("ready", flush=True)
proxy.recvfrom(4096)
request, client = proxy.recvfrom(4096)
agent.send(request)
proxy.sendto(agent.recv(4096), client)
"""


async def test_noise_on_the_port_is_no_answer(snmpd: servers.Snmpd) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noisy:
        noisy.bind(("127.0.0.1", 0))
        where = "{}:{}".format(*noisy.getsockname())
        script = [sys.executable, "-c", ANSWER_WITH_NOISE, str(noisy.fileno())]
        with beside(script, noisy):
            found = await get(where, SYS_UPTIME, community=PUBLIC, retries=0, within_s=0.2)
    assert found.kind is Kind.SILENT


ANSWER_WITH_NOISE = """
import socket, sys
noisy = socket.socket(fileno=int(sys.argv[1]))
print("ready", flush=True)
while True:
    _, client = noisy.recvfrom(4096)
    noisy.sendto(b"noise", client)
"""


def test_cryptography_is_loaded_only_for_privacy(snmpd: servers.Snmpd) -> None:
    script = """
import asyncio, sys
from watchdog.probes import snmp
from watchdog.probes.deadline import Deadline
from watchdog.settings import Secret

async def ask(**more):
    deadline = Deadline(asyncio.get_running_loop().time() + 5)
    auth = Secret(env="TEST_AUTH")
    made = snmp.Settings(address=sys.argv[1], oid="1.3.6.1.2.1.1.3.0", version="3", username="watcher",
                         auth_password=auth, **more)
    found = await snmp.probe(made, None, deadline)
    print(found.kind, "cryptography" in sys.modules)

async def main():
    await ask()
    await ask(privacy_password=Secret(env="TEST_PRIVACY"))

asyncio.run(main())
"""
    argv = [sys.executable, "-c", script, snmpd.address]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=Path(__file__).parents[2])
    assert done.stdout.splitlines() == ["alive False", "alive True"], done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"oid": "sysUpTime.0"}, "no numeric OID"),
        ({"oid": "1.3.{PID}"}, "no numeric OID"),
        ({"pid_oid": "1.3.{pid}"}, "pid_oid: "),
        ({"address": "localhost"}, 'write "host:port"'),
        ({"community": None}, "needs community"),
        ({"username": "me"}, "has no user"),
        ({"version": "3"}, "has no community"),
        ({"version": "3", "community": None}, "needs username"),
        ({"version": "3", "community": None, "username": "me", "privacy_password": AUTH}, "without auth_password"),
        ({"retries": 11}, "0 to 10"),
    ],
)
def test_settings_are_refused_with_what_would_be_right(settings: Given, message: str) -> None:
    given = {"address": "127.0.0.1:161", "oid": SYS_UPTIME, "community": PUBLIC, **settings}
    if settings.get("version") == "3" and "community" not in settings:
        given["username"] = "me"
    with pytest.raises(ValueError, match=re.escape(message)):
        snmp.Settings(**given)


@pytest.mark.parametrize(
    ("oid", "strength", "expected"),
    [
        (SYS_UPTIME, None, Strength.HOST),
        (OF_PROCESS, None, Strength.PROCESS),
        (SYS_UPTIME, Strength.INSIDE, Strength.INSIDE),
    ],
)
def test_a_witness_is_as_strong_as_what_it_tells(oid: str, strength: Strength | None, expected: Strength) -> None:
    road = snmp.road(snmp.Settings(address="h:161", oid=oid, community=PUBLIC, strength=strength))
    assert (road.plane, road.strength) == (Plane.WITNESS, expected)


def test_a_witness_that_tells_its_process_speaks_of_it() -> None:
    settings = snmp.Settings(address="h:161", oid=SYS_UPTIME, pid_oid=RAVENDB_PID, community=PUBLIC)
    assert (snmp.road(settings).strength, snmp.warnings(settings)) == (Strength.PROCESS, ())


def test_a_host_s_word_is_warned_of() -> None:
    (warning,) = snmp.warnings(snmp.Settings(address="h:161", oid=SYS_UPTIME, community=PUBLIC))
    assert "only tells that the host is up" in warning
