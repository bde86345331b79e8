"""The helper with several peers: whom it lets in, that none of them harms another, and when it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helper.conftest import Start
from tests.helper.nobody import NOBODY, become_nobody
from tests.helper.serving import Helper, Listening, listening, pidfile_service
from tests.helper.victims import until
from watchdog.helper import worker
from watchdog.helper.peers import MAX_PEERS
from watchdog.helper.protocol import MAX_REPLY
from watchdog.helper.server import MAX_JOBS_OF_ONE, MAX_OWED
from watchdog.helper.verbs import Done, Verb
from watchdog.model import Outcome, Rung

DONE = Done(Outcome.DONE, "done", {})


def verb(act: Callable[[], Done], *, rung: Rung | None = Rung.NUDGE, reads: bool = False) -> Verb:
    """A verb that is only a test's."""
    return Verb(lambda _target, _request, _never: act(), 60.0, rung, reads=reads)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A FIFO: who opens it to read waits until the test opens it to write."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def held_by(gate: Path, proof: Path | None = None) -> Callable[[], Done]:
    """An act that ends when the gate is opened, and leaves a proof that it did."""

    def act() -> Done:
        gate.read_bytes()
        if proof is not None:
            proof.touch()
        return DONE

    return act


def services(directory: Path, *names: str) -> dict[str, Any]:
    """Services of the config that no verb of these tests touches."""
    return {name: pidfile_service(directory, name, 1) for name in names}


# --- each gets its own ------------------------------------------------------------------------------------------------


def test_each_peer_gets_its_own_replies(tmp_path: Path, start: Start) -> None:
    one, two = start("wait:1"), start("wait:2")
    named = {"one": pidfile_service(tmp_path, "one", one.pid), "two": pidfile_service(tmp_path, "two", two.pid)}
    with listening(tmp_path, named) as server, server.peer() as first, server.peer() as second:
        first.ask(7, "nudge", "one", one)
        second.ask(7, "nudge", "two", two)
        assert [second.reply().detail["nudged"], first.reply().detail["nudged"]] == [2, 1]


def test_a_service_never_has_two_actions_at_once_whoever_asks(tmp_path: Path, gate: Path) -> None:
    verbs = {"restart": verb(held_by(gate), rung=Rung.RESTART), "nudge": verb(lambda: DONE)}
    with (
        listening(tmp_path, services(tmp_path, "a"), verbs=verbs) as server,
        server.peer() as first,
        server.peer() as second,
    ):
        first.ask(1, "restart", "a")
        until(lambda: children(server), "under way")
        refused = second.call("nudge", "a")
        gate.write_bytes(b"")
        assert first.reply().outcome is Outcome.DONE
        assert second.call("nudge", "a").outcome is Outcome.DONE
    assert (refused.outcome, refused.reason) == (Outcome.REFUSED, "a restart of 'a' is under way")


def test_what_is_of_no_service_is_not_in_the_way_of_a_service_nor_of_another_peer(tmp_path: Path, gate: Path) -> None:
    verbs = {"hello": verb(held_by(gate), rung=None), "nudge": verb(lambda: DONE)}
    with (
        listening(tmp_path, services(tmp_path, "a"), verbs=verbs) as server,
        server.peer() as first,
        server.peer() as second,
    ):
        first.ask(1, "hello", "a")
        second.ask(2, "hello", "a")
        until(lambda: len(children(server)) == 2, "both under way")
        assert second.call("nudge", "a").outcome is Outcome.DONE
        assert first.call("hello", "a").reason == "a hello of 'a' is under way"


def test_what_a_peer_asked_for_that_has_gone_is_done_to_its_end(tmp_path: Path, gate: Path) -> None:
    verbs = {"nudge": verb(held_by(gate, tmp_path / "done"))}
    with listening(tmp_path, services(tmp_path, "a"), verbs=verbs) as server:
        with server.peer() as first:
            first.ask(1, "nudge", "a")
            until(lambda: children(server) and first.ledger.exists(), "under way")
        with server.peer() as second:
            assert second.call("nudge", "a").reason == "a nudge of 'a' is under way"
            assert not (tmp_path / "done").exists()
            gate.write_bytes(b"")
            until(lambda: not children(server), "it has ended")
            assert (tmp_path / "done").exists()
            second.ask(2, "nudge", "a")
            gate.write_bytes(b"")
            assert second.reply().id == 2  # and not the first's


