"""sock_diag, asked about real sockets and compared with ss(8) and pyroute2; and what a kernel might answer instead."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import resource
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2 import DiagSocket

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
from tests.servers import until
from watchdog.evidence import sockdiag, sockdiag_wire
from watchdog.evidence.addresses import Locals
from watchdog.evidence.sockdiag import Listening, SockDiag, open_netlink
from watchdog.evidence.sockdiag_wire import Unreadable, ports_program, take, tcp_request, unix_request
from watchdog.reading import Family, Queue, Stream

Answer = Callable[[bytes], list[bytes]]


@pytest.fixture
def diag() -> Iterator[SockDiag]:
    """Our own reader, closed at the end."""
    reader = SockDiag()
    yield reader
    reader.close()


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a path short enough for a Unix socket."""
    return tmp_path_factory.mktemp("s")


# --- accept queues ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_listener_is_told_as_ss_and_pyroute2_tell_it(diag: SockDiag, home: Path, kind: str) -> None:
    with crowd(home) as listeners:
        listener = listeners[kind]
        ours = queue_of(diag.listeners(), listener)
        assert ours == Queue(
            inode_of(listener),
            Family.TCP if kind in TCP else Family.UNIX,
            address_of(listener),
            length=3,
            limit=5,
        )
        assert ss_listeners()[inode_of(listener)] == (3, 5, address_of(listener))
        assert pyroute2_listeners()[inode_of(listener)] == (3, 5)


@pytest.mark.parametrize("kind", ["v4", "unix"])
def test_a_full_backlog_is_told_as_full_until_one_is_accepted(diag: SockDiag, home: Path, kind: str) -> None:
    with closing(listen(kind, home, backlog=2)) as listener, ExitStack() as clients:
        for _ in range(3):
            clients.enter_context(closing(client(listener)))
        full = queue_of(diag.listeners(), listener)
        listener.accept()[0].close()
        after = queue_of(diag.listeners(), listener)
    assert (full.length, full.limit, full.full) == (3, 2, True)
    assert (after.length, after.limit, after.full) == (2, 2, False)


def test_listeners_that_share_a_port_have_a_queue_each(diag: SockDiag) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=20, reuse_port=True))
        second = stack.enter_context(socket.create_server(first.getsockname(), backlog=20, reuse_port=True))
        for _ in range(12):
            stack.enter_context(closing(client(first)))
        listening = diag.listeners()
        ours = [queue_of(listening, first).length, queue_of(listening, second).length]
        told = ss_listeners()
        assert ours == [told[inode_of(first)][0], told[inode_of(second)][0]]
    assert sum(ours) == 12


def test_a_connection_that_its_client_has_closed_still_waits(diag: SockDiag, home: Path) -> None:
    with crowd(home, waiting=0) as listeners:
        for listener in listeners.values():
            client(listener).close()
        listening = diag.listeners()
        assert {kind: queue_of(listening, listener).length for kind, listener in listeners.items()} == dict.fromkeys(
            KINDS, 1
        )


def test_a_socket_that_does_not_listen_is_no_listener(diag: SockDiag) -> None:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        assert inode_of(bound) not in {queue.inode for queue in diag.listeners().queues}


def test_more_listeners_than_one_datagram_holds_are_all_told(diag: SockDiag) -> None:
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(600)]
        inodes = [queue.inode for queue in diag.listeners().queues]
        assert {inode_of(listener) for listener in made} <= set(inodes)
    assert len(inodes) == len(set(inodes))


