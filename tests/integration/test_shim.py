"""The shim makes nginx and redis lose wake-ups as a broken kernel would, and no more than it was told."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests import servers
from tests.servers import until
from tests.stall import HTTP, PING, Shim, connect, held, interrupt, is_dark, kicker


def test_nginx_is_dark_until_an_eintr_and_then_answers_all_that_queued_up(shim: Shim, tmp_path: Path) -> None:
    with servers.nginx(tmp_path, env=shim.environment) as nginx, ExitStack() as clients:
        addresses = (("127.0.0.1", nginx.port), str(nginx.path))
        old = [clients.enter_context(held(address, HTTP)) for address in addresses]
        [lost] = shim.stall(kicker(addresses[0], HTTP[0]))
        assert lost.pid in nginx.children()
        assert [is_dark(address, HTTP[0]) for address in addresses] == [True, True]
        new = [clients.enter_context(connect(address)) for address in addresses * 5]
        for sock in new:
            sock.sendall(HTTP[0])
        for client in old:
            client.ask()
        interrupt(lost.pid)
        assert [client.answer().endswith(b"hello\n") for client in old] == [True, True]
        assert [sock.recv(4096).startswith(b"HTTP/1.1 200") for sock in new] == [True] * 10
        assert [moment.pid for moment in shim.moments("woken")] == [lost.pid]


def test_every_worker_of_nginx_stalls_once_for_one_trigger(shim: Shim, tmp_path: Path) -> None:
    with servers.nginx(tmp_path, workers=2, env=shim.environment) as nginx:
        address = ("127.0.0.1", nginx.port)
        lost = shim.stall(kicker(address, HTTP[0]), loops=2)
        assert {moment.pid for moment in lost} == set(nginx.children())
        for moment in lost:
            interrupt(moment.pid)
        assert not is_dark(address, HTTP[0], within_s=5)
        assert len(shim.moments("lost")) == 2


def test_redis_does_not_heal_itself_by_its_own_time_out(shim: Shim, tmp_path: Path) -> None:
    with servers.redis(tmp_path, env=shim.environment) as redis, ExitStack() as clients:
        addresses = (("127.0.0.1", redis.port), str(redis.path))
        old = [clients.enter_context(held(address, PING)) for address in addresses]
        [lost] = shim.stall(lambda: None)  # its timer brings it there every 100 ms
        assert [is_dark(address, PING[0]) for address in addresses] == [True, True]
        for client in old:
            client.ask()
        interrupt(lost.pid)
        assert [client.answer() for client in old] == [b"+PONG\r\n"] * 2


def test_a_stall_outlives_as_many_eintrs_as_the_trigger_says(shim: Shim, tmp_path: Path) -> None:
    with servers.redis(tmp_path, env=shim.environment) as redis:
        [lost] = shim.stall(lambda: None, outlives=1)
        interrupt(lost.pid)
        until(lambda: len(shim.moments("useless")) == 1, 5, "an EINTR that did not heal")
        assert is_dark(("127.0.0.1", redis.port), PING[0])
        interrupt(lost.pid)
        assert not is_dark(("127.0.0.1", redis.port), PING[0], within_s=5)
