"""Real listening sockets of every kind with clients that wait, and ss(8), which tells of them too.

`python -m tests.evidence.listeners DIRECTORY` makes one of each kind, in whatever network namespace it is run in, and
tells in a line of JSON which they are; it ends with its standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.servers import until
from watchdog.evidence.sockdiag import Connected, Listening
from watchdog.reading import Queue, Stream

KINDS = ("v4", "v6", "v6only", "dual", "unix", "seqpacket", "abstract")
TCP = ("v4", "v6", "v6only", "dual")


def listen(kind: str, directory: Path, backlog: int = 5) -> socket.socket:
    """A listening socket; a Unix path lies in the directory. `dual` is reached by IPv4 too, `mapped` by it alone."""
    if kind == "v4":
        return socket.create_server(("127.0.0.1", 0), backlog=backlog)
    if kind == "v6":
        return socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=backlog)
    if kind in ("v6only", "dual"):
        return socket.create_server(
            ("::", 0), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=kind == "dual", reuse_port=False
        )
    if kind == "mapped":  # as Java binds to 127.0.0.1
        made = socket.socket(socket.AF_INET6)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::ffff:127.0.0.1", 0))
        made.listen(backlog)
        return made
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET if kind == "seqpacket" else socket.SOCK_STREAM)
    made.bind(f"\0{directory}/{kind}" if kind == "abstract" else str(directory / f"{kind}.sock"))
    made.listen(backlog)
    return made


def client(listener: socket.socket, data: bytes = b"") -> socket.socket:
    """A connection to the listener, which has sent this; made at once or not at all."""
    made = socket.socket(listener.family, listener.type)
    if listener.family == socket.AF_UNIX:
        made.connect(listener.getsockname())
    else:
        host, port, *_ = listener.getsockname()
        dual = host == "::" and not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        made.close()
        made = socket.create_connection(("127.0.0.1" if dual else host.replace("::", "::1", host == "::"), port))
    if data:
        made.send(data)
    return made


def address_of(listener: socket.socket) -> str:
    """As `reading.Queue` has it."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return name if isinstance(name, str) else name.decode().replace("\0", "@")
    return f"[{name[0]}]:{name[1]}" if listener.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def inode_of(sock: socket.socket) -> int:
    """What names a socket in sock_diag and in /proc."""
    return os.fstat(sock.fileno()).st_ino


def queue_of(listening: Listening, sock: socket.socket) -> Queue:
    """What was read of this very socket. Raises `ValueError` unless it is there once."""
    (found,) = (queue for queue in listening.queues if queue.inode == inode_of(sock))
    return found


def by_peer(connected: Connected) -> dict[str, Stream]:
    """The streams, by the other end's address."""
    return {stream.peer: stream for stream in connected.streams}


def ss_listeners(*options: str) -> dict[int, tuple[int, int, str]]:
    """What ss tells: by inode, Recv-Q, Send-Q and address; `*:80` for a dual-stack socket is `[::]:80` here."""
    tcp = re.findall(r"^LISTEN +(\d+) +(\d+) +(\S+) .* ino:(\d+) ", _ss("-ltne", *options), re.MULTILINE)
    unix = re.findall(r"^u_\w+ +LISTEN +(\d+) +(\d+) +(\S+) +(\d+) ", _ss("-xlne", *options), re.MULTILINE)
    found = (*((r, s, re.sub(r"^\*:", "[::]:", a), i) for r, s, a, i in tcp), *unix)
    return {int(inode): (int(length), int(limit), address) for length, limit, address, inode in found}


def ss_unread(port: int, *options: str) -> dict[str, int]:
    """What ss tells of the connections at a local port: by the other end's address, Recv-Q."""
    told = _ss("-tne", *options, "sport", f"= :{port}")
    return {peer: int(unread) for unread, peer in re.findall(r"^\S+ +(\d+) +\d+ +\S+ +(\S+) ", told, re.MULTILINE)}


def _ss(*options: str) -> str:
    return subprocess.run(["ss", "-H", *options], check=True, capture_output=True, text=True, timeout=30).stdout


@contextlib.contextmanager
def crowd(directory: Path, waiting: int = 3) -> Iterator[dict[str, socket.socket]]:
    """One listener of each kind, with so many clients that wait, each with 5 bytes sent."""
    with contextlib.ExitStack() as stack:
        made = {kind: stack.enter_context(closing(listen(kind, directory))) for kind in KINDS}
        for listener in made.values():
            for _ in range(waiting):
                stack.enter_context(closing(client(listener, b"hello")))
        yield made


@contextlib.contextmanager
def sleeper(listeners: list[socket.socket]) -> Iterator[int]:
    """A thread that sleeps in epoll on these listeners, by edge, and takes nothing; its TID."""
    stop = os.eventfd(0)
    with closing(select.epoll()) as epoll:
        for listener in listeners:
            epoll.register(listener, select.EPOLLIN | select.EPOLLET)
        epoll.register(stop, select.EPOLLIN)

        def sleep() -> None:
            while not any(fd == stop for fd, _ in epoll.poll()):
                pass

        thread = threading.Thread(target=sleep)
        thread.start()
        try:
            tid = thread.native_id or 0
            wchan = Path(f"/proc/self/task/{tid}/wchan")
            until(lambda: wchan.read_text() in ("ep_poll", "do_epoll_wait"), 5, "the thread sleeps in epoll")
            yield tid
        finally:
            os.eventfd_write(stop, 1)
            thread.join()
            os.close(stop)


def switches(tid: int) -> list[str]:
    """How often one of our threads was switched."""
    lines = Path(f"/proc/self/task/{tid}/status").read_text().splitlines()
    return [line for line in lines if "ctxt_switches" in line]


if __name__ == "__main__":
    with crowd(Path(sys.argv[1])) as listeners:
        told = {kind: (inode_of(listener), address_of(listener)) for kind, listener in listeners.items()}
        print(json.dumps(told), flush=True)
        sys.stdin.read()