def test_one_peer_cannot_take_all_the_room(tmp_path: Path, gate: Path) -> None:
    names = [f"s{number}" for number in range(MAX_JOBS_OF_ONE + 1)]
    verbs = {"examine": verb(held_by(gate), rung=None, reads=True)}
    with (
        listening(tmp_path, services(tmp_path, *names), verbs=verbs) as server,
        server.peer() as greedy,
        server.peer() as modest,
    ):
        for number, name in enumerate(names):
            greedy.ask(number, "examine", name)
        refused = greedy.reply()
        modest.ask(1, "examine", names[-1])
        until(lambda: len(children(server)) == MAX_JOBS_OF_ONE + 1, "the modest one's is under way too")
    assert (refused.id, refused.reason) == (MAX_JOBS_OF_ONE, f"{MAX_JOBS_OF_ONE} requests of yours are under way")


def children(server: Listening) -> list[str]:
    """The workers under way."""
    return Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()


# --- who is let in ----------------------------------------------------------------------------------------------------


def as_nobody(server: Listening) -> tuple[dict[str, Any], str]:
    """What a process of another user gets to hear when it says hello, and what comes after that."""

    def ask() -> tuple[str, str]:
        become_nobody()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10.0)
            connection.connect(server.address)
            with contextlib.suppress(BrokenPipeError):  # it has been turned away already
                connection.sendall(b'{"id": 1, "verb": "hello"}\n')
                connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as lines:
                line, rest = lines.readline().decode(), ""
                with contextlib.suppress(ConnectionResetError):  # what we sent was never read
                    rest = lines.read().decode()
        return line, rest

    ending = worker.run(ask, 20.0)
    assert not ending.error
    line, rest = ending.value
    return json.loads(line), rest


def test_whoever_is_neither_root_nor_the_brain_is_told_so_in_one_line(tmp_path: Path) -> None:
    with listening(tmp_path, {}) as server, server.peer() as root:
        reply, rest = as_nobody(server)
        assert root.call("hello").outcome is Outcome.DONE
    assert reply == {
        "id": None,
        "outcome": "refused",
        "reason": f"uid {NOBODY} may not ask the helper: root may, and the user of --peer-user",
        "detail": {},
    }
    assert rest == ""


def test_the_user_of_the_brain_is_let_in_without_any_power_of_its_own(tmp_path: Path) -> None:
    with listening(tmp_path, {}, allowed=frozenset({0, NOBODY})) as server:
        reply, _ = as_nobody(server)
    assert (reply["id"], reply["outcome"], reply["detail"]["uid"]) == (1, "done", 0)


def test_one_connection_too_many_is_told_so_in_one_line_and_another_is_let_in_for_one_that_left(tmp_path: Path) -> None:
    with listening(tmp_path, {}) as server, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(server.peer()) for _ in range(MAX_PEERS)]
        assert [peer.call("hello").outcome for peer in peers] == [Outcome.DONE] * MAX_PEERS
        with server.peer() as ninth:
            refused = ninth.reply()
            assert ninth.peer.recv(1) == b""
        peers[3].peer.close()
        until(lambda: len(sockets(server)) == MAX_PEERS, "it has left: the listening socket and seven others")
        with server.peer() as another:
            assert another.call("hello").outcome is Outcome.DONE
    assert (refused.id, refused.outcome) == (None, Outcome.REFUSED)
    assert refused.reason == f"{MAX_PEERS} connections to the helper are open, and it takes no more"


def sockets(server: Listening) -> list[str]:
    """Its open sockets."""
    links = [str(entry.readlink()) for entry in Path(f"/proc/{server.pid}/fd").iterdir()]
    return [link for link in links if link.startswith("socket:")]


