"""When a look reads evidence, and what that changes of its round."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.core.readings import asleep, elsewhere
from tests.examining import Logged, Playback
from tests.test_look import Answering, answering
from watchdog import pace
from watchdog.clock import Clock
from watchdog.config import Probe, Service
from watchdog.examiner import Examiner
from watchdog.look import READ_EVERY, Look, Seen
from watchdog.model import Epoch, Kind, Policy
from watchdog.probes.tcp import Settings as Tcp
from watchdog.reading import Form, Lack, Sample
from watchdog.systemd import Units
from watchdog.target import Target

PATIENT = 5.0  # s: no test waits for this time-out
UNHURRIED = 3.0  # s until somebody is late, where a stall of this host must not count

LookAt = Callable[..., Look]


@dataclass
class Telling(Playback):
    """Says when it is asked, and when it was asked first."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    first: float = 0.0

    async def examine(self, service: str, epoch: Epoch, *, copy: bool = False) -> Sample | Lack:
        self.first = self.first or self.clock.now()
        self.asked.set()
        return await super().examine(service, epoch, copy=copy)


@pytest.fixture
def helper() -> Telling:
    return Telling(Clock(), threads=elsewhere(100)[:1])


@pytest.fixture
async def look_at(tmp_path: Path, helper: Telling) -> AsyncIterator[LookAt]:
    """A look with TCP probes of these addresses, by name."""
    pidfile = tmp_path / "pid"
    pidfile.write_text(f"{os.getpid()}\n")
    with contextlib.ExitStack() as made:

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
            diag = made.enter_context(contextlib.closing(Logged(helper.log)))
            look = Look(service, Units(), Examiner("web", (), helper, diag, Clock()), Clock())
            made.callback(look.close)
            return look

        yield make


@pytest.fixture
def stalled() -> Iterator[socket.socket]:
    """A listener that nobody serves: the kernel takes the connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who takes much longer than a stall of this host is late."""
    monkeypatch.setattr(pace, "LATE_AT_LEAST", UNHURRIED)


