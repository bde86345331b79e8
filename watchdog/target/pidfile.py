"""The process that a pidfile names, and who could have put it there.

Rules: who could write the file, or exchange it, must be root, or the user that the process runs as. A group that could
must be root's or, of a process that is not root's, the process' own: Debian's /run/named is root:bind, 0775, and named
runs as bind:bind. A process of root's own group is no such group, for its members are not root. In a sticky directory
nobody can exchange a file of another's.

Sources: systemd.service(5), PIDFile=; inode(7), the sticky bit; proc_pid_status(5), Gid:.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field

from watchdog.model import Epoch
from watchdog.target.held import Held
from watchdog.target.never import check_process
from watchdog.target.process import ended, group, owner, start_time
from watchdog.target.words import Gone, PidfileUnusable


class Pidfile:
    """The process that a pidfile names, held, and read anew only when the file or the process has changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._held = Held()
        self._stamp: tuple[int, ...] = ()

    def epoch(self) -> Epoch | None:
        """As `pidfile_epoch`: None where there is no such process; raises `PidfileUnusable`, `NeverATarget`."""
        stamp = _stamp(self._path)
        if stamp == self._stamp and (known := self._held.alive()) is not None:
            return known
        self.close()
        epoch = pidfile_epoch(self._path)
        if epoch is not None and stamp:
            self._held.keep(epoch)
            self._stamp = stamp
        return epoch

    def close(self) -> None:
        """Let go of the process."""
        self._held.close()


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def pidfile_epoch(path: str) -> Epoch | None:
    """The process that the pidfile names; None where there is no file or no such process.

    Raises `PidfileUnusable`, also where others than root and the process' own user and group could have put the PID
    there: with root's powers at the other end, a pidfile is an order. Raises `NeverATarget`.
    """
    try:
        text, writers = _read_pidfile(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise PidfileUnusable(f"pidfile {path} can't be read: {why}") from None
    pid = int(text) if text.strip().isdigit() else 0
    if pid == 0:
        raise PidfileUnusable(f"pidfile {path} holds no PID but {text[:20]!r}")
    try:
        epoch = Epoch(pid, start_time(pid))
        uid, gid = owner(pid), group(pid)
        if ended(pid):
            return None
        check_process(pid)
    except Gone:
        return None
    _check_writers(path, writers, pid, uid, gid)
    return epoch


@dataclass(slots=True)
class _Writers:
    """Who could have put a pidfile there: users, and groups with the path that each of them could write."""

    users: set[int] = field(default_factory=set)
    groups: dict[int, str] = field(default_factory=dict)

    def add(self, path: str, found: os.stat_result) -> None:
        """Those of a file or directory."""
        self.users.add(found.st_uid)
        if found.st_mode & stat.S_IWGRP and not _sticky(found):
            self.groups.setdefault(found.st_gid, path)


def _sticky(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode) and bool(found.st_mode & stat.S_ISVTX)


def _check_writers(path: str, writers: _Writers, pid: int, uid: int, gid: int) -> None:
    if strangers := writers.users - {0, uid}:
        stranger = min(strangers)
        raise PidfileUnusable(f"pidfile {path} could be written by uid {stranger}; process {pid} runs as uid {uid}")
    own = {0, gid} if uid != 0 else {0}
    if groups := writers.groups.keys() - own:
        stranger = min(groups)
        raise PidfileUnusable(
            f"pidfile {path} could be written by the members of group {stranger}; process {pid} runs as uid {uid}, "
            f"gid {gid}: chmod g-w {writers.groups[stranger]}"
        )


def _read_pidfile(path: str) -> tuple[bytes, _Writers]:
    """Its text, and who could have written it. A FIFO must not make us wait, nor a link lead elsewhere."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(file)
        if found.st_mode & stat.S_IWOTH:
            raise PidfileUnusable(f"pidfile {path} can be written by everybody: chmod o-w it")
        writers = _writers_above(path)
        writers.add(path, found)
        return os.read(file, 64), writers
    finally:
        os.close(file)


def _writers_above(path: str) -> _Writers:
    """Who could exchange what lies below: who owns or can write the directories (and owns the links to them)."""
    writers = _Writers()
    above = os.path.abspath(path)
    while above != "/":
        above = os.path.dirname(above)
        found = os.stat(above)
        if found.st_mode & stat.S_IWOTH and not _sticky(found):
            raise PidfileUnusable(f"pidfile {path} can be exchanged by everybody: chmod o-w {above}")
        writers.users.add(os.lstat(above).st_uid)
        writers.add(above, found)
    return writers
