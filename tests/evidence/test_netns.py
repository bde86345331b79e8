"""Accept queues out of /proc/PID/net: in a namespace of the test's own, and in ours, where sock_diag tells too."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evidence.listeners import (
    KINDS,
    TCP,
    address_of,
    by_peer,
    client,
    crowd,
    inode_of,
    listen,
    queue_of,
    sleeper,
    ss_listeners,
    ss_unread,
    switches,
)
from watchdog.evidence.addresses import Locals
from watchdog.evidence.netns import listeners_of, streams_of, tcp_queues, tcp_streams, unix_queues
from watchdog.evidence.sockdiag import Listening, SockDiag
from watchdog.evidence.sockdiag_wire import Unreadable
from watchdog.reading import Family, Lack, Queue, Stream

HERE = Path(__file__).parents[2]
HEADINGS = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@dataclass(frozen=True, slots=True)
class Crowd:
    """A process in a network namespace of its own, with a listener of each kind before which three clients wait."""

    pid: int
    namespace: str
    listeners: dict[str, tuple[int, str]]  # by kind: inode and address


@pytest.fixture(scope="module")
def abroad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    """Made with ip(8), and removed whatever happens."""
    name = f"epoll-watchdog-{os.getpid()}-{secrets.token_hex(4)}"
    home = str(tmp_path_factory.mktemp("n"))
    with ExitStack() as stack:
        ip("netns", "add", name)
        stack.callback(ip, "netns", "delete", name)
        ip("-netns", name, "link", "set", "lo", "up")
        argv = ["ip", "netns", "exec", name, sys.executable, "-m", "tests.evidence.listeners", home]
        process = subprocess.Popen(argv, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.enter_context(process)
        stack.callback(process.kill)
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield Crowd(process.pid, name, {kind: (inode, address) for kind, (inode, address) in told.items()})


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a path short enough for a Unix socket."""
    return tmp_path_factory.mktemp("s")


# --- another namespace ------------------------------------------------------------------------------------------------


def test_the_queues_of_another_namespace_are_told_as_ss_tells_them_there(abroad: Crowd) -> None:
    listening = listeners_of(abroad.pid)
    told = ss_listeners("-N", abroad.namespace)
    expected = {
        kind: Queue(inode, Family.TCP if kind in TCP else Family.UNIX, address, 3, None)
        for kind, (inode, address) in abroad.listeners.items()
    }
    assert set(listening.queues) == set(expected.values())
    assert not listening.lacks
    assert {queue.inode: (queue.length, queue.address) for queue in listening.queues} == {
        inode: (length, address) for inode, (length, _, address) in told.items()
    }


def test_the_unread_bytes_of_another_namespace_are_told_of_tcp_and_of_unix_as_a_lack(abroad: Crowd) -> None:
    connected = streams_of(abroad.pid, listeners_of(abroad.pid).queues)
    ports = [int(address.rpartition(":")[2]) for kind, (_, address) in abroad.listeners.items() if kind in TCP]
    told = {peer: unread for port in ports for peer, unread in ss_unread(port, "-N", abroad.namespace).items()}
    assert {stream.peer: stream.unread for stream in connected.streams} == told
    assert [stream.inode for stream in connected.streams] == [0] * 3 * len(TCP)
    assert [(lack.what, lack.reason) for lack in connected.lacks] == [
        (f"Unix connections of process {abroad.pid}", "/proc tells no unread bytes of them")
    ]


def test_our_own_dump_has_nothing_of_another_namespace(abroad: Crowd) -> None:
    with closing(SockDiag()) as diag:
        ours = {queue.inode for queue in diag.listeners().queues}
    assert not ours & {inode for inode, _ in abroad.listeners.values()}


def test_anybody_may_read_it(abroad: Crowd) -> None:
    os.seteuid(65534)
    try:
        listening = listeners_of(abroad.pid)
        connected = streams_of(abroad.pid, listening.queues)
    finally:
        os.seteuid(0)
    assert len(listening.queues) == len(KINDS)
    assert len(connected.streams) == 3 * len(TCP)
    assert not listening.lacks


def test_two_hundred_readings_of_proc_wake_nobody(home: Path) -> None:
    with crowd(home) as listeners, sleeper(list(listeners.values())) as tid:
        before = switches(tid)
        for _ in range(200):
            streams_of(os.getpid(), listeners_of(os.getpid()).queues)
        assert switches(tid) == before


# --- our own, where sock_diag tells as well ---------------------------------------------------------------------------


