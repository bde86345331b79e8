from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import trustme

from tests.cli.asking import DARK, HEALTHY, Daemon, run
from tests.servers import free_port
from tests.web.certified import PASSWORD, USER, USERS, certified
from watchdog.config.web import Web
from watchdog.web.server import serve


async def status(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await run("status", "--url", f"http://{address}", *arguments)


async def test_healthy_services_are_a_table_and_exit_0(daemon: Daemon) -> None:
    daemon.shown = [HEALTHY]
    done = await status(daemon.address)
    assert done.returncode == 0
    assert " ".join(done.stdout.splitlines()[1].split()) == "redis healthy tcp 1.2 ms 5 nudge, 2 restart"


async def test_a_sick_service_exits_1_and_says_why(daemon: Daemon) -> None:
    daemon.shown = [HEALTHY, DARK]
    done = await status(daemon.address)
    assert done.returncode == 1
    assert "nginx: every socket is dark while snmp (inside) answers" in done.stdout
    assert "incident 01234567" in " ".join(done.stdout.split())


async def test_what_waits_and_what_was_passed_over_is_told_with_its_reason(daemon: Daemon) -> None:
    held = "it depends on redis, not known to be well"
    daemon.shown = [replace(DARK, holds=("parent_sick",), held_for=held, passes=("nudge: rights",))]
    told = " ".join((await status(daemon.address)).stdout.split())
    assert "waits: parent_sick" in told
    assert f"nginx: the next rung waits: {held}" in told
    assert "passed over: nudge: rights" in told


async def test_no_line_is_wider_than_the_terminal(daemon: Daemon) -> None:
    daemon.shown = [replace(DARK, name="a-service-with-a-rather-long-name"), HEALTHY]
    done = await status(daemon.address)
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


async def test_without_a_terminal_there_is_no_colour(daemon: Daemon) -> None:
    daemon.shown = [DARK]
    assert "\x1b" not in (await status(daemon.address)).stdout


async def test_json_is_what_the_api_says(daemon: Daemon) -> None:
    daemon.shown = [DARK]
    answer = json.loads((await status(daemon.address, "--json")).stdout)
    assert [service["verdict"] for service in answer["services"]] == ["epoll_stall"]


async def test_a_unix_socket_is_asked(tmp_path: Path) -> None:
    server = await serve(Daemon([HEALTHY]), f"unix:{tmp_path}/web.sock")
    done = await status("", "--url", f"unix:{tmp_path}/web.sock")
    await server.close()
    assert (done.returncode, "redis" in done.stdout) == (0, True)


async def test_a_daemon_with_tls_and_passwords_is_asked(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    web = Web(tls=certified(authority, tmp_path), users=USERS)
    server = await serve(Daemon([HEALTHY]), "127.0.0.1:0", web)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    options = ["--url", server.url, "--ca-file", str(tmp_path / "ca.pem")]
    known = await status("", *options, "--user", USER, "--password-file", str(tmp_path / "password"))
    stranger = await status("", *options)
    await server.close()
    assert known.returncode == 0
    assert (stranger.returncode, "give --user and --password-file" in stranger.stderr) == (3, True)


async def test_a_daemon_that_is_not_there_exits_3_and_says_what_to_do() -> None:
    done = await status(f"127.0.0.1:{free_port()}")
    assert done.returncode == 3
    assert "the daemon can't be asked at http://127.0.0.1:" in done.stderr
    assert "Connection refused" in done.stderr
    assert "systemctl status epoll-watchdog" in done.stderr
