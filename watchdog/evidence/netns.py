"""Accept queues of a process in another network namespace, out of /proc/PID/net, which anybody may read.

Asking that namespace itself (`sockdiag.py`) would need setns(2) and with it CAP_SYS_ADMIN. What these files lack:

- No backlog is told: `limit` is None.
- /proc/PID/net/unix has no queue. A connection that was not accepted has a line of its own with the listener's type and
  name, state 02 and inode 0, and keeps it when its client closes; a client that still waits before a full backlog has
  inode and no name. Counting these lines gave what sock_diag told, in all states that the tests make [M]. Where two
  listeners have one name (a path of two mount namespaces, say), nobody tells at which of them a connection waits.
- No unread bytes of Unix connections.
- A path may hold a line feed: whoever may bind sockets in that namespace can forge lines of /proc/PID/net/unix. Not so
  of TCP.

TCP's listeners come first in their file, and the rest is not read for them. Yet the kernel fills a page before it
answers, so it walks its table of connections once a file: with 262,144 slots `listeners_of` takes 3 ms, even idle [M].
`streams_of` reads all connections: 65 ms for 19,000 [M].

Sources: proc_pid_net(5), Documentation/networking/proc_net_tcp.rst, unix_seq_show() in net/unix/af_unix.c,
get_tcp4_sock() and tcp_seq_start() in net/ipv4/tcp_ipv4.c, get_tcp6_sock() in net/ipv6/tcp_ipv6.c.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple, TypeVar

from watchdog.evidence.addresses import Locals, tcp_address, unix_address
from watchdog.evidence.sockdiag import MOST, Connected, Listening
from watchdog.evidence.sockdiag_wire import Unreadable, unread_bytes
from watchdog.reading import Family, Lack, Queue, Stream
from watchdog.target import contents

T = TypeVar("T")

PAGE, LONGEST_LINE = 4096, 512  # of tcp6: 200
TCP_ESTABLISHED, TCP_CLOSE_WAIT, TCP_LISTEN = 1, 8, 10
_LISTENS = b"00010000"  # __SO_ACCEPTCON
_WAITING = (b"02", b"0")  # SS_CONNECTING without an inode
# Num: RefCount Protocol Flags Type St Inode Path; a stream (0001) or a seqpacket (0005) socket that has a name.
_UNIX_LINE = re.compile(
    rb"^[0-9a-f]+: [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{8}) (0001|0005) (0[0-4]) +([0-9]+) (.+)$", re.MULTILINE
)


class TcpLine(NamedTuple):
    """What is used of a line of /proc/PID/net/tcp."""

    local: bytes
    peer: bytes
    state: int
    received: int  # rx_queue: of a listening socket, its accept queue
    inode: int


def listeners_of(pid: int, proc: str = "/proc") -> Listening:
    """Every listening TCP and Unix socket of the process' network namespace."""
    tcp, lacks = _of_files(_tcp_files(pid, proc), f"TCP listeners of process {pid}", tcp_queues)
    try:
        unix = unix_queues(contents(f"{proc}/{pid}/net/unix"))
    except OSError as error:
        unix = Listening((), (Lack(f"Unix listeners of process {pid}", error.strerror or str(error)),))
    return Listening((*tcp, *unix.queues), (*lacks, *unix.lacks))


def streams_of(pid: int, listeners: Collection[Queue], proc: str = "/proc") -> Connected:
    """The established TCP connections of these listeners of the process' namespace. Unix ones are told as a lack."""
    locals_ = Locals(listeners)
    streams: list[Stream] = []
    lacks: tuple[Lack, ...] = ()
    what = f"TCP connections of process {pid}"
    if locals_.ports:
        streams, lacks = _of_files(_tcp_files(pid, proc), what, lambda lines: tcp_streams(lines, locals_))
    if len(streams) > MOST:
        lacks = (*lacks, Lack(what, f"there are more than {MOST}; no more were read"))
    if locals_.unix:
        lacks = (*lacks, Lack(f"Unix connections of process {pid}", "/proc tells no unread bytes of them"))
    return Connected(tuple(streams[:MOST]), lacks)


def _tcp_files(pid: int, proc: str) -> tuple[str, str]:
    return f"{proc}/{pid}/net/tcp", f"{proc}/{pid}/net/tcp6"