def test_a_name_that_is_no_text_is_told_in_one_line(diag: SockDiag, home: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(os.fsencode(home) + b"/a\nb\xff")
        listener.listen()
        assert queue_of(diag.listeners(), listener).address == f"{home}/a\\nb\\\\xff"


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TCP)
def test_unread_bytes_are_told_before_and_after_a_connection_is_accepted(diag: SockDiag, home: Path, kind: str) -> None:
    with closing(listen(kind, home)) as listener, ExitStack() as stack:
        first, second = (stack.enter_context(closing(client(listener, data))) for data in (b"hello", b"hello, you"))
        accepted = stack.enter_context(closing(listener.accept()[0]))
        streams = by_peer(diag.streams([queue_of(diag.listeners(), listener)], ()))
        told = ss_unread(listener.getsockname()[1])
        peers = [written(sock.getsockname(), kind) for sock in (first, second)]
        assert [(streams[peer].inode, streams[peer].unread) for peer in peers] == [(inode_of(accepted), 5), (0, 10)]
        assert {peer: stream.unread for peer, stream in streams.items()} == told
        assert all(stream.local == written(first.getpeername(), kind) for stream in streams.values())


def test_a_fin_is_no_unread_byte(diag: SockDiag, home: Path) -> None:
    with closing(listen("v4", home)) as listener:
        client(listener, b"hello").close()
        client(listener).close()
        ours = diag.streams([queue_of(diag.listeners(), listener)], ()).streams
        assert sorted(ss_unread(listener.getsockname()[1]).values()) == [1, 6]
    assert {stream.unread for stream in ours} == {0, 5}


@pytest.mark.parametrize("kind", ["unix", "seqpacket", "abstract"])
def test_of_a_unix_connection_that_waits_the_client_is_told_and_it_is_found_again(
    diag: SockDiag, home: Path, kind: str
) -> None:
    with closing(listen(kind, home)) as listener, ExitStack() as stack:
        one = stack.enter_context(closing(client(listener, b"hello")))
        client(listener).close()  # nobody's by now: only the queue counts it
        queue = queue_of(diag.listeners(), listener)
        assert queue.length == 2
        peer = f"inode {inode_of(one)}"
        assert diag.streams([queue], ()).streams == (Stream(0, Family.UNIX, queue.address, peer, None),)
        taken = stack.enter_context(closing(listener.accept()[0]))
        assert diag.streams([queue], ()).streams == (Stream(inode_of(taken), Family.UNIX, queue.address, peer, 5),)


def test_unix_connections_are_found_by_inode_too(diag: SockDiag) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with closing(ours), closing(theirs):
        theirs.send(b"hello")
        (stream,) = diag.streams((), {inode_of(ours)}).streams
        assert stream == Stream(inode_of(ours), Family.UNIX, "", f"inode {inode_of(theirs)}", 5)


def test_another_listener_of_the_same_port_keeps_its_connections(diag: SockDiag) -> None:
    with ExitStack() as stack:
        ours = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        other = stack.enter_context(socket.create_server(("127.0.0.2", ours.getsockname()[1])))
        mine, theirs = (stack.enter_context(closing(client(listener))) for listener in (ours, other))
        streams = diag.streams([queue_of(diag.listeners(), ours)], ()).streams
        assert [stream.peer for stream in streams] == [written(mine.getsockname())]
        assert written(theirs.getsockname()) not in by_peer(diag.streams([queue_of(diag.listeners(), ours)], ()))


def test_the_kernel_picks_exactly_the_ports_that_are_asked_for(diag: SockDiag) -> None:
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(60)]
        made.sort(key=lambda listener: int(listener.getsockname()[1]))
        clients = [stack.enter_context(closing(client(listener))) for listener in made]
        wanted = diag.listeners()
        streams = diag.streams([queue_of(wanted, listener) for listener in made[::2]], ())
        assert set(by_peer(streams)) == {written(sock.getsockname()) for sock in clients[::2]}
    assert not streams.lacks


@given(st.sets(st.integers(0, 65535), min_size=1, max_size=12), st.integers(0, 65535))
def test_the_filter_takes_the_ports_asked_for_and_no_other(ports: set[int], other: int) -> None:
    program = ports_program(sorted(ports))
    taken = {port for port in (*ports, other, *(port + 1 for port in ports)) if runs(program, port)}
    assert taken == {port for port in (*ports, other, *(port + 1 for port in ports)) if port in ports}