def address(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


# --- late -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unhurried")
async def test_who_answers_in_time_is_not_read(look_at: LookAt, helper: Telling) -> None:
    async with answering() as server:
        server.answer.set()
        seen = await look_at(tcp=server.address).round()
    assert seen.reading is None
    assert helper.log == []


async def test_a_probe_that_is_late_starts_the_reading_long_before_it_times_out(
    look_at: LookAt, helper: Telling
) -> None:
    async with answering() as server:
        look = look_at(tcp=server.address)
        looking = asyncio.create_task(look.round())
        await asyncio.wait_for(helper.asked.wait(), 10)
        server.answer.set()
        seen = await looking
    assert 0.05 <= helper.first - seen.round.started < PATIENT / 2
    assert seen.round.observations["tcp"].kind is Kind.ALIVE
    assert seen.reading is not None
    assert len(seen.reading.samples) == 4


async def test_an_answer_that_comes_before_the_time_out_is_no_late_answer(look_at: LookAt, helper: Telling) -> None:
    async with answering() as server:
        look = look_at(tcp=server.address)
        looking = asyncio.create_task(look.round())
        await asyncio.wait_for(helper.asked.wait(), 10)
        server.answer.set()
        await looking
    assert look.late_answer is None
    assert look.answered is not None


async def test_a_service_whose_answers_take_long_as_a_rule_is_late_later(look_at: LookAt, helper: Telling) -> None:
    async with answering() as server:
        look = look_at(tcp=server.address)
        await slow_answer(look, server, helper)
        seen = await slow_answer(look, server, helper)
    assert helper.first - seen.round.started > 0.15  # three times the 50 ms at least that the first answer took


async def slow_answer(look: Look, server: Answering, helper: Telling) -> Seen:
    """A round in which the answer comes only once evidence was asked for."""
    helper.asked.clear()
    helper.first = 0.0
    server.answer.clear()
    looking = asyncio.create_task(look.round())
    await asyncio.wait_for(helper.asked.wait(), 10)
    server.answer.set()
    return await looking


# --- a proof ----------------------------------------------------------------------------------------------------------


async def test_a_proof_ends_the_round_and_who_has_not_answered_is_late(
    look_at: LookAt, helper: Telling, stalled: socket.socket
) -> None:
    helper.serves(stalled)
    helper.threads = asleep()[:1]
    async with answering() as other:
        other.answer.set()
        look = look_at(tcp=address(stalled), other=other.address)
        seen = await look.round()
    assert [proof.form for proof in look.examiner.proofs] == [Form.ARRIVAL]
    assert {name: found.kind for name, found in seen.round.observations.items()} == {
        "tcp": Kind.LATE,
        "other": Kind.ALIVE,
    }
    assert seen.round.ended - seen.round.started < PATIENT / 2
    assert seen.reading is not None


async def test_who_was_late_then_is_waited_on_and_its_answer_wakes_the_guard(
    look_at: LookAt, helper: Telling, stalled: socket.socket
) -> None:
    helper.serves(stalled)
    helper.threads = asleep()[:1]
    look = look_at(tcp=address(stalled))
    await look.round()
    with serving(stalled):
        await asyncio.wait_for(look.woken.wait(), 10)
    assert look.late_answer is None
    assert look.answered is not None


async def test_what_was_waited_for_in_the_dark_does_not_put_off_what_is_late(
    look_at: LookAt, helper: Telling, stalled: socket.socket
) -> None:
    helper.serves(stalled)
    helper.threads = asleep()[:1]
    look = look_at(tcp=address(stalled))
    await look.round()
    helper.threads = asleep(switches=51, finite=True)[:1]  # the proof is gone, and no other comes
    helper.asked.clear()
    looking = asyncio.create_task(look.round())
    await asyncio.wait_for(helper.asked.wait(), 10)
    await asyncio.sleep(1)
    with serving(stalled):
        assert (await looking).round.observations["tcp"].kind is Kind.ALIVE
    helper.first = 0.0
    helper.threads = asleep(switches=52)[:1]
    seen = await look.round()
    assert helper.first - seen.round.started < 1.5  # three times the answer before would be later


@contextlib.contextmanager
def serving(listener: socket.socket) -> Iterator[None]:
    """Answer all that waits."""
    loop, taken = asyncio.get_running_loop(), []

    def accept() -> None:
        client, _ = listener.accept()
        client.send(b"pong\n")
        taken.append(client)

    loop.add_reader(listener, accept)
    try:
        yield
    finally:
        loop.remove_reader(listener)
        for client in taken:
            client.close()


@pytest.mark.usefixtures("unhurried")
async def test_the_rounds_after_it_look_at_its_threads_again_and_no_more_where_all_answer(
    look_at: LookAt, helper: Telling, stalled: socket.socket
) -> None:
    helper.serves(stalled)
    helper.threads = asleep()[:1]
    async with answering() as other:
        other.answer.set()
        look = look_at(tcp=other.address)
        look.tripped = True
        with socket.create_connection(stalled.getsockname()):
            await look.round()
        assert len(look.examiner.proofs) == 1
        helper.log.clear()
        seen = await look.round()
    assert helper.log == ["sample", "queues"]
    assert seen.reading is not None
    assert (len(seen.reading.samples), len(look.examiner.proofs)) == (1, 1)


# --- dark, and tripped ------------------------------------------------------------------------------------------------


async def test_a_probe_that_is_refused_is_read_though_nothing_was_late(look_at: LookAt) -> None:
    seen = await look_at(tcp="127.0.0.1:1").round()
    assert seen.reading is not None
    assert len(seen.reading.samples) == 4


async def test_once_a_probe_has_timed_out_the_reading_knocks_where_nobody_waits(
    look_at: LookAt, helper: Telling, stalled: socket.socket
) -> None:
    async with answering() as silent:
        helper.serves(stalled)
        seen = await look_at(0.1, tcp=silent.address).round()
    assert seen.round.observations["tcp"].kind is Kind.SILENT
    assert seen.reading is not None
    assert [moment.queues[0].length for moment in seen.reading.queues] == [0, 1, 2]


async def test_what_is_only_late_is_not_knocked_at(look_at: LookAt, helper: Telling, stalled: socket.socket) -> None:
    async with answering() as server:
        helper.serves(stalled)
        look = look_at(tcp=server.address)
        seen = await slow_answer(look, server, helper)
    assert seen.reading is not None
    assert {moment.queues[0].length for moment in seen.reading.queues} == {0}


@pytest.mark.usefixtures("unhurried")
async def test_a_round_that_was_tripped_reads_at_once_whatever_the_probes_find(
    look_at: LookAt, helper: Telling
) -> None:
    async with answering() as server:
        look = look_at(tcp=server.address)
        look.tripped = True
        seen = await slow_answer(look, server, helper)
        assert seen.reading is not None
        assert helper.first - seen.round.started < PATIENT / 2 < UNHURRIED
        assert seen.round.observations["tcp"].kind is Kind.ALIVE
        assert (await look.round()).reading is None  # once


async def test_without_a_process_there_is_nothing_to_read(look_at: LookAt, helper: Telling, tmp_path: Path) -> None:
    look = look_at(tcp="127.0.0.1:1")
    (tmp_path / "pid").unlink()
    look.tripped = True
    assert (await look.round()).reading is None
    assert helper.log == []


async def test_a_reading_that_is_cancelled_leaves_nothing_behind(look_at: LookAt, helper: Telling) -> None:
    async with answering() as server:
        looking = asyncio.create_task(look_at(tcp=server.address).round())
        await asyncio.wait_for(helper.asked.wait(), 10)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
        await asyncio.sleep(0)
        assert asyncio.all_tasks() - server_tasks() == {asyncio.current_task()}


def server_tasks() -> set[asyncio.Task[None]]:
    """The test's own server at work."""
    return {task for task in asyncio.all_tasks() if "Answering" in repr(task.get_coro())}


# --- what is wrong without being dark, and what answers again ---------------------------------------------------------


@contextlib.asynccontextmanager
async def answering_with(answer: list[bytes]) -> AsyncIterator[str]:
    """Answers at once, with the first of these as it is by then."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer[0])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield address(server.sockets[0])


@pytest.mark.usefixtures("unhurried")
async def test_evidence_of_wrong_answers_is_read_for_the_record_and_kept_while_they_go_on(
    look_at: LookAt, helper: Telling
) -> None:
    async with answering_with([b"no\n"]) as at:
        look = look_at(tcp=at)
        first = await look.round()
        helper.log.clear()
        second = await look.round()
        assert helper.log == []
        look._read_at -= READ_EVERY
        third = await look.round()
    assert first.round.observations["tcp"].kind is Kind.WRONG
    assert first.reading is not None
    assert second.reading is first.reading
    assert third.reading not in (None, first.reading)


@pytest.mark.usefixtures("unhurried")
async def test_wrong_answers_after_good_ones_are_read_anew(look_at: LookAt) -> None:
    answer = [b"no\n"]
    async with answering_with(answer) as at:
        look = look_at(tcp=at)
        first = await look.round()
        answer[0] = b"pong\n"
        well = await look.round()
        answer[0] = b"no\n"
        again = await look.round()
    assert (first.reading is None, well.reading) == (False, None)
    assert again.reading not in (None, first.reading)


async def test_the_first_good_answer_is_that_of_a_socket_that_gave_none_before(look_at: LookAt) -> None:
    async with answering() as lit, answering() as dark:
        lit.answer.set()
        look = look_at(timeout=1.0, lit=lit.address, dark=dark.address)
        await look.round()
        look.answered = None  # as when a remedy begins
        await look.round()
        before = look.answered
        dark.answer.set()
        await asyncio.wait_for(look.woken.wait(), 10)
    assert before is None
    assert look.answered is not None