def _of_files(
    paths: Iterable[str], what: str, parse: Callable[[Iterable[bytes]], Iterator[T]]
) -> tuple[list[T], tuple[Lack, ...]]:
    """What the files tell together. The second of them lacks without a word where the kernel has no IPv6."""
    found: list[T] = []
    lacks: list[Lack] = []
    for number, path in enumerate(paths):
        try:
            with closing(_lines(path)) as lines:
                found += parse(lines)
        except FileNotFoundError as error:
            if not number or lacks:
                lacks.append(Lack(what, error.strerror or str(error)))
        except OSError as error:
            lacks.append(Lack(what, error.strerror or str(error)))
        except Unreadable as error:
            lacks.append(Lack(what, str(error)))
    return found, tuple(dict.fromkeys(lacks))


def _lines(path: str) -> Generator[bytes, None, None]:
    """The lines of a file of /proc/PID/net, as far as somebody asks for them. Raises `OSError`.

    A read that leaves room for another line is the last one (seq_read_iter() in fs/seq_file.c): the next would walk the
    whole table of connections again, only to find its end.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        rest, chunk = b"", bytes(PAGE)
        while len(chunk) > PAGE - LONGEST_LINE and (chunk := os.read(file, PAGE)):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
    finally:
        os.close(file)


# --- what the files say -----------------------------------------------------------------------------------------------


def tcp_queues(lines: Iterable[bytes]) -> Iterator[Queue]:
    """The listeners of /proc/PID/net/tcp or tcp6; the lines behind them are not even read. Raises `Unreadable`."""
    listening = itertools.takewhile(lambda line: line.state == TCP_LISTEN, _tcp_lines(lines))
    for line in {line.inode: line for line in listening}.values():  # a changing table may tell one twice
        yield Queue(line.inode, Family.TCP, _address(line.local), line.received, None)


def tcp_streams(lines: Iterable[bytes], locals_: Locals) -> Iterator[Stream]:
    """The established connections at these local addresses, in /proc/PID/net/tcp or tcp6. Raises `Unreadable`."""
    ports = tuple(b":%04X" % port for port in locals_.ports)
    for line in _tcp_lines(lines):
        if line.state in (TCP_ESTABLISHED, TCP_CLOSE_WAIT) and line.local.endswith(ports):
            local, unread = _address(line.local), unread_bytes(line.state, line.received)
            if locals_.take_tcp(local):
                yield Stream(line.inode, Family.TCP, local, _address(line.peer), unread)


def _tcp_lines(lines: Iterable[bytes]) -> Iterator[TcpLine]:
    for line in itertools.islice(lines, 1, None):  # the first one holds the headings
        try:
            _, local, peer, state, queues, _, _, _, _, inode, *_ = line.split(None, 10)
            yield TcpLine(local, peer, int(state, 16), int(queues.partition(b":")[2], 16), int(inode))
        except ValueError:
            raise Unreadable("a line of /proc/PID/net/tcp is garbled") from None


def _address(text: bytes) -> str:
    """Of "0100007F:0050": words of four bytes, each printed as the number that it is on this machine."""
    host, _, port = text.partition(b":")
    try:
        packed = bytes.fromhex(host.decode("ascii"))
        if sys.byteorder == "little":
            packed = b"".join(packed[at : at + 4][::-1] for at in range(0, len(packed), 4))
        return tcp_address(packed, int(port, 16))
    except (ValueError, OSError):
        raise Unreadable("an address of /proc/PID/net/tcp is garbled") from None


def unix_queues(text: bytes) -> Listening:
    """The listeners of /proc/PID/net/unix, each with as many as wait at it."""
    listening: defaultdict[tuple[bytes, bytes], list[int]] = defaultdict(list)  # by type and name
    waiting: Counter[tuple[bytes, bytes]] = Counter()
    for flags, kind, state, inode, name in _UNIX_LINE.findall(text):
        if flags == _LISTENS:
            listening[kind, name].append(int(inode))
        elif (state, inode) == _WAITING:
            waiting[kind, name] += 1
    queues: list[Queue] = []
    lacks: list[Lack] = []
    for key, inodes in listening.items():
        address = unix_address(key[1])
        if len(inodes) > 1 and waiting[key]:
            reason = f"{len(inodes)} listeners have this name, and /proc does not tell at which of them one waits"
            lacks.append(Lack(f"the accept queue of {address}", reason))
        else:
            queues += [Queue(inode, Family.UNIX, address, waiting[key], None) for inode in inodes]
    return Listening(tuple(queues), tuple(lacks))