def test_a_filter_of_a_thousand_ports_passes_the_kernels_audit() -> None:
    listeners = [Queue(0, Family.TCP, f"127.0.0.1:{port}", 0, 5) for port in range(1, 2001, 2)]
    with closing(SockDiag()) as reader:
        assert not reader.streams(listeners, ()).lacks


def test_too_many_connections_are_told_in_part(diag: SockDiag, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener, ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(closing(client(listener)))
        queues = [queue_of(diag.listeners(), listener)]
        monkeypatch.setattr(sockdiag, "MOST", 10)
        many = diag.streams(queues, ())
        monkeypatch.setattr(sockdiag, "MOST", 4096)
        assert len(diag.streams(queues, ()).streams) == 50
    assert len(many.streams) == 10
    assert [(lack.what, lack.reason) for lack in many.lacks] == [
        ("TCP connections", "there are more than 10; no more were read")
    ]


# --- who may ask, and what it does to others --------------------------------------------------------------------------


def test_nobody_may_read_all_the_same(home: Path) -> None:
    with crowd(home) as listeners, as_nobody(), closing(SockDiag()) as reader:
        listening = reader.listeners()
        queues = [queue_of(listening, listener) for listener in listeners.values()]
        connected = reader.streams(queues, ())
    assert [queue.length for queue in queues] == [3] * len(KINDS)
    assert len(connected.streams) == 3 * len(KINDS)
    assert not (*listening.lacks, *connected.lacks)


def test_two_hundred_readings_wake_nobody(diag: SockDiag, home: Path) -> None:
    with crowd(home) as listeners, sleeper(list(listeners.values())) as tid:
        before = switches(tid)
        for _ in range(200):
            queues = diag.listeners().queues
            diag.streams(queues, ())
        assert switches(tid) == before
        with closing(client(listeners["v4"])):
            until(lambda: switches(tid) != before, 5, "a connection, which does wake it")


def test_a_reading_of_all_queues_costs_less_than_a_millisecond(diag: SockDiag, home: Path) -> None:
    with crowd(home):
        took = [cpu(diag.listeners) for _ in range(300)]
    print(f"listeners(): median {statistics.median(took) * 1e6:.0f} µs of CPU")
    assert statistics.median(took) < 1e-3


def test_the_socket_is_not_inherited_and_goes_when_it_is_closed(diag: SockDiag) -> None:
    before = descriptors()
    diag.listeners()
    (made,) = descriptors() - before
    assert not os.get_inheritable(made)
    diag.close()
    assert descriptors() == before


# --- faults -----------------------------------------------------------------------------------------------------------


def test_without_a_descriptor_left_both_families_lack_and_are_read_once_there_is_one(diag: SockDiag) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        listening = diag.listeners()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    reason = "no answer by netlink: Too many open files"
    assert not listening.queues
    assert [(lack.what, lack.reason) for lack in listening.lacks] == [
        ("TCP listeners", reason),
        ("Unix listeners", reason),
    ]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert queue_of(diag.listeners(), listener).length == 0


def test_a_kernel_without_unix_diag_still_tells_of_tcp_and_is_not_asked_again_at_once(home: Path) -> None:
    asked: list[bytes] = []

    def answer(request: bytes) -> list[bytes]:
        asked.append(request)
        return asked_the_kernel(request) if is_tcp(request) else [error(request, errno.ENOENT)]

    with crowd(home) as listeners, Kernel(answer) as kernel, closing(SockDiag(kernel.connect)) as reader:
        listening = reader.listeners()
        again = reader.listeners()
        assert [queue_of(listening, listeners[kind]).length for kind in TCP] == [3, 3, 3, 3]
    assert [(lack.what, lack.reason) for lack in listening.lacks] == [
        ("Unix listeners", "the kernel has no unix_diag: No such file or directory")
    ]
    assert again.lacks == listening.lacks
    assert [is_tcp(request) for request in asked] == [True, False, True]


def test_a_refusal_of_one_family_is_told_and_the_other_is_read() -> None:
    def answer(request: bytes) -> list[bytes]:
        return [error(request, errno.EPERM)] if is_tcp(request) else asked_the_kernel(request)

    with Kernel(answer) as kernel, closing(SockDiag(kernel.connect)) as reader:
        listening = reader.listeners()
    assert [(lack.what, lack.reason) for lack in listening.lacks] == [("TCP listeners", "Operation not permitted")]


def test_an_error_at_the_end_of_a_dump_is_no_end_of_it() -> None:
    def answer(request: bytes) -> list[bytes]:
        return [message(request, sockdiag_wire.DONE, struct.pack("=i", -errno.ENOMEM))]

    assert reasons(answer) == {"Cannot allocate memory"}


def test_a_torn_dump_is_read_again() -> None:
    torn: list[bytes] = []

    def answer(request: bytes) -> list[bytes]:
        first = not torn
        torn.append(request)
        return [with_flags(each, 0x12) for each in asked_the_kernel(request)] if first else asked_the_kernel(request)

    server = socket.create_server(("127.0.0.1", 0))
    with server as listener, Kernel(answer) as kernel, closing(SockDiag(kernel.connect)) as reader:
        listening = reader.listeners()
        assert queue_of(listening, listener).length == 0
    assert not listening.lacks
    assert [is_tcp(request) for request in torn] == [True, True, False]


def test_dumps_that_are_torn_each_time_are_a_lack() -> None:
    def answer(request: bytes) -> list[bytes]:
        return [with_flags(each, 0x12) for each in asked_the_kernel(request)]

    assert reasons(answer) == {"the table of sockets changed under each of 3 readings"}


def test_a_kernel_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockdiag, "ANSWER_WITHIN_S", 0.05)
    began = time.monotonic()
    assert reasons(lambda _request: []) == {"the kernel did not answer within 0.05 s"}
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("port", "reason"), [(80, "there are more than 4096; no more were read"), (81, "the kernel did not answer within")]
)
def test_an_answer_without_an_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch, port: int, reason: str) -> None:
    monkeypatch.setattr(sockdiag, "ANSWER_WITHIN_S", 0.5)

    def answer(request: bytes) -> Iterator[bytes]:
        yield from itertools.repeat(100 * padded(message(request, sockdiag_wire.TCPDIAG_GETSOCK, tcp_body(80))))

    with Kernel(answer) as kernel, closing(SockDiag(kernel.connect)) as reader:
        (lack,) = reader.streams([Queue(1, Family.TCP, f"127.0.0.1:{port}", 0, 5)], ()).lacks[:1]
    assert lack.reason.startswith(reason)


