"""The words of sock_diag: requests to the kernel and its answers, as bytes. Pure; `sockdiag.py` does the talking.

The kernel filters: by state, and by local port with a program of its own kind (`inet_diag_bc_op`). Both TCP families
come in one dump, with the older request TCPDIAG_GETSOCK: the newer one (SOCK_DIAG_BY_FAMILY) would walk the whole table
once for each family. An answer that is not what it must be raises `Unreadable`, whatever its bytes are.

Sources: netlink(7), sock_diag(7), include/uapi/linux/{netlink,inet_diag,unix_diag}.h, net/ipv4/inet_diag.c (the audit
of filters: inet_diag_bc_audit()), net/ipv4/tcp_diag.c, net/unix/diag.c.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from watchdog.evidence.addresses import Locals, tcp_address, unix_address
from watchdog.reading import Family, Queue, Stream

T = TypeVar("T")
Read = Callable[[bytes, list[T]], None]  # adds what a message tells; may raise `Unreadable`, `struct.error`

TCPDIAG_GETSOCK = 18
SOCK_DIAG_BY_FAMILY = 20
REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
DUMP_INTR = 0x10
ERROR, DONE = 2, 3

ESTABLISHED, CLOSE_WAIT, LISTEN = 1 << 1, 1 << 8, 1 << 10  # by state: 1 << TCP_…; Unix sockets have the same states
SHOW_NAME, SHOW_PEER, SHOW_ICONS, SHOW_RQLEN = 0x01, 0x04, 0x08, 0x10
NAME, PEER, ICONS, RQLEN = 0, 2, 3, 4  # UNIX_DIAG_…
S_GE, S_LE, JUMP = 2, 3, 1  # INET_DIAG_BC_…
BYTECODE = 1  # INET_DIAG_REQ_BYTECODE
CONNECTED_TYPES = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)

_HEADER = struct.Struct("=IHHII")
_TCP_REQUEST = struct.Struct("=BBBB48sII")
_UNIX_REQUEST = struct.Struct("=BBHIIIII")
_TCP = struct.Struct("=BBBB2s2s16s16s12sIIIII")
_UNIX = struct.Struct("=BBBBIII")
_UNIX_START = struct.Struct("=xBxxI8xHH")  # with the first attribute
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=I")
_SIGNED = struct.Struct("=i")
_LENGTHS = struct.Struct("=II")
_STEP = struct.Struct("=BBH")
GARBLED = "the kernel's answer is garbled"
_MODULE_LACKS = (errno.ENOENT, errno.EOPNOTSUPP)


class Unreadable(Exception):
    """Why the kernel's answer could not be had, in one line."""

    def __init__(self, reason: str, *, module_lacks: bool = False) -> None:
        super().__init__(reason)
        self.module_lacks = module_lacks  # a longer lack: asking again would only start modprobe again


# --- requests ---------------------------------------------------------------------------------------------------------


def tcp_request(sequence: int, states: int, ports: Collection[int] = ()) -> bytes:
    """A dump of the TCP sockets in these states, of both families; of these local ports only, where some are named."""
    body = _TCP_REQUEST.pack(0, 0, 0, 0, b"", states, 0)
    if ports:
        program = ports_program(sorted(ports))
        body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(program), BYTECODE) + program
    return _HEADER.pack(_HEADER.size + len(body), TCPDIAG_GETSOCK, REQUEST_DUMP, sequence, 0) + body


def unix_request(sequence: int, states: int, show: int) -> bytes:
    """A dump of the Unix sockets in these states, with these attributes."""
    body = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, states, 0, show, 0xFFFFFFFF, 0xFFFFFFFF)
    return _HEADER.pack(_HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, sequence, 0) + body


def ports_program(ports: Sequence[int]) -> bytes:
    """A filter: is the local port one of these? At its end a socket is taken, four bytes beyond it is not.

    For each port: at least it? at most it? to the end. A step is (code, way if so, way if not), and ways are distances.
    S_EQ would do with one comparison; a kernel too old for it would refuse the whole request.
    """
    program = b""
    for port in reversed(ports):  # from the end, where the distances are known
        rest = len(program)
        jump = _STEP.pack(JUMP, 4, 4 + rest) if rest else b""  # the last port's end is the end
        otherwise = 8 + len(jump) + (0 if rest else 4)  # from the second comparison to the next port, or beyond the end
        at_least = _STEP.pack(S_GE, 8, 8 + otherwise) + _STEP.pack(0, 0, port)
        at_most = _STEP.pack(S_LE, 8, otherwise) + _STEP.pack(0, 0, port)
        program = at_least + at_most + jump + program
    return program


# --- answers ----------------------------------------------------------------------------------------------------------


