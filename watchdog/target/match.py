"""The process of a service that writes no pidfile and is no unit: known by its executable, its words and its user.

Rules: kernel threads and zombies never fit, for they have no executable. Of processes that fit and descend from each
other the first is meant (nginx' master, not its workers). A process may become another program at any time (execve
keeps its PID and its start time), so what decides is read twice. To read whose executable it is takes the rights of
root or of the process' user: where they lack, that is told, and not taken for "there is none".

Order of reading, cheapest first: 3 µs for the uid, 4 µs for the executable, 11 µs for the words. Among 2,091 processes
a search took 13 ms; where 2,000 ran that executable with other words, 72 ms; where all 2,000 fitted, 375 ms. (Measured
on 6.18; the helper allows itself 2 s.)

The executable is compared as the process sees it, in its own mount namespace, so a container's may fit too. Anybody may
start a program of anybody's: whoever gives no `user` believes everybody who runs it.

Sources: proc_pid_exe(5), proc_pid_cmdline(5); task_dump_owner() in fs/proc/base.c: /proc/PID itself always belongs to
the effective uid.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from watchdog.model import Epoch
from watchdog.target.never import check_process
from watchdog.target.process import of_process, parent, start_time, stat_fields
from watchdog.target.words import CantLook, Gone, Match, NeverATarget, NotOfService, SeveralFit

DELETED = " (deleted)"  # what d_path() adds once the file was replaced, as by an upgrade
MAX_WORDS = 1 << 16  # bytes of a command line that are looked at
TOLD = 8  # PIDs in a refusal
GENERATIONS = 1000


def match_epoch(match: Match, never: Collection[int] = ()) -> Epoch | None:
    """The one process that fits; None where there is none. `never` are left out, as are PID 1 and this process.

    Raises `SeveralFit`; `NeverATarget` where none fits but what the host stands on; `CantLook`.
    """
    seeker = _Seeker(match)
    found: dict[int, Epoch] = {}
    hidden = 0
    for name in os.listdir("/proc"):
        if name.isdecimal() and (pid := int(name)) not in never and pid not in (1, os.getpid()):
            try:
                if (epoch := seeker.fitting(pid)) is not None:
                    found[pid] = epoch
            except PermissionError:
                hidden += 1
    allowed = _touchable(found)
    first = [epoch for pid, epoch in allowed.items() if not _descends(pid, allowed)]
    if len(first) > 1:
        shown = ", ".join(str(epoch.pid) for epoch in sorted(first, key=lambda epoch: epoch.pid)[:TOLD])
        raise SeveralFit(f"{len(first)} processes run {match}: {shown}{', …' if len(first) > TOLD else ''}")
    if not first and hidden:
        others = f"{hidden} other runs" if hidden == 1 else f"{hidden} others run"
        raise CantLook(f"no process is known to run {match}; what {others} that might, only root may read")
    return first[0] if first else None


def check_fits(match: Match, pid: int) -> None:
    """Raises `NotOfService` unless the process fits now; `Gone`, `CantLook`."""
    try:
        if _Seeker(match).fitting(pid) is None:
            start_time(pid)
            raise NotOfService(f"process {pid} does not run {match}")
    except PermissionError:
        raise CantLook(f"what process {pid} runs only root may read") from None


class _Seeker:
    """Asks of one process after the other whether it fits."""

    def __init__(self, match: Match) -> None:
        self._exes = {match.exe, os.path.realpath(match.exe)}  # Debian's redis-server is a link
        self._args = [os.fsencode(word) for word in match.args]
        self._uid = _uid(match.user) if match.user is not None else None

    def fitting(self, pid: int) -> Epoch | None:
        """Its life, where it fits. Raises `PermissionError` where nothing but its executable could tell."""
        try:
            if self._uid is not None and os.stat(f"/proc/{pid}").st_uid != self._uid:
                return None
            if not self._runs(pid):
                return None
            epoch = Epoch(pid, start_time(pid))
            if not self._worded(pid) or not self._runs(pid) or start_time(pid) != epoch.start_time:
                return None
        except (FileNotFoundError, ProcessLookupError, Gone):
            return None
        return epoch

    def _runs(self, pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/exe").removesuffix(DELETED) in self._exes
        except PermissionError:
            if self._worded(pid):
                raise
            return False

    def _worded(self, pid: int) -> bool:
        """Whether its command line has the words; one without any is a kernel thread's or a zombie's."""
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            line = file.read(MAX_WORDS)
        # A program that writes its own title (nginx, redis) joins by spaces what were words.
        return bool(line) and (_among(self._args, line.split(b"\0")) or _among(self._spaced(), _spaced(line)))

    def _spaced(self) -> list[bytes]:
        return _spaced(b"\0".join(self._args))


def _spaced(line: bytes) -> list[bytes]:
    return line.replace(b"\0", b" ").split()


def _among(wanted: list[bytes], words: list[bytes]) -> bool:
    """Whether they come in this order, with others between."""
    ahead = iter(words)
    return all(word in ahead for word in wanted)


def _uid(user: str) -> int:
    if user.isdecimal():
        return int(user)
    import pwd  # here, so that the resident helper has none of what it loads

    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise CantLook(f"nobody here is called {user!r}") from None


def _touchable(found: dict[int, Epoch]) -> dict[int, Epoch]:
    """Without what the host stands on: the watchdog itself runs the same Python as the services of others."""
    allowed = {}
    refusal: NeverATarget | None = None
    for pid, epoch in found.items():
        try:
            check_process(pid)
            allowed[pid] = epoch
        except Gone:
            continue
        except NeverATarget as never:
            refusal = never
    if refusal is not None and not allowed:
        raise refusal
    return allowed


def _descends(pid: int, others: Collection[int]) -> bool:
    """Whether an ancestor of the process is among the others."""
    for _ in range(GENERATIONS):
        try:
            pid = parent(stat_fields(of_process(pid, "stat")))
        except Gone:
            return False
        if pid in others:
            return True
        if pid <= 1:
            return False
    return False