def test_a_thousand_connections_harm_nobody(tmp_path: Path) -> None:
    with listening(tmp_path, {}) as server, server.peer() as asked, contextlib.ExitStack() as stack:
        assert asked.call("hello").outcome is Outcome.DONE
        before = resident_kib(server)
        crowd = [stack.enter_context(server.peer()) for _ in range(1000)]
        slowest = max(seconds(lambda: asked.call("hello")) for _ in range(20))
        turned_away = [peer.reply().outcome for peer in crowd[MAX_PEERS - 1 :]]
        assert resident_kib(server) < before + 1024
        assert len(sockets(server)) <= MAX_PEERS + 1
    assert turned_away == [Outcome.REFUSED] * (1000 - MAX_PEERS + 1)
    assert slowest < 1


def resident_kib(server: Listening) -> int:
    """VmRSS."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


def test_where_no_connection_can_be_taken_the_helper_waits_and_does_not_spin(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with listening(tmp_path, {}) as server, server.peer() as first:
        assert first.call("hello").outcome is Outcome.DONE
        usual = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        used = {int(entry.name) for entry in Path(f"/proc/{server.pid}/fd").iterdir()}
        free = min(set(range(len(used) + 1)) - used)  # the number that the next one would get
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (free, usual[1]))
        with server.peer() as second:
            until(lambda: "no connection can be taken: [Errno 24]" in capfd.readouterr().err, "it has tried")
            assert "no worker could be started" in first.call("hello").reason
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, usual)
            assert second.call("hello").outcome is Outcome.DONE
    assert capfd.readouterr().err.count("no connection can be taken") <= 3


# --- nobody harms another ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Done in a thread while the test goes on."""
    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()


def test_one_who_sends_a_mebibyte_of_nonsense_and_reads_nothing_is_not_in_the_way_of_others(tmp_path: Path) -> None:
    with listening(tmp_path, {}) as server, server.peer() as bad, server.peer() as good:
        assert bad.call("hello").outcome is Outcome.DONE
        before = resident_kib(server)
        bad.peer.setblocking(False)
        sent, slowest = 0, 0.0
        while select.select([], [bad.peer], [], 0.5)[1] and sent < 1 << 20:
            sent += bad.peer.send(b"nonsense\n" * 1000)
            slowest = max(slowest, seconds(lambda: good.call("hello")))
        assert good.call("hello").outcome is Outcome.DONE
        assert resident_kib(server) < before + 2048
    assert slowest < 1


def test_a_mebibyte_without_an_end_is_one_line_of_nonsense(tmp_path: Path) -> None:
    with listening(tmp_path, {}) as server, server.peer() as bad, server.peer() as good:
        with meanwhile(lambda: bad.peer.sendall(b"\xff" * (1 << 20))):
            assert good.call("hello").outcome is Outcome.DONE
        bad.peer.sendall(b"\n")
        assert bad.reply().reason.startswith("not understood: the line is longer than")
        assert bad.call("hello").outcome is Outcome.DONE


def test_a_slow_writer_is_understood_and_is_not_in_the_way_of_others(tmp_path: Path) -> None:
    with listening(tmp_path, {}) as server, server.peer() as slow, server.peer() as quick:
        for byte in b'{"id": 5, "verb": "hello"}\n':
            slow.peer.sendall(bytes([byte]))
            assert quick.call("hello").outcome is Outcome.DONE
        assert (slow.reply().id) == 5