def test_garbage_is_a_lack_and_what_came_behind_it_confuses_no_later_reading() -> None:
    garbage = [b"\0" * 40]

    def answer(request: bytes) -> list[bytes]:
        return [*(garbage.pop() for _ in garbage[:1]), *asked_the_kernel(request)]

    with Kernel(answer) as kernel, closing(SockDiag(kernel.connect)) as reader:
        first, second = reader.listeners(), reader.listeners()
    assert [(lack.what, lack.reason) for lack in first.lacks] == [("TCP listeners", "the kernel's answer is garbled")]
    assert not second.lacks


ANY = Locals([Queue(1, Family.TCP, "0.0.0.0:0", 0, 0), Queue(1, Family.UNIX, "", 0, 0)])
READS: dict[str, sockdiag_wire.Read[Any]] = {
    "tcp listeners": sockdiag_wire.tcp_queue,
    "tcp connections": sockdiag_wire.tcp_stream(ANY),
    "unix listeners": sockdiag_wire.unix_queue,
    "unix connections": sockdiag_wire.unix_stream(ANY, range(1 << 32)),
    "waiting unix connections": sockdiag_wire.unix_waiting(ANY),
}


SHOWN = sockdiag_wire.SHOW_NAME | sockdiag_wire.SHOW_PEER | sockdiag_wire.SHOW_ICONS | sockdiag_wire.SHOW_RQLEN
REQUESTS = {
    "tcp listeners": tcp_request(7, sockdiag_wire.LISTEN),
    "tcp connections": tcp_request(7, sockdiag_wire.ESTABLISHED),
    "unix listeners": unix_request(7, sockdiag_wire.LISTEN, SHOWN),
    "unix connections": unix_request(7, sockdiag_wire.ESTABLISHED, SHOWN),
    "waiting unix connections": unix_request(
        7, sockdiag_wire.LISTEN, sockdiag_wire.SHOW_NAME | sockdiag_wire.SHOW_ICONS
    ),
}


