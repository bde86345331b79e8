"""The helper behind a socket of systemd's, as the brain reaches it: the real helper, and servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helper.activated import Activated, activated
from tests.helper.nobody import become_nobody
from tests.helper.victims import Victim, build, running, until
from watchdog import hands as hands_module
from watchdog.hands import Hands
from watchdog.helper import worker
from watchdog.helper.peers import MAX_PEERS
from watchdog.link import Socket, Unreachable
from watchdog.model import Action, Outcome, Rung
from watchdog.reading import Sample

CONNECT = Callable[..., Awaitable[Hands]]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The victim."""
    return build(tmp_path_factory.mktemp("victim"))


@pytest.fixture
def place() -> Iterator[Activated]:
    """A listening socket without a helper behind it."""
    with activated() as made:
        yield made


@pytest_asyncio.fixture
async def connect(place: Activated) -> AsyncIterator[CONNECT]:
    """`await connect()`: hands at the place's socket, or at another path."""
    made: list[Hands] = []

    async def make(path: Path | None = None) -> Hands:
        made.append(await Hands.connect(path or place.path))
        return made[-1]

    yield make
    for hands in made:
        await hands.close()


def action(victim: Victim | None, rung: Rung = Rung.NUDGE) -> Action:
    """A remedy for that process."""
    return Action(rung, "incident", victim.epoch if victim else None, 0.0)


# --- with the real helper ---------------------------------------------------------------------------------------------


async def test_remedies_and_evidence_come_through_one_connection(
    place: Activated, connect: CONNECT, program: Path
) -> None:
    with running(program, "wait:2") as victim:
        place.serve_only({"a": victim.pid})
        hands = await connect()
        helper = place.start("--idle", "0.1")
        await hands.ready()
        nudged = await hands.perform("a", action(victim))
        read = await hands.examine("a", victim.epoch)
        restarted = await hands.perform("a", action(victim, Rung.RESTART))
    assert (nudged.outcome, nudged.detail["nudged"]) == (Outcome.DONE, 2)
    assert isinstance(read, Sample)
    assert "system bus" in restarted.reason  # its transient unit takes one, and there is none here
    assert hands.pid is None  # it is not ours
    await hands.close()
    assert await asyncio.to_thread(helper.wait, 20) == 0


async def test_a_helper_that_was_restarted_is_asked_at_once(place: Activated, connect: CONNECT) -> None:
    hands = await connect()
    first = place.start()
    assert (await hands.hello()).outcome is Outcome.DONE
    first.terminate()
    first.wait()
    place.start()
    replies = [await hands.hello() for _ in range(2)]
    assert [reply.outcome for reply in replies] == [Outcome.DONE] * 2


async def test_a_helper_that_ends_at_its_work_is_told(place: Activated, connect: CONNECT, program: Path) -> None:
    with running(program, "wait:1") as victim:
        place.serve_only({"a": victim.pid}, restart=("/bin/sleep", "1000"))
        hands = await connect()
        helper = place.start()
        await hands.ready()
        asking = asyncio.create_task(hands.perform("a", action(victim, Rung.RESTART)))
        await asyncio.to_thread(until, place.ledger.exists, "it is at work")
        helper.kill()
        performed = await asking
    assert performed.outcome is Outcome.FAILED
    assert performed.reason == "the helper closed the connection; whether it was done is not known"


async def test_one_that_is_turned_away_tells_why_and_waits_before_it_comes_again(
    place: Activated, connect: CONNECT
) -> None:
    place.start()
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(place.peer()) for _ in range(MAX_PEERS)]
        assert {peer.call("hello").outcome for peer in peers} == {Outcome.DONE}
        hands = await connect()
        asked, again = await hands.hello(), await hands.hello()
    refused = f"the helper refuses: {MAX_PEERS} connections to the helper are open, and it takes no more"
    assert asked.reason == f"{refused}; whether it was done is not known"
    assert again.reason == f"there is no helper: {refused}; it is tried again in 2 s"


