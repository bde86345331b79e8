from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from tests.cli.asking import DARK, HEALTHY, Daemon, run, words
from tests.cli.terminal import terminal
from tests.servers import free_port
from tests.web.certified import PASSWORD, USER, USERS, certified
from watchdog.cli import api
from watchdog.cli.seen import Watcher
from watchdog.config.web import Web
from watchdog.web.server import serve

QUEUES = b"""\
# TYPE epoll_watchdog_accept_queue_length gauge
epoll_watchdog_accept_queue_length{listener="127.0.0.1:80",name="nginx"} 3.0
epoll_watchdog_accept_queue_length{listener="/run/nginx.sock",name="nginx"} 9.0
# TYPE epoll_watchdog_accept_queue_limit gauge
epoll_watchdog_accept_queue_limit{listener="127.0.0.1:80",name="nginx"} 4.0
epoll_watchdog_accept_queue_limit{listener="/run/nginx.sock",name="nginx"} 128.0
# TYPE epoll_watchdog_healthy gauge
epoll_watchdog_healthy{name="nginx"} 0.0
"""


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


# --- how fresh, and how full ------------------------------------------------------------------------------------------


async def test_it_is_told_how_long_ago_a_service_was_asked(daemon: Daemon) -> None:
    daemon.shown = [replace(HEALTHY, last_round_at=time.time() - 6970)]
    assert re.search(
        r"redis healthy tcp 1\.2 ms 1h56m ago 5 nudge, 2 restart", words((await status(daemon.address)).stdout)
    )


async def test_each_probe_stands_in_a_line_of_its_own(daemon: Daemon) -> None:
    [probe] = HEALTHY.probes.values()
    daemon.shown = [replace(HEALTHY, probes={"a": probe, "b": replace(probe, kind=None)})]
    [_, first, second] = (await status(daemon.address)).stdout.splitlines()
    assert "a 1.2 ms" in first
    assert second.strip() == "b not asked yet"


async def test_the_fullest_accept_queue_is_told(daemon: Daemon) -> None:
    daemon.shown, daemon.exposed = [DARK, HEALTHY], QUEUES
    shown = (await status(daemon.address)).stdout
    assert "3/4" in shown
    assert "9/128" not in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


async def test_the_json_has_every_accept_queue(daemon: Daemon) -> None:
    daemon.shown, daemon.exposed = [DARK, HEALTHY], QUEUES
    [nginx, redis] = json.loads((await status(daemon.address, "--json")).stdout)["services"]
    assert nginx["accept_queues"] == {
        "127.0.0.1:80": {"length": 3, "limit": 4},
        "/run/nginx.sock": {"length": 9, "limit": 128},
    }
    assert redis["accept_queues"] == {}


@pytest.mark.parametrize(
    "exposed", [b"\xff", b"epoll_watchdog_accept_queue_length{ 1\n", QUEUES.replace(b"name", b"n")]
)
async def test_metrics_that_make_no_sense_hide_no_status(daemon: Daemon, exposed: bytes) -> None:
    daemon.shown, daemon.exposed = [HEALTHY], exposed
    done = await status(daemon.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert "redis" in done.stdout


async def test_when_no_service_is_guarded_that_is_said(daemon: Daemon) -> None:
    assert "No service is guarded" in (await status(daemon.address)).stdout


# --- watching ---------------------------------------------------------------------------------------------------------


async def test_when_a_probe_last_answered_is_remembered(daemon: Daemon) -> None:
    watcher = Watcher(api.Daemon(f"http://{daemon.address}"))
    daemon.shown = [replace(DARK, probes=HEALTHY.probes, last_round_at=1000.0)]
    await asyncio.to_thread(watcher.look)
    daemon.shown = [replace(DARK, last_round_at=1005.0)]
    assert (await asyncio.to_thread(watcher.look)).answered == {("nginx", "tcp"): 1000.0}


async def test_watching_goes_on_until_it_is_interrupted(daemon: Daemon) -> None:
    daemon.shown = [replace(HEALTHY, name="nginx", last_round_at=time.time() - 7510)]
    async with terminal("status", "--url", f"http://{daemon.address}", "--watch", "--interval", "200ms") as watching:
        await watching.until("tcp 1.2 ms 2h5m ago")
        daemon.shown = [replace(DARK, last_round_at=time.time())]
        await watching.until("answered 2h5m")
        assert await watching.end() == 1
    assert "every socket is dark" in watching.shown


async def test_a_daemon_that_goes_away_is_waited_for(daemon: Daemon) -> None:
    daemon.shown = [HEALTHY]
    port = free_port()
    first = await serve(daemon, f"127.0.0.1:{port}")
    async with terminal("status", "--url", f"http://127.0.0.1:{port}", "--watch", "--interval", "200ms") as watching:
        await watching.until("healthy")
        await first.close()
        await watching.until("Last seen:")
        daemon.shown = [replace(HEALTHY, name="again")]
        second = await serve(daemon, f"127.0.0.1:{port}")
        await watching.until("again")
        await second.close()
        await watching.until("Last seen:")
        assert await watching.end(signal.SIGTERM) == 3


async def test_watching_without_a_terminal_or_as_json_is_wrong_usage(daemon: Daemon) -> None:
    daemon.shown = [HEALTHY]
    alone, as_json = await status(daemon.address, "--watch"), await status(daemon.address, "--watch", "--json")
    assert (alone.returncode, as_json.returncode) == (2, 2)
    assert "--watch needs a terminal" in words(alone.stderr)


@pytest.mark.parametrize("interval", ["1", "100ms", "2h", "soon"])
async def test_an_interval_that_makes_no_sense_is_wrong_usage(daemon: Daemon, interval: str) -> None:
    assert (await status(daemon.address, "--interval", interval)).returncode == 2
