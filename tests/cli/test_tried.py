"""The candidates are asked of real servers, and the first that is answered well is taken."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import servers
from watchdog import probes
from watchdog.cli import agent, talks
from watchdog.cli.agent import Agent, witness
from watchdog.cli.proposed import Proposal
from watchdog.cli.reachable import unreachable
from watchdog.cli.survey import Listener, Seen
from watchdog.cli.tried import Ready, ready
from watchdog.demo.agent import SYS_UPTIME
from watchdog.model import Kind
from watchdog.probes import PROBES, http, snmp
from watchdog.reading import Family
from watchdog.secret import forget
from watchdog.settings import Secret


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Both take a while to load, which would make an answer late; `init` loads them before it asks anybody, too."""
    PROBES["http"].prepare(http.Settings(url="http://127.0.0.1/"))
    PROBES["snmp"].prepare(snmp.Settings(address="127.0.0.1:161", oid=SYS_UPTIME, community=Secret(env="HOME")))


async def asked(*listeners: Listener) -> Ready:
    try:
        return await ready(Proposal("it", Seen("it.service", "", listeners), listeners))
    finally:
        await probes.close()


def tcp(port: int, program: str) -> Listener:
    return Listener(Family.TCP, f"127.0.0.1:{port}", (program,))


def unix(path: Path, program: str) -> Listener:
    return Listener(Family.UNIX, str(path), (program,))


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a listener that nobody serves: the kernel accepts for it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


async def test_redis_is_asked_by_ping_over_both_roads(redis: servers.Redis) -> None:
    found = await asked(tcp(redis.port, "redis-server"), unix(redis.path, "redis-check-rdb"))

    assert [(each.talk.type, each.talk.keys["send"], each.proves) for each in found.probes] == [
        ("tcp", "PING\r\n", True),
        ("unix", "PING\r\n", True),
    ]


async def test_nginx_is_asked_for_a_page_over_both_roads(nginx: servers.Nginx) -> None:
    found = await asked(tcp(nginx.port, "nginx"), unix(nginx.path, "nginx"))

    assert [(each.talk.type, each.seen.kind) for each in found.probes] == [("http", Kind.ALIVE), ("http", Kind.ALIVE)]
    assert found.probes[1].talk.keys["unix_socket"] == str(nginx.path)


@pytest.mark.parametrize("status", [301, 401, 403, 404])
async def test_a_page_that_is_not_for_everybody_is_an_answer_too(tmp_path: Path, status: int) -> None:
    with servers.nginx(tmp_path, server_config=f"if ($http_host) {{ return {status}; }}") as nginx:
        [probe] = (await asked(tcp(nginx.port, "nginx"))).probes

    assert status in probe.talk.keys["valid_status_codes"]
    assert probe.proves
    assert str(status) in probe.before


async def test_a_web_server_that_speaks_no_http_is_only_connected_to_and_what_it_said_is_told(
    redis: servers.Redis,
) -> None:
    [probe] = (await asked(tcp(redis.port, "haproxy"))).probes

    assert probe.talk.keys["connect_only"] is True
    assert probe.before


async def test_a_stranger_is_only_connected_to(redis: servers.Redis) -> None:
    [probe] = (await asked(tcp(redis.port, "stranger"))).probes

    assert (probe.talk.keys["connect_only"], probe.proves, probe.seen.kind) == (True, False, Kind.ALIVE)


async def test_beside_a_probe_that_is_answered_none_only_connects(redis: servers.Redis, silent: int) -> None:
    found = await asked(tcp(redis.port, "redis-server"), tcp(silent, "stranger"))

    assert [each.listener.address for each in found.probes] == [redis.address]
    assert [address for address, _ in found.unasked] == [f"127.0.0.1:{silent}"]


async def test_a_service_that_keeps_silent_is_no_reason_to_be_content_with_a_connection(silent: int) -> None:
    [probe] = (await asked(tcp(silent, "redis-server"))).probes

    assert (probe.talk.keys["send"], probe.seen.kind) == ("PING\r\n", Kind.SILENT)


async def test_silence_to_what_only_the_port_spoke_for_says_nothing(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talks, "HTTP_PORTS", (silent,))
    found = await asked(tcp(silent, "plc-gateway"))

    assert found.probes == ()
    assert "silent" in found.unasked[0][1]


async def test_where_nobody_listens_any_more_there_is_no_probe() -> None:
    found = await asked(tcp(servers.free_port(), "stranger"))

    assert found.probes == ()
    assert "refused" in found.unasked[0][1]


# --- the witness ------------------------------------------------------------------------------------------------------


@pytest.fixture
def community(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the credential; it does not exist yet."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    forget()
    return tmp_path / agent.CREDENTIAL


async def test_an_agent_that_shows_the_processes_is_a_witness(
    snmpd: servers.Snmpd, community: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "ADDRESS", snmpd.address)
    community.write_text(snmpd.community)

    assert (await witness()).agent is Agent.TELLS


async def test_an_agent_whose_view_hides_the_processes_is_none_and_the_line_that_lacks_is_told(
    snmpd: servers.Snmpd, community: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "ADDRESS", snmpd.address)
    community.write_text(snmpd.narrow_community)
    found = await witness()

    assert found.agent is Agent.THERE
    assert "view systemonly included .1.3.6.1.2.1.25.4" in found.reason


@pytest.mark.parametrize("secret", [None, "sesame"])
async def test_an_agent_is_found_without_its_community_and_no_community_is_told(
    snmpd: servers.Snmpd, community: Path, monkeypatch: pytest.MonkeyPatch, secret: str | None
) -> None:
    monkeypatch.setattr(agent, "ADDRESS", snmpd.address)
    if secret is not None:
        community.write_text(secret)
    found = await witness()

    assert found.agent is Agent.THERE
    assert "sesame" not in found.reason


async def test_where_no_agent_is_that_is_told(community: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "ADDRESS", f"127.0.0.1:{servers.free_port(socket.SOCK_DGRAM)}")

    assert (await witness()).agent is Agent.NONE


# --- whether the daemon could connect ---------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A Unix socket in a directory that everybody may enter."""
    directory = Path("/run/epoll-watchdog-test-reachable")
    directory.mkdir(mode=0o755, exist_ok=True)
    path = directory / f"{os.getpid()}.sock"
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        yield path
    path.unlink()
    directory.rmdir()


def test_a_socket_for_everybody_can_be_reached(place: Path) -> None:
    assert unreachable(str(place)) == ""


def test_a_socket_for_a_group_tells_which_one_the_daemon_needs(place: Path) -> None:
    place.chmod(0o660)
    os.chown(place, 0, 1)

    assert "SupplementaryGroups=daemon" in unreachable(str(place))


@pytest.mark.parametrize(("mode", "told"), [(0o600, "only its owner"), (0o640, "only its owner")])
def test_a_socket_for_its_owner_alone_can_t(place: Path, mode: int, told: str) -> None:
    place.chmod(mode)

    assert told in unreachable(str(place))


@pytest.mark.parametrize("path", ["/run/no-such.sock", "/etc/passwd", "/home/x/y.sock", "@with@zero"])
def test_what_can_t_be_reached_by_this_path_has_a_reason(path: str) -> None:
    assert unreachable(path)


def test_an_abstract_socket_has_no_mode() -> None:
    assert unreachable("@abstract") == ""
