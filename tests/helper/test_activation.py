"""`python -m watchdog.helper` as systemd starts it: what it takes, what it says when it can't, what it passes on."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.helper.activated import Activated, activated, start_with
from tests.helper.conftest import Start
from tests.helper.nobody import become_nobody
from watchdog.helper import worker
from watchdog.helper.peers import MAX_PEERS
from watchdog.model import Outcome


@pytest.fixture
def place() -> Iterator[Activated]:
    """A socket without a helper behind it."""
    with activated() as made:
        yield made


# --- as it should be --------------------------------------------------------------------------------------------------


def test_it_serves_who_came_before_it_was_there_and_keeps_its_ledger_where_systemd_says(
    place: Activated, start: Start
) -> None:
    victim = start("wait:2")
    place.serve_only({"a": victim.pid})
    with socket.socket(socket.AF_UNIX) as early:
        early.connect(str(place.path))
        early.sendall(b'{"id": 9, "verb": "hello"}\n')
        place.start()
        early.settimeout(20.0)
        assert b'"id":9,"outcome":"done"' in early.recv(65536)
    with place.peer() as asked:
        assert asked.call("nudge", "a", victim).detail["nudged"] == 2
    assert place.ledger.exists()


def test_the_named_user_is_served(place: Activated) -> None:
    place.start("--peer-user", "nobody")

    def hello() -> str:
        become_nobody()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20.0)
            connection.connect(str(place.path))
            connection.sendall(b'{"id": 1, "verb": "hello"}\n')
            return connection.recv(65536).decode()

    place.path.chmod(0o666)
    assert '"outcome":"done"' in worker.run(hello, 20.0).value


def test_it_ends_well_when_it_is_idle_and_the_next_one_goes_on(place: Activated) -> None:
    assert place.start("--idle", "0.2").wait(20) == 0
    place.start()
    with place.peer() as asked:
        assert asked.call("hello").outcome is Outcome.DONE


def test_no_use_is_forgotten_in_an_idle_exit(place: Activated, start: Start) -> None:
    victim = start("wait:1")
    place.serve_only({"a": victim.pid}, burst=2)
    outcomes = []
    for _ in range(3):
        helper = place.start("--idle", "0.1")
        with place.peer() as asked:
            outcomes.append(asked.call("nudge", "a", victim).outcome)
        assert helper.wait(20) == 0
    assert outcomes == [Outcome.DONE, Outcome.DONE, Outcome.REFUSED]


def test_with_eight_peers_it_takes_no_more_than_16_mib(place: Activated, start: Start) -> None:
    """An earlier helper has compiled the modules by then, as an installation does."""
    victim = start("wait:1")
    place.serve_only({f"s{number}": victim.pid for number in range(10)}, burst=100)
    place.start("--idle", "0.1").wait(20)
    helper = place.start("--peer-user", "nobody")
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(place.peer()) for _ in range(MAX_PEERS)]
        outcomes = {
            peer.call(verb, f"s{number}", victim).outcome
            for number, peer in enumerate(peers)
            for verb in ("hello", "nudge", "examine")
        }
        for number, peer in enumerate(peers):  # its transient unit fails for want of a bus here, and D-Bus was loaded
            assert "system bus" in peer.call("restart", f"s{number}", victim).reason
        lines = Path(f"/proc/{helper.pid}/status").read_text().splitlines()
    assert outcomes == {Outcome.DONE}
    assert next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) <= 16 * 1024


# --- as it should not be ----------------------------------------------------------------------------------------------


def failure(place: Activated, *arguments: str) -> str:
    """What a helper says that can't begin."""
    helper = place.start(*arguments)
    said = helper.communicate(timeout=20)[1]
    assert helper.returncode == 1
    return said


def test_a_user_who_does_not_exist_is_told(place: Activated) -> None:
    said = failure(place, "--peer-user", "nosuchuser")
    assert said == (
        "epoll-watchdog helper: there is no user 'nosuchuser', whom --peer-user names: systemd-sysusers makes ours\n"
    )


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, "no socket was passed: give --fd, or start it by epoll-watchdog-helper.socket"),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, "no socket was passed: give --fd"),
    ],
)
def test_without_a_socket_it_says_how_to_start_it(tmp_path: Path, env: dict[str, str], said: str) -> None:
    command = [sys.executable, "-P", "-m", "watchdog.helper", "--config", "/c", "--ledger", str(tmp_path / "ledger")]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 1
    assert said in done.stderr


def test_without_a_place_for_its_ledger_it_says_so(place: Activated) -> None:
    helper = start_with(place.listener.fileno(), "--config", str(place.config))
    assert "there is no place for the ledger: give --ledger, or set StateDirectory=" in helper.communicate()[1]
    assert helper.returncode == 1


@contextlib.contextmanager
def pair() -> Iterator[socket.socket]:
    """One of two connected sockets."""
    one, other = socket.socketpair()
    with one, other:
        yield one


@pytest.mark.parametrize(
    ("kind", "fds", "said"),
    [
        ("file", "1", "what was passed is no socket: Socket operation on non-socket"),
        ("pair", "1", "the socket is no listening Unix stream socket: give ListenStream=/PATH and Accept=no"),
        ("datagram", "1", "the socket is no listening Unix stream socket"),
        ("tcp", "1", "the socket is no listening Unix stream socket"),
        ("pair", "2", "one socket is wanted, '2' were passed: give one ListenStream= alone"),
    ],
)
def test_what_is_passed_must_be_one_listening_unix_socket(tmp_path: Path, kind: str, fds: str, said: str) -> None:
    with contextlib.ExitStack() as stack:
        passed: dict[str, socket.socket | IO[str]] = {
            "file": stack.enter_context((tmp_path / "file").open("w")),
            "pair": stack.enter_context(pair()),
            "datagram": stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)),
            "tcp": stack.enter_context(socket.create_server(("127.0.0.1", 0))),
        }
        ledger = str(tmp_path / "ledger.json")
        helper = start_with(passed[kind].fileno(), "--config", "/c", "--ledger", ledger, env={"LISTEN_FDS": fds})
        assert said in helper.communicate(timeout=20)[1]
    assert helper.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--help"], 0, "usage: python -m watchdog.helper"),
        ([], 2, "--config is missing"),
        (["--config"], 2, "--config takes a value"),
        (["--config="], 2, "--config is missing"),
        (["--config", "/c", "--idle=soon"], 2, "--idle takes a number, not 'soon'"),
        (["--config", "/c", "serve"], 2, "there is no option 'serve'"),
    ],
)
def test_a_wrong_command_line_is_told_with_the_right_one(arguments: list[str], status: int, said: str) -> None:
    command = [sys.executable, "-P", "-m", "watchdog.helper", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status
    assert said in done.stdout + done.stderr
    assert "--ledger PATH" in done.stdout + done.stderr
