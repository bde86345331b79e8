"""What a process has open, as far as it matters here: its sockets, its epolls and what they watch.

Rules: of an epoll's entries nothing but descriptor, events and inode is kept: what the program keeps with an entry
(`data:`) is often a pointer. Reading the fdinfo of an epoll takes its mutex, for which epoll_ctl(2) and a waiter that
is about to take events wait that long (1,000 entries: 1.2 ms, 19,000: 21 ms, both on a busy host); nobody is woken.

Sources: proc_pid_fd(5), proc_pid_fdinfo(5); ep_show_fdinfo() in fs/eventpoll.c.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from watchdog.evidence.pinned import read
from watchdog.reading import Watch

EVENTPOLL = "anon_inode:[eventpoll]"
SOCKET = "socket:["
LINKS = 16384  # descriptors looked at, lowest first
FDINFO_CHUNK = 1 << 20  # bytes


@dataclass(slots=True)
class Descriptors:
    """The open descriptors of a process: how many, its epolls, and the inodes of its sockets."""

    count: int
    omitted: int  # that were not looked at
    epolls: list[int] = field(default_factory=list)  # those that are waited on first
    sockets: list[int] = field(default_factory=list)


def descriptors(owner: int, waited_on: Collection[int] = ()) -> Descriptors:
    """Of an open /proc/PID or /proc/PID/task/TID; the epolls `waited_on` in any case. Raises `OSError`."""
    directory = os.open("fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=owner)
    try:
        fds = sorted(map(int, os.listdir(directory)))
        found = Descriptors(len(fds), max(0, len(fds) - LINKS))
        for fd in (*sorted(waited_on), *(fd for fd in fds[:LINKS] if fd not in waited_on)):
            try:
                link = os.readlink(str(fd), dir_fd=directory)
            except FileNotFoundError:
                continue  # closed meanwhile
            if link.startswith(SOCKET):
                found.sockets.append(int(link[len(SOCKET) : -1]))
            elif link == EVENTPOLL:
                found.epolls.append(fd)
        return found
    finally:
        os.close(directory)


def count_without_rights(owner: int) -> int | None:
    """How many are open, for whom may not list them; None where the kernel does not tell (before 6.2)."""
    return os.stat("fd", dir_fd=owner).st_size or None


def watches(owner: int, epfd: int) -> list[Watch] | None:
    """What an epoll watches, lowest descriptors first; None: it is no epoll, or closed. Raises `OSError`, `Gone`."""
    try:
        text = read(owner, f"fdinfo/{epfd}", FDINFO_CHUNK)
    except FileNotFoundError:
        return None
    found = parse(text.splitlines())
    return sorted(found)


def parse(lines: Iterable[bytes]) -> list[Watch]:
    """The entries in an epoll's fdinfo. A kernel before 4.13 tells no inode: 0."""
    found = []
    for line in lines:
        if line.startswith(b"tfd:"):
            fields = line.split()
            inode = int(fields[7][4:], 16) if len(fields) > 7 else 0
            found.append(Watch(int(fields[1]), int(fields[3], 16), inode))
    return found