@pytest.mark.parametrize("what", READS)
@given(bodies=st.lists(st.binary(max_size=120), max_size=4), tail=st.binary(max_size=20), kind=st.integers(0, 25))
def test_whatever_is_answered_is_read_or_unreadable(what: str, bodies: list[bytes], tail: bytes, kind: int) -> None:
    request = tcp_request(7, sockdiag_wire.LISTEN)
    assert reads(b"".join(padded(message(request, kind, body)) for body in bodies) + tail, what)


@pytest.mark.parametrize("what", READS)
@given(at=st.floats(0, 1), byte=st.integers(0, 255), cut=st.floats(0, 1))
def test_a_real_answer_with_a_wrong_byte_or_its_end_cut_off_is_read_or_unreadable(
    what: str, at: float, byte: int, cut: float
) -> None:
    answer = bytearray(real_answer(what))
    answer[int(at * (len(answer) - 1))] = byte
    assert reads(bytes(answer[: int(cut * len(answer))]), what)


# --- what the tests stand on ------------------------------------------------------------------------------------------


class Kernel:
    """Something that answers as a kernel might, at the other end of a socket pair."""

    def __init__(self, answer: Callable[[bytes], list[bytes] | Iterator[bytes]]) -> None:
        self._answer = answer
        self._stack = ExitStack()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def connect(self) -> socket.socket:
        """What `open_netlink` is for the real one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        thread = threading.Thread(target=self._serve, args=(theirs,))
        thread.start()
        self._stack.callback(thread.join, 10)
        self._stack.callback(ours.close)
        return ours

    def _serve(self, theirs: socket.socket) -> None:
        with theirs:
            try:
                while request := theirs.recv(65536):
                    for datagram in self._answer(request):
                        theirs.send(datagram)
            except (BrokenPipeError, ConnectionResetError):
                return


def asked_the_kernel(request: bytes) -> list[bytes]:
    """What the real kernel answers."""
    with closing(open_netlink()) as sock:
        sock.send(request)
        found = [sock.recv(65536)]
        while found[-1][4:6] != struct.pack("=H", sockdiag_wire.DONE):
            found.append(sock.recv(65536))
        return found


def is_tcp(request: bytes) -> bool:
    """Which family is asked for."""
    return bool(request[4] == sockdiag_wire.TCPDIAG_GETSOCK)


def message(request: bytes, kind: int, body: bytes) -> bytes:
    """A message in answer to the request."""
    (sequence,) = struct.unpack_from("=I", request, 8)
    return struct.pack("=IHHII", 16 + len(body), kind, 2, sequence, 0) + body


def tcp_body(port: int) -> bytes:
    """An inet_diag_msg: a connection to 127.0.0.1."""
    ends = struct.pack("=16s16s12s", bytes([127, 0, 0, 1]), bytes([127, 0, 0, 1]), b"")
    return (
        struct.pack("=BBBBHH", socket.AF_INET, 1, 0, 0, socket.htons(port), 99) + ends + struct.pack("=IIIII", *[0] * 5)
    )


def error(request: bytes, number: int) -> bytes:
    """NLMSG_ERROR."""
    return message(request, sockdiag_wire.ERROR, struct.pack("=i", -number) + request[:16])


def with_flags(datagram: bytes, flags: int) -> bytes:
    """The datagram with other flags in its first message."""
    return datagram[:6] + struct.pack("=H", flags) + datagram[8:]


def padded(text: bytes) -> bytes:
    """To a multiple of four bytes."""
    return text + b"\0" * (-len(text) % 4)


def reasons(answer: Answer) -> set[str]:
    """Why both families lack, where the kernel answers so."""
    with Kernel(answer) as kernel, closing(SockDiag(kernel.connect)) as reader:
        listening: Listening = reader.listeners()
    assert [lack.what for lack in listening.lacks] == ["TCP listeners", "Unix listeners"]
    return {lack.reason for lack in listening.lacks}


def reads(datagram: bytes, what: str) -> bool:
    """Whether it is read, or refused by the one error that it may be refused by; anything else is raised."""
    try:
        take(datagram, 7, READS[what], [])
    except Unreadable as unreadable:
        return "\n" not in str(unreadable)
    return True


@functools.cache
def real_answer(what: str) -> bytes:
    """A datagram of the kernel's, with sequence number 7."""
    with ExitStack() as stack:
        for kind in ("v4", "v6", "abstract"):
            listener = stack.enter_context(closing(listen(kind, Path("real"))))
            stack.enter_context(closing(client(listener, b"hello")))
            stack.enter_context(closing(client(listener, b"hello")))
            stack.enter_context(closing(listener.accept()[0]))
        return asked_the_kernel(REQUESTS[what])[0]


