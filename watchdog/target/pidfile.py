"""The process that a pidfile names, and who could have put it there. systemd.service(5), PIDFile=."""

from __future__ import annotations

import errno
import os
import stat

from watchdog.model import Epoch
from watchdog.target.held import Held
from watchdog.target.never import check_process
from watchdog.target.process import ended, owner, start_time
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

    Raises `PidfileUnusable`, also where a user other than root and the process' own could have put the PID there: with
    root's powers at the other end, a pidfile is an order. Raises `NeverATarget`.
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
        uid = owner(pid)
        if ended(pid):
            return None
        check_process(pid)
    except Gone:
        return None
    if strangers := writers - {0, uid}:
        stranger = min(strangers)
        raise PidfileUnusable(f"pidfile {path} could be written by uid {stranger}; process {pid} runs as uid {uid}")
    return epoch


def _read_pidfile(path: str) -> tuple[bytes, set[int]]:
    """Its text, and who could have written it. A FIFO must not make us wait, nor a link lead elsewhere."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(file)
        if found.st_mode & stat.S_IWOTH:
            raise PidfileUnusable(f"pidfile {path} can be written by everybody: chmod o-w it")
        return os.read(file, 64), {found.st_uid} | _owners_above(path)
    finally:
        os.close(file)


def _owners_above(path: str) -> set[int]:
    """Who owns the directories (and the links to them) on the way: who could exchange what lies below."""
    owners = set()
    above = os.path.abspath(path)
    while above != "/":
        above = os.path.dirname(above)
        found = os.stat(above)
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            raise PidfileUnusable(f"pidfile {path} can be exchanged by everybody: chmod o-w {above}")
        owners |= {os.lstat(above).st_uid, found.st_uid}
    return owners