def test_what_identifies_a_waiting_unix_connection_holds_in_every_state(home: Path) -> None:
    with closing(SockDiag()) as diag, ExitStack() as stack:
        listener = stack.enter_context(closing(listen("unix", home, backlog=3)))
        first, *_others = [stack.enter_context(closing(client(listener, b"hello"))) for _ in range(4)]
        refused = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        refused.setblocking(False)
        assert refused.connect_ex(listener.getsockname())
        lengths = [both(diag, listener)]
        first.close()
        lengths.append(both(diag, listener))
        stack.enter_context(closing(listener.accept()[0]))
        lengths.append(both(diag, listener))
        gone = stack.enter_context(closing(listener.accept()[0]))
        lengths.append(both(diag, listener))
        gone.close()
        lengths.append(both(diag, listener))
    assert lengths == [(4, 4), (4, 4), (3, 3), (2, 2), (2, 2)]


def test_both_roads_tell_the_same_of_many_listeners_and_connections(home: Path) -> None:
    with crowd(home) as listeners, closing(SockDiag()) as diag, ExitStack() as stack:
        many = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(200)]
        for listener in many:
            stack.enter_context(closing(client(listener, b"hello")))
        sockets = [*many, *listeners.values()]
        theirs, ours = listeners_of(os.getpid()), diag.listeners()
        assert shorn(theirs, sockets) == shorn(ours, sockets)
        queues = [queue_of(ours, listener) for listener in many]
        by_proc, by_diag = streams_of(os.getpid(), queues), diag.streams(queues, ())
        assert by_peer(by_proc) == by_peer(by_diag)
    assert len(by_proc.streams) == 200


def test_two_unix_listeners_of_one_name_are_told_only_while_nobody_waits(home: Path) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(closing(listen("unix", home)))
        (home / "unix.sock").unlink()
        second = stack.enter_context(closing(listen("unix", home)))
        idle = listeners_of(os.getpid())
        assert [queue_of(idle, listener).length for listener in (first, second)] == [0, 0]
        stack.enter_context(closing(client(second)))
        busy = listeners_of(os.getpid())
        address = address_of(second)
        assert not {inode_of(first), inode_of(second)} & {queue.inode for queue in busy.queues}
    assert busy.lacks == (
        Lack(
            f"the accept queue of {address}",
            "2 listeners have this name, and /proc does not tell at which of them one waits",
        ),
    )


def test_a_process_that_has_ended_is_a_lack_of_both_families() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    listening = listeners_of(process.pid)
    assert listening == Listening(
        (),
        (
            Lack(f"TCP listeners of process {process.pid}", "No such file or directory"),
            Lack(f"Unix listeners of process {process.pid}", "No such file or directory"),
        ),
    )


def test_a_kernel_without_ipv6_lacks_nothing(tmp_path: Path) -> None:
    net = tmp_path / "1" / "net"
    net.mkdir(parents=True)
    (net / "tcp").write_bytes(HEADINGS + line(0x0A, 2, 5))
    (net / "unix").write_bytes(b"")
    assert listeners_of(1, str(tmp_path)) == Listening((Queue(5, Family.TCP, "127.0.0.1:80", 2, None),))


def test_a_garbled_file_is_a_lack_and_costs_the_others_nothing(tmp_path: Path) -> None:
    net = tmp_path / "1" / "net"
    net.mkdir(parents=True)
    (net / "tcp").write_bytes(HEADINGS + b"   0: 0100007F:00\n")
    (net / "tcp6").write_bytes(HEADINGS)
    (net / "unix").write_bytes(unix_line(b"00010000", b"01", 7, b"/run/x"))
    assert listeners_of(1, str(tmp_path)) == Listening(
        (Queue(7, Family.UNIX, "/run/x", 0, None),),
        (Lack("TCP listeners of process 1", "a line of /proc/PID/net/tcp is garbled"),),
    )


# --- parsing ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 1 << 32)), max_size=5, unique_by=lambda each: each[1]))
def test_every_tcp_listener_is_told_and_nothing_behind_them_is_read(listeners: list[tuple[int, int]]) -> None:
    text = [HEADINGS, *(line(0x0A, length, inode) for length, inode in listeners), line(1, 9, 9)]
    lines = iter([*text, b"never read"])
    assert list(tcp_queues(lines)) == [
        Queue(inode, Family.TCP, "127.0.0.1:80", length, None) for length, inode in listeners
    ]
    assert list(lines) == [b"never read"]