def take(datagram: bytes, sequence: int, read: Read[T], found: list[T]) -> tuple[bool, bool]:
    """Add what a datagram of an answer tells to `found`; whether the dump ends here, and whether it was torn.

    Torn (NLM_F_DUMP_INTR) means that the table changed under the dump, which then may lack some.
    """
    at, torn = 0, False
    try:
        while at < len(datagram):
            length, kind, flags, its, _ = _HEADER.unpack_from(datagram, at)
            if length < _HEADER.size or at + length > len(datagram) or its != sequence:
                raise Unreadable(GARBLED)
            torn = torn or bool(flags & DUMP_INTR)
            body = datagram[at + _HEADER.size : at + length]
            if kind in (ERROR, DONE):
                _check_status(body)
                return True, torn
            read(body, found)
            at += _aligned(length)
    except struct.error:
        raise Unreadable(GARBLED) from None
    return False, torn


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _check_status(body: bytes) -> None:
    """The end of a dump, and an error instead of one, carry a number: negative where something failed."""
    number = -_SIGNED.unpack_from(body)[0]
    if number > 0:
        raise Unreadable(os.strerror(number), module_lacks=number in _MODULE_LACKS)


def tcp_queue(body: bytes, found: list[Queue]) -> None:
    """A listening TCP socket: its rqueue is the accept queue, its wqueue the backlog (tcp_diag_get_info())."""
    _, local, _, length, limit, inode = _tcp(body)
    found.append(Queue(inode, Family.TCP, local, length, limit))


def tcp_stream(locals_: Locals) -> Read[Stream]:
    """Reads the TCP connections of these listeners."""

    def read(body: bytes, found: list[Stream]) -> None:
        state, local, peer, unread, _, inode = _tcp(body)
        if locals_.take_tcp(local):
            found.append(Stream(inode, Family.TCP, local, peer, unread_bytes(state, unread)))

    return read


def unread_bytes(state: int, told: int) -> int:
    """The kernel counts a FIN that was not read yet as a byte (tcp_inq() in include/net/tcp.h takes it away too)."""
    return max(0, told - 1) if 1 << state == CLOSE_WAIT else told


def _tcp(body: bytes) -> tuple[int, str, str, int, int, int]:
    """State, local address, peer, rqueue, wqueue, inode: of an inet_diag_msg."""
    family, state, _, _, port, far, source, sink, _, _, rqueue, wqueue, _, inode = _TCP.unpack_from(body)
    if family == socket.AF_INET:
        source, sink = source[:4], sink[:4]
    elif family != socket.AF_INET6:
        raise Unreadable(GARBLED)
    local = tcp_address(source, int.from_bytes(port, "big"))
    return state, local, tcp_address(sink, int.from_bytes(far, "big")), rqueue, wqueue, inode


def unix_queue(body: bytes, found: list[Queue]) -> None:
    """A listening Unix socket: its rqueue is the accept queue, its wqueue the backlog (sk_diag_show_rqlen())."""
    told = _attributes(body)
    length, limit = _LENGTHS.unpack(told.get(RQLEN, b""))
    inode = _UNIX.unpack_from(body)[4]
    found.append(Queue(inode, Family.UNIX, unix_address(told.get(NAME, b"")), length, limit))


def unix_stream(locals_: Locals, inodes: Collection[int]) -> Read[Stream]:
    """Reads the accepted Unix connections of these listeners (they have its name), and those with these inodes."""

    def read(body: bytes, found: list[Stream]) -> None:
        # There may be thousands of others, and the name comes first (sk_diag_fill()): they are known at a glance.
        kind, inode, size, first = _UNIX_START.unpack_from(body)
        local = unix_address(body[_UNIX_START.size : _UNIX.size + size]) if first == NAME else ""
        if kind in CONNECTED_TYPES and (inode in inodes or local in locals_.unix):
            told = _attributes(body)
            peer = _NUMBER.unpack(told.get(PEER, bytes(4)))[0]
            unread = _LENGTHS.unpack(told.get(RQLEN, b""))[0]
            found.append(Stream(inode, Family.UNIX, local, f"inode {peer}" if peer else "", unread))

    return read


def unix_waiting(locals_: Locals) -> Read[Stream]:
    """Reads the connections that wait at these Unix listeners: whose they are is told, and what they hold is not.

    One that its client has closed is nobody's: it is told by the length of the queue alone.
    """

    def read(body: bytes, found: list[Stream]) -> None:
        told = _attributes(body)
        local = unix_address(told.get(NAME, b""))
        if local in locals_.unix:
            clients = (inode for (inode,) in _NUMBER.iter_unpack(told.get(ICONS, b"")) if inode)
            found.extend(Stream(0, Family.UNIX, local, f"inode {inode}", None) for inode in clients)

    return read


def _attributes(body: bytes) -> dict[int, bytes]:
    """Of a unix_diag_msg."""
    told: dict[int, bytes] = {}
    at = _UNIX.size
    while at < len(body):
        size, attribute = _ATTRIBUTE.unpack_from(body, at)
        if size < _ATTRIBUTE.size or at + size > len(body):
            raise Unreadable(GARBLED)
        told[attribute] = body[at + _ATTRIBUTE.size : at + size]
        at += _aligned(size)
    return told