def runs(program: bytes, port: int) -> bool:
    """What the kernel makes of a filter (inet_diag_bc_run() in net/ipv4/inet_diag.c)."""
    at = 0
    while at < len(program):
        code, yes, no = struct.unpack_from("=BBH", program, at)
        against = struct.unpack_from("=xxH", program, at + 4)[0] if code != sockdiag_wire.JUMP else 0
        holds = {
            sockdiag_wire.JUMP: False,
            sockdiag_wire.S_GE: port >= against,
            sockdiag_wire.S_LE: port <= against,
        }[code]
        at += yes if holds else no
    return at == len(program)


def pyroute2_listeners() -> dict[int, tuple[int, int]]:
    """What pyroute2 tells: by inode, rqueue and wqueue."""
    with DiagSocket() as other:
        other.bind()
        tcp = [
            (told["idiag_inode"], (told["idiag_rqueue"], told["idiag_wqueue"]))
            for family in (socket.AF_INET, socket.AF_INET6)
            for told in other.get_sock_stats(family=family, states=sockdiag_wire.LISTEN)
        ]
        show = sockdiag_wire.SHOW_NAME | sockdiag_wire.SHOW_RQLEN
        unix = [
            (told["udiag_ino"], (lengths["udiag_rqueue"], lengths["udiag_wqueue"]))
            for told in other.get_sock_stats(family=socket.AF_UNIX, states=sockdiag_wire.LISTEN, show=show)
            for lengths in [told.get_attr("UNIX_DIAG_RQLEN")]
        ]
    return dict([*tcp, *unix])


def written(name: tuple[str, int], kind: str = "v4") -> str:
    """An address as `Stream` has it; of a dual-stack listener's connections by IPv4 too."""
    host, port, *_ = name
    if kind == "dual":
        return f"[::ffff:{host}]:{port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without any privilege: changing the effective uid from 0 drops the capabilities too (capabilities(7))."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def cpu(call: Callable[[], object]) -> float:
    """The CPU time that a call takes this thread, in s."""
    began = time.thread_time()
    call()
    return time.thread_time() - began


def descriptors() -> set[int]:
    """Those that this process has open and that stay so."""
    return {int(link.name) for link in list(Path("/proc/self/fd").iterdir()) if link.is_symlink()}