@given(st.lists(st.tuples(st.sampled_from([1, 2, 4, 6, 8]), st.integers(0, 1 << 31), st.integers(0, 1 << 32))))
def test_connections_are_told_in_the_states_in_which_bytes_may_wait(lines: list[tuple[int, int, int]]) -> None:
    text = [HEADINGS, *(line(state, unread, inode) for state, unread, inode in lines)]
    expected = [
        Stream(inode, Family.TCP, "127.0.0.1:80", "127.0.0.2:8080", unread if state == 1 else max(0, unread - 1))
        for state, unread, inode in lines
        if state in (1, 8)
    ]
    assert list(tcp_streams(text, at("127.0.0.1:80"))) == expected
    assert list(tcp_streams(text, at("0.0.0.0:80"))) == expected
    assert not list(tcp_streams(text, at("127.0.0.2:80", "[::]:80", "127.0.0.1:8080")))


@given(st.lists(st.binary(max_size=200) | st.text("0123456789ABCDEF: ", max_size=200).map(str.encode), max_size=5))
def test_whatever_the_lines_of_tcp_hold_they_are_read_or_unreadable(lines: list[bytes]) -> None:
    assert reads([HEADINGS, *lines])
    assert reads([HEADINGS, line(0x0A, 1, 1)[:-30], *lines])


@given(
    listeners=st.lists(st.sampled_from([b"/a", b"/b c", b"@d", b"/e@"]), unique=True),
    waiting=st.lists(st.sampled_from([b"/a", b"/b c", b"@d", b"/e@", b"/other"])),
    others=st.lists(
        st.tuples(st.sampled_from([b"01", b"03"]), st.integers(1, 99), st.sampled_from([b"/a", b"@d", b""]))
    ),
)
def test_of_unix_sockets_those_that_wait_are_counted_by_name(
    listeners: list[bytes], waiting: list[bytes], others: list[tuple[bytes, int, bytes]]
) -> None:
    text = b"Num       RefCount Protocol Flags    Type St Inode Path\n"
    text += b"".join(unix_line(b"00010000", b"01", 100 + number, name) for number, name in enumerate(listeners))
    text += b"".join(unix_line(b"00000000", b"02", 0, name) for name in waiting)
    text += b"".join(unix_line(b"00000000", *other) for other in others)
    assert unix_queues(text) == Listening(
        tuple(
            Queue(100 + number, Family.UNIX, name.decode(), waiting.count(name), None)
            for number, name in enumerate(listeners)
        )
    )


@given(st.binary(max_size=300) | st.text("0123456789abcdef: /@\n", max_size=300).map(str.encode))
def test_whatever_the_file_of_unix_sockets_holds_it_is_read(text: bytes) -> None:
    assert unix_queues(text + unix_line(b"00010000", b"01", 5, b"/a")[: len(text)]).lacks == ()


# --- what the tests stand on ------------------------------------------------------------------------------------------


def ip(*arguments: str) -> None:
    """ip(8). Raises `CalledProcessError`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


def both(diag: SockDiag, listener: socket.socket) -> tuple[int, int]:
    """How many wait: by /proc and by sock_diag."""
    return queue_of(listeners_of(os.getpid()), listener).length, queue_of(diag.listeners(), listener).length


def shorn(listening: Listening, sockets: list[socket.socket]) -> set[tuple[int, str, int]]:
    """What both roads tell of these sockets."""
    inodes = {inode_of(sock) for sock in sockets}
    return {(queue.inode, queue.address, queue.length) for queue in listening.queues if queue.inode in inodes}


def line(state: int, received: int, inode: int) -> bytes:
    """A line of /proc/net/tcp on this machine: 127.0.0.1:80, 127.0.0.2:8080."""
    ends = [f"{int.from_bytes(bytes(host), sys.byteorder):08X}" for host in ([127, 0, 0, 1], [127, 0, 0, 2])]
    text = (
        f"   7: {ends[0]}:0050 {ends[1]}:1F90 {state:02X} 00000000:{received:08X} 00:00000000 00000000  1000        0 "
    )
    return f"{text}{inode} 1 0000000000000000 100 0 0 10 0\n".encode()


def unix_line(flags: bytes, state: bytes, inode: int, name: bytes) -> bytes:
    """A line of /proc/net/unix; a socket without a name has nothing behind its inode."""
    shown = b" " + name if name else b""
    return b"00000000c57d7a09: 00000002 00000000 %s 0001 %s %5d%s\n" % (flags, state, inode, shown)


def at(*addresses: str) -> Locals:
    """Of TCP listeners at these addresses."""
    return Locals(Queue(1, Family.TCP, address, 0, None) for address in addresses)


def reads(lines: list[bytes]) -> bool:
    """Whether the lines are read, or refused by the one error that they may be refused by."""
    with contextlib.suppress(Unreadable):
        list(tcp_queues(lines))
    with contextlib.suppress(Unreadable):
        list(tcp_streams(lines, at("0.0.0.0:0")))
    return True