def test_who_leaves_readings_unread_gets_no_more_of_them(tmp_path: Path) -> None:
    big = Done(Outcome.DONE, "", {"text": "x" * (MAX_REPLY - 1000)})
    names = [f"s{number}" for number in range(12)]
    verbs = {"examine": verb(lambda: big, rung=None, reads=True), "hello": verb(lambda: DONE, rung=None)}
    with (
        listening(tmp_path, services(tmp_path, *names), verbs=verbs) as server,
        server.peer() as lazy,
        server.peer() as other,
    ):
        asked = [f'{{"id": {number}, "verb": "examine", "service": "{name}"}}\n' for number, name in enumerate(names)]
        lazy.peer.sendall("".join(asked).encode())  # at once: who is owed something is not read from
        until(lambda: started(server, lazy) and not children(server), "all have been read")
        assert other.call("hello").outcome is Outcome.DONE
        replies = [lazy.reply() for _ in names]
        lazy.ask(99, "examine", names[0])
        assert len(lazy.reply().detail["text"]) == MAX_REPLY - 1000
    refused = [reply for reply in replies if reply.outcome is Outcome.FAILED]
    assert len(names) - len(refused) == MAX_OWED // MAX_REPLY + 1
    assert "bytes of earlier replies are unread, so there is no room for this one" in refused[0].reason


def started(server: Listening, peer: Helper) -> bool:
    """Whether the first reply has come."""
    return bool(select.select([peer.peer], [], [], 0)[0])


def test_who_says_that_it_will_ask_no_more_still_gets_its_replies(tmp_path: Path, gate: Path) -> None:
    verbs = {"nudge": verb(held_by(gate))}
    with (
        listening(tmp_path, services(tmp_path, "a"), verbs=verbs) as server,
        server.peer() as half,
        server.peer() as whole,
    ):
        half.ask(3, "nudge", "a")
        half.peer.shutdown(socket.SHUT_WR)
        until(lambda: children(server) and half.ledger.exists(), "under way")
        used = cpu_ticks(server)
        assert whole.call("nudge", "a").reason == "a nudge of 'a' is under way"
        assert not select.select([half.peer], [], [], 0.3)[0]
        assert cpu_ticks(server) - used <= 5  # 50 ms: it does not spin on the half that is closed
        gate.write_bytes(b"")
        assert half.reply().id == 3
        assert half.peer.recv(1) == b""


def cpu_ticks(server: Listening) -> int:
    """User and system time, without its children's (proc_pid_stat(5))."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


# --- when it leaves ---------------------------------------------------------------------------------------------------


def test_it_leaves_when_nobody_has_been_there_for_a_while_and_the_next_one_finds_who_came_meanwhile(
    tmp_path: Path,
) -> None:
    with listening(tmp_path, {}, idle=0.3) as server:
        with server.peer() as asked:
            assert asked.call("hello").outcome is Outcome.DONE
            assert not server.ends_within(0.8)  # somebody is there
        began = time.monotonic()
        assert server.status() == 0
        assert 0.3 <= time.monotonic() - began < 3


def test_it_does_not_leave_while_something_is_under_way(tmp_path: Path, gate: Path) -> None:
    verbs = {"nudge": verb(held_by(gate, tmp_path / "done"))}
    with listening(tmp_path, services(tmp_path, "a"), idle=0.2, verbs=verbs) as server:
        with server.peer() as asked:
            asked.ask(1, "nudge", "a")
            until(lambda: children(server) and asked.ledger.exists(), "under way")
        assert not server.ends_within(0.6)
        gate.write_bytes(b"")
        assert server.status() == 0
    assert (tmp_path / "done").exists()


def test_it_does_not_leave_while_its_ledger_cannot_be_written(tmp_path: Path) -> None:
    """Else a full disk and an idle exit would buy a new budget."""
    obstacle = tmp_path / "ledger.json.new"
    obstacle.mkdir()
    with listening(tmp_path, services(tmp_path, "a"), idle=0.2, verbs={"nudge": verb(lambda: DONE)}) as server:
        with server.peer() as asked:
            outcomes = [asked.call("nudge", "a").outcome for _ in range(6)]
        assert not server.ends_within(0.8)
        obstacle.rmdir()
        assert server.status() == 0
    assert outcomes == [Outcome.DONE] * 5 + [Outcome.REFUSED]
    assert len(json.loads((tmp_path / "ledger.json").read_text())["uses"]["a"]["nudge"]) == 5
