"""The unix probe against real servers and against servers that misbehave in one way each."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import servers
from tests.probes.asking import Start, ask, pong
from watchdog.model import Kind, Plane, Transport
from watchdog.probes import unix

NOBODY = 65534


async def test_redis_that_answers_is_alive(redis: servers.Redis) -> None:
    found = await ask("unix", unix.Settings(path=str(redis.path), send="PING\r\n", expect=r"^\+PONG"))
    assert found.kind is Kind.ALIVE


async def test_nginx_that_answers_is_alive(nginx: servers.Nginx) -> None:
    settings = unix.Settings(path=str(nginx.path), send="GET / HTTP/1.0\r\n\r\n", expect="^HTTP/1.1 200 ")
    assert (await ask("unix", settings)).kind is Kind.ALIVE


async def test_an_abstract_socket_is_asked_by_its_name(serve: Start) -> None:
    path = await serve(pong, path=f"@epoll-watchdog-test-{os.getpid()}")
    assert (await ask("unix", unix.Settings(path=path, send="ping\n", expect="pong"))).kind is Kind.ALIVE


async def test_an_abstract_name_without_a_listener_is_refused() -> None:
    found = await ask("unix", unix.Settings(path="@epoll-watchdog-nobody", send="ping\n"))
    assert (found.kind, found.reason) == (Kind.REFUSED, "connection refused")


async def test_a_server_that_never_accepts_is_silent(silent_unix: Path) -> None:
    found = await ask("unix", unix.Settings(path=str(silent_unix), send="ping\n", expect="pong"), within_s=0.1)
    assert found.kind is Kind.SILENT
    assert found.reason.startswith("sent 5 bytes, no answer in ")


async def test_a_full_backlog_is_unreachable_at_once(silent_unix: Path) -> None:
    settings = unix.Settings(path=str(silent_unix), send="ping\n", expect="pong")
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.connect(str(silent_unix))
        second.connect(str(silent_unix))
        found = await ask("unix", settings, within_s=5)
    assert (found.kind, found.reason) == (Kind.UNREACHABLE, "backlog full (EAGAIN)")
    assert found.latency < 0.5


async def test_a_wrong_answer_is_told(serve: Start, tmp_path: Path) -> None:
    path = await serve(pong, path=str(tmp_path / "s"))
    found = await ask("unix", unix.Settings(path=path, send="what?\n", expect="pong"), within_s=0.1)
    assert found.kind is Kind.WRONG
    assert found.reason.startswith('expected "pong", got "ERR\\n"')


async def test_the_end_before_an_answer_is_wrong(serve: Start, tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()

    path = await serve(hang_up, path=str(tmp_path / "s"))
    found = await ask("unix", unix.Settings(path=path, send="ping\n", expect="pong"))
    assert (found.kind, found.reason) == (Kind.WRONG, "closed the connection without an answer")


async def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    found = await ask("unix", unix.Settings(path=str(tmp_path / "none"), send="ping\n"))
    assert (found.kind, found.reason) == (Kind.REFUSED, f"{tmp_path}/none does not exist")


async def test_a_path_without_a_listener_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "s"))
    found = await ask("unix", unix.Settings(path=str(tmp_path / "s"), send="ping\n"))
    assert (found.kind, found.reason) == (Kind.REFUSED, "connection refused")


async def test_a_deleted_path_that_a_socket_is_still_bound_to_is_our_own_error(silent_unix: Path) -> None:
    os.unlink(silent_unix)  # noqa: PTH108
    found = await ask("unix", unix.Settings(path=str(silent_unix), send="ping\n"))
    assert found.kind is Kind.ERROR
    assert "a socket is bound to it" in found.reason


async def test_a_socket_of_another_type_is_our_own_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        datagram.bind(str(tmp_path / "s"))
        found = await ask("unix", unix.Settings(path=str(tmp_path / "s"), send="ping\n"))
    assert (found.kind, found.reason) == (Kind.ERROR, f"{tmp_path}/s is no stream socket")


ASK_AS_ANOTHER = """
import asyncio, sys
from watchdog.probes import unix
from watchdog.probes.deadline import Deadline

async def main():
    deadline = Deadline(asyncio.get_running_loop().time() + 5)
    found = await unix.probe(unix.Settings(path=sys.argv[1], send="ping"), None, deadline)
    print(found.kind, found.reason)

asyncio.run(main())
"""


def ask_as_another(path: str) -> str:
    """What the probe says as a user without privileges (as root: nobody)."""
    argv = [sys.executable, "-c", ASK_AS_ANOTHER, path]
    if os.geteuid() == 0:
        argv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("mode", "remedy"), [(0o060, "SupplementaryGroups="), (0o000, "so no group may")])
def test_a_socket_that_we_may_not_connect_to_is_our_own_error_with_the_remedy(mode: int, remedy: str) -> None:
    # Not in tmp_path, which only its owner may enter.
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        Path(directory).chmod(0o755)
        path = Path(directory, "s")
        listener.bind(str(path))
        listener.listen()
        path.chmod(mode)
        said = ask_as_another(str(path))
    assert said.startswith(f"error may not connect to {path}: ")
    assert remedy in said


def test_a_directory_that_we_may_not_enter_is_told_as_such() -> None:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/s")
        listener.listen()
        Path(directory).chmod(0o010)
        said = ask_as_another(f"{directory}/s")
        Path(directory).chmod(0o700)
    assert said.startswith("error ")
    assert "SupplementaryGroups=" in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "/run/s"}, "connect_only = true"),
        ({"path": "run/s", "send": "x"}, "no absolute path"),
        ({"path": "@", "send": "x"}, "no absolute path"),
        ({"path": "/" + "x" * 107, "send": "x"}, "107 bytes"),
    ],
)
def test_settings_are_refused_with_what_would_be_right(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        unix.Settings(**settings)  # type: ignore[arg-type]


def test_no_firewall_stops_this_road() -> None:
    road = unix.road(unix.Settings(path="/s", send="x"))
    assert (road.plane, road.transport) == (Plane.SOCKET, Transport.UNIX)
