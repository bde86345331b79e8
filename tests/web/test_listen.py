"""Where the server listens: several addresses, a Unix socket, and what systemd passes."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
import trustme

from tests.servers import free_port
from tests.web.certified import PASSWORD, USER, USERS, certified
from tests.web.test_web import Daemon
from watchdog.config.web import Web
from watchdog.web.listen import CannotListen
from watchdog.web.server import serve

EVIDENCE = "/api/v1/incidents/01J/evidence"


async def local(path: Path | str, asked: str) -> int:
    """What a client of a Unix socket is answered."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client,
        client.get(f"http://localhost{asked}") as answer,
    ):
        return answer.status


async def test_several_addresses_are_served_and_the_port_is_free_afterwards(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "web.sock"
    server = await serve(Daemon(), [f"127.0.0.1:{port}", f"unix:{path}"])
    async with aiohttp.ClientSession() as client:
        assert (await client.get(f"http://127.0.0.1:{port}{EVIDENCE}")).status == 403
    assert await local(path, EVIDENCE) == 200
    assert server.addresses == [f"127.0.0.1:{port}", f"unix:{path}"]
    await server.close()
    assert not path.exists()
    await (await serve(Daemon(), f"127.0.0.1:{port}")).close()


@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_a_unix_socket_is_for_owner_and_group_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        server = await serve(Daemon(), f"unix:{tmp_path}/web.sock")
    finally:
        os.umask(before)
    mode = (tmp_path / "web.sock").stat().st_mode
    await server.close()
    assert stat.S_IMODE(mode) == 0o660


async def test_its_mode_is_the_authentication_of_a_unix_socket(tmp_path: Path) -> None:
    web = Web(users=USERS, tls=certified(trustme.CA(), tmp_path))
    server = await serve(Daemon(), f"unix:{tmp_path}/web.sock", web)
    assert await local(tmp_path / "web.sock", EVIDENCE) == 200
    await server.close()


async def test_the_socket_of_a_daemon_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    server = await serve(Daemon(), f"unix:{path}")
    assert await local(path, "/-/healthy") == 200
    with pytest.raises(CannotListen, match=r"[Aa]ddress already in use"):
        await serve(Daemon(), f"unix:{path}")
    assert await local(path, "/-/healthy") == 200
    await server.close()


async def test_a_file_that_is_no_socket_is_kept(tmp_path: Path) -> None:
    (tmp_path / "web.sock").write_text("precious")
    with pytest.raises(CannotListen, match=r"[Aa]ddress already in use"):
        await serve(Daemon(), f"unix:{tmp_path}/web.sock")
    assert (tmp_path / "web.sock").read_text() == "precious"


async def test_what_was_bound_is_let_go_of_where_one_address_fails(tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match="no/such: No such file"):
        await serve(Daemon(), [f"unix:{tmp_path}/web.sock", f"unix:{tmp_path}/no/such"])
    assert not (tmp_path / "web.sock").exists()


async def test_without_a_passed_socket_systemd_is_an_error() -> None:
    with pytest.raises(CannotListen, match=r"no socket was passed; start the daemon by its \.socket unit"):
        await serve(Daemon(), "systemd")


PASSED = """
import asyncio, os
from tests.web.test_web import Daemon
from tests.web.certified import USERS
from watchdog.config.web import Web
from watchdog.web.server import serve

async def main():
    os.environ["LISTEN_PID"] = str(os.getpid())
    server = await serve(Daemon(), "systemd", Web(users=USERS))
    print(*server.addresses, flush=True)
    assert "LISTEN_FDS" not in os.environ
    assert not any(os.get_inheritable(number) for number in (3, 4, 5))
    await asyncio.to_thread(input)
    await server.close()

asyncio.run(main())
"""
SHELL = 'exec 3<&"$1" 4<&"$2" 5<&"$3"; exec "$4" -c "$5"'


async def test_every_socket_that_systemd_passes_is_served_and_only_a_private_one_without_a_password(
    tmp_path: Path,
) -> None:
    private, public = tmp_path / "private.sock", tmp_path / "public.sock"
    unix = socket.AF_UNIX
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(unix) as one, socket.socket(unix) as other:
        for given, path, mode in ((one, private, 0o660), (other, public, 0o666)):
            given.bind(str(path))
            given.listen()
            path.chmod(mode)
        numbers = [given.fileno() for given in (tcp, one, other)]
        port = tcp.getsockname()[1]
        child = await asyncio.create_subprocess_exec(
            *("/bin/bash", "-c", SHELL, "bash", *map(str, numbers), sys.executable, PASSED),
            env={**os.environ, "LISTEN_FDS": "3"},
            pass_fds=numbers,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    assert child.stdout is not None
    told = (await asyncio.wait_for(child.stdout.readline(), 30)).decode().split()
    assert told == [f"127.0.0.1:{port}", f"unix:{private}", f"unix:{public}"]
    assert [await local(path, EVIDENCE) for path in (private, public)] == [200, 401]
    async with aiohttp.ClientSession() as client:
        known = {"Authorization": aiohttp.encode_basic_auth(USER, PASSWORD)}
        assert (await client.get(f"http://127.0.0.1:{port}/metrics")).status == 401
        assert (await client.get(f"http://127.0.0.1:{port}{EVIDENCE}", headers=known)).status == 200
    await child.communicate(b"\n")
    assert child.returncode == 0
    assert private.exists()  # systemd's, not ours
