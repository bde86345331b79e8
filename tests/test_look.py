from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.simulated import NoHands
from watchdog import target
from watchdog.clock import Clock
from watchdog.config import Probe, Service
from watchdog.evidence.sockdiag import SockDiag
from watchdog.examiner import Examiner
from watchdog.look import Look
from watchdog.model import Kind, Policy
from watchdog.probes.tcp import Settings as Tcp
from watchdog.systemd import Units
from watchdog.target import Target

PATIENT = 5.0  # s: a time-out that no answer of ours takes
DARK = 0.5  # s: one that is waited for


class Answering:
    """A server that answers pings when it is told to, and counts its connections."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.connections = 0
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            await reader.readline()
            await self.answer.wait()
            writer.write(b"pong\n")
            await writer.drain()
        writer.close()


@asynccontextmanager
async def answering() -> AsyncIterator[Answering]:
    server = Answering()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        server.answer.set()
        listener.close()


@pytest.fixture
def pidfile(tmp_path: Path) -> Path:
    """Names this process."""
    path = tmp_path / "pid"
    path.write_text(f"{os.getpid()}\n")
    return path


@pytest.fixture
def diag() -> Iterator[SockDiag]:
    asked = SockDiag()
    yield asked
    asked.close()


@pytest.fixture
def look_at(pidfile: Path, diag: SockDiag) -> Callable[..., Look]:
    def make(timeout: float = PATIENT, **addresses: str) -> Look:
        probes = {
            name: Probe(type="tcp", timeout=timeout, settings=Tcp(address=address, send="ping\n", expect="pong"))
            for name, address in addresses.items()
        }
        service = Service(
            name="web",
            target=Target(pidfile=str(pidfile)),
            policy=Policy(),
            labels={},
            annotations={},
            probes=probes,
        )
        return Look(service, Units(), Examiner("web", (), NoHands(), diag, Clock()), Clock())

    return make


async def test_a_service_that_answers_is_alive(look_at: Callable[..., Look]) -> None:
    async with answering() as server:
        server.answer.set()
        seen = await look_at(tcp=server.address).round()
    assert seen.round.observations["tcp"].kind is Kind.ALIVE


async def test_the_process_is_found_with_its_start_time_and_age(look_at: Callable[..., Look]) -> None:
    seen = await look_at().round()
    assert seen.epoch is not None
    assert (seen.epoch.pid, seen.epoch.start_time) == (os.getpid(), target.start_time(os.getpid()))
    assert 0 < seen.age < time.clock_gettime(time.CLOCK_BOOTTIME)


async def test_probes_run_in_parallel_each_with_its_own_time_out(look_at: Callable[..., Look]) -> None:
    async with answering() as one, answering() as two, answering() as three:
        look = look_at(DARK, one=one.address, two=two.address, three=three.address)
        began = time.monotonic()
        seen = await look.round()
        assert time.monotonic() - began < 1.2  # three time-outs one after another take longer
        assert {found.kind for found in seen.round.observations.values()} == {Kind.SILENT}
        look.close()


async def test_while_a_socket_is_dark_one_connection_is_waited_on_and_no_other_opened(
    look_at: Callable[..., Look],
) -> None:
    async with answering() as server:
        look = look_at(DARK, tcp=server.address)
        await look.round()
        waited = (await look.round()).round.observations["tcp"]
        assert waited.kind is Kind.SILENT
        assert "no answer in" in waited.reason
        assert server.connections == 1
        look.close()


async def test_the_rounds_after_the_first_do_not_wait_for_the_time_out_again(look_at: Callable[..., Look]) -> None:
    async with answering() as server:
        look = look_at(DARK, tcp=server.address)
        await look.round()
        seen = await look.round()
        assert seen.round.ended - seen.round.started < DARK
        look.close()


async def test_a_late_answer_is_told_and_wakes_the_guard(look_at: Callable[..., Look]) -> None:
    async with answering() as server:
        look = look_at(2.0, tcp=server.address)  # dark first, and then an answer comes within it
        asked = (await look.round()).round.ended
        server.answer.set()
        await asyncio.wait_for(look.woken.wait(), 10)
        assert look.late_answer is not None
        assert look.late_answer >= asked
        assert (await look.round()).round.observations["tcp"].kind is Kind.ALIVE
        assert server.connections == 2


async def test_a_connection_that_was_waited_on_is_dropped_when_the_process_is_another(
    look_at: Callable[..., Look], pidfile: Path
) -> None:
    async with answering() as server:
        look = look_at(DARK, tcp=server.address)
        await look.round()
        pidfile.write_text(f"{os.getppid()}\n")
        await look.round()
        assert server.connections == 2
        look.close()


async def test_a_refused_connection_is_asked_again_each_round(look_at: Callable[..., Look]) -> None:
    look = look_at(tcp="127.0.0.1:1")
    assert [(await look.round()).round.observations["tcp"].kind for _ in range(2)] == [Kind.REFUSED, Kind.REFUSED]


async def test_no_process_is_no_epoch(look_at: Callable[..., Look], pidfile: Path) -> None:
    pidfile.unlink()
    assert (await look_at().round()).epoch is None


async def test_a_pidfile_that_says_nothing_is_told(look_at: Callable[..., Look], pidfile: Path) -> None:
    pidfile.write_text("not a number\n")
    assert str(pidfile) in (await look_at().round()).process_error


async def test_a_connection_that_is_reset_while_it_is_waited_on_is_no_late_answer(look_at: Callable[..., Look]) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        await hanging_up.wait()
        writer.transport.abort()

    hanging_up = asyncio.Event()
    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    look = look_at(DARK, tcp=f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    await look.round()
    hanging_up.set()
    await asyncio.wait_for(look.woken.wait(), 10)
    assert look.late_answer is None
    listener.close()


async def test_a_connection_that_was_never_made_is_not_waited_on(look_at: Callable[..., Look]) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with contextlib.ExitStack() as crowd:
            for _ in range(4):
                client = crowd.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(address)
            look = look_at(DARK, tcp=f"127.0.0.1:{address[1]}")
            assert (await look.round()).round.observations["tcp"].kind is Kind.UNREACHABLE
            assert (await look.round()).round.observations["tcp"].latency >= DARK  # a fresh one, with its own time-out
            look.close()