# --- with servers that misbehave --------------------------------------------------------------------------------------


async def test_a_helper_that_never_answers_is_timed_out_and_another_connection_is_made(
    place: Activated, connect: CONNECT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands_module, "PATIENCE", {"nudge": 0.2, "examine": 0.2})
    monkeypatch.setattr(hands_module, "YOUNG", 0.0)
    hands = await connect()
    first, _ = place.listener.accept()
    performed = await hands.perform("a", action(None))
    assert first.recv(4096).count(b"\n") == 1
    assert first.recv(1) == b""
    await hands.perform("a", action(None))
    second, _ = place.listener.accept()
    assert second.recv(4096).count(b"\n") == 1  # nothing is asked twice
    first.close()
    second.close()
    assert (performed.outcome, performed.reason) == (Outcome.TIMED_OUT, "the helper did not answer within 0.2 s")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"nonsense\n", "the helper talks nonsense: the line is no JSON"),
        (b"", "the helper closed the connection"),
        (b'{"id": null, "outcome": "refused", "reason": "no", "detail": {}}\nx\n', "the helper refuses: no"),
    ],
)
async def test_what_a_server_says_that_is_no_answer_is_an_outcome(
    place: Activated, connect: CONNECT, said: bytes, reason: str
) -> None:
    hands = await connect()
    with place.listener.accept()[0] as theirs:
        theirs.sendall(said)
    reply = await hands.hello()
    assert reply.outcome is Outcome.FAILED
    assert reason in reply.reason


# --- with nobody there ------------------------------------------------------------------------------------------------


def why(path: Path) -> str:
    """Why there is no connection."""
    with pytest.raises(Unreachable) as caught:
        Socket(path).open()
    return str(caught.value)


def test_a_socket_that_is_missing_is_told_with_the_unit_to_start(tmp_path: Path) -> None:
    assert why(tmp_path / "helper.sock") == (
        f"{tmp_path}/helper.sock: No such file or directory; is epoll-watchdog-helper.socket started? "
        "`systemctl start epoll-watchdog-helper.socket`"
    )


def test_a_socket_that_nobody_listens_to_is_told_with_the_unit_to_restart(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "helper.sock"))
    assert why(tmp_path / "helper.sock") == (
        f"{tmp_path}/helper.sock: Connection refused: nobody listens there any more; "
        "`systemctl restart epoll-watchdog-helper.socket`"
    )


def test_a_full_queue_is_told(place: Activated) -> None:
    place.listener.listen(0)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(place.path))
        assert "Resource temporarily unavailable: too many wait there already" in why(place.path)


def as_nobody(path: Path) -> str:
    """Why there is no connection for a user without any right."""

    def tell() -> str:
        become_nobody()
        return why(path)

    ending = worker.run(tell, 20.0)
    assert not ending.error
    return str(ending.value)


def test_who_is_not_in_the_socket_s_group_is_told_which_it_is(place: Activated) -> None:
    place.path.chmod(0o660)
    assert as_nobody(place.path) == f"{place.path}: Permission denied; {IN_GROUP.format('root')}"
    os.chown(place.path, 0, 54321)
    assert as_nobody(place.path) == f"{place.path}: Permission denied; {IN_GROUP.format('54321')}"
    place.directory.chmod(0o700)
    assert as_nobody(place.path).endswith(f"its directory {place.directory} is closed to this user")


IN_GROUP = "the user of this process must be in the group '{}'"


async def test_without_a_socket_it_is_tried_again_after_a_pause(
    place: Activated, connect: CONNECT, caplog: pytest.LogCaptureFixture
) -> None:
    hands = await connect(place.directory / "other.sock")
    reply = await hands.hello()
    assert reply.outcome is Outcome.FAILED
    assert reply.reason.startswith(f"there is no helper: {place.directory}/other.sock: No such file or directory; is")
    assert reply.reason.endswith("; it is tried again in 2 s")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "it is tried again in 2 s, and while that does not help, after pauses of up to 60 s" in caplog.text
