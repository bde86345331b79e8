"""From a name to pinned processes: which processes a service has, and which life of them is meant.

A PID alone is no name, it is used again; a PID with its start time is one (`Epoch`). Nothing here needs a privilege, so
the brain, the helper and `epoll-watchdog nudge` all ask the same questions here, and the helper trusts nobody else's
answer. No pathlib: it would cost the resident helper 1 MiB.

Sources: proc_pid_stat(5), proc_pid_cgroup(5), proc_pid_mountinfo(5), cgroups(7); systemd.service(5), PIDFile=;
systemd.unit(5), unit load path and Alias=; cg_escape() in systemd's src/basic/cgroup-util.c.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from watchdog.model import Epoch, Method

TICKS = os.sysconf("SC_CLK_TCK")
UNIT_PATH = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
SYSTEMD = "name=systemd"  # the hierarchy of cgroup v1 that systemd keeps units in
# What everything else hangs on: the bus, systemd's own daemons, and ourselves. Whole names: Prometheus has a
# systemd-exporter.service.
NEVER_UNITS = frozenset(
    {
        *(
            "init.scope",
            "dbus.service",
            "dbus-broker.service",
            "epoll-watchdog.service",
            "epoll-watchdog-helper.service",
        ),
        *("systemd-homed.service", "systemd-hostnamed.service", "systemd-journald.service", "systemd-logind.service"),
        *("systemd-machined.service", "systemd-networkd.service", "systemd-oomd.service", "systemd-resolved.service"),
        *("systemd-timesyncd.service", "systemd-udevd.service", "systemd-userdbd.service"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What the process of a service that writes no pidfile is known by."""

    exe: str  # the absolute path of its executable
    args: tuple[str, ...] = ()  # words of its command line, in this order, among others
    user: str | None = None  # whom it runs as; None: anybody


@dataclass(frozen=True, slots=True, kw_only=True)
class Nudging:
    """How a nudge is done: by the first of these methods that is permitted here."""

    methods: tuple[Method, ...] = (Method.PTRACE, Method.FREEZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a `[service.NAME]` table says of the processes to guard and of how they are restarted.

    Exactly one of `unit`, `pidfile`, `process` and `cgroup` is set. The processes of a unit are those of its cgroup; of
    a pidfile or a match, the named process and its descendants; of a cgroup (a container's), all in it. Without a unit,
    only `restart_command` (an argv, never a shell) can restart anything.
    """

    unit: str | None = None
    pidfile: str | None = None
    process: Match | None = None
    cgroup: str | None = None  # its path below the mount point, "/machine.slice/libpod-….scope"; may hold * and ?
    restart_command: tuple[str, ...] = ()
    also_restarts: tuple[str, ...] = ()  # units that a restart of this one may take along
    capture: tuple[str, ...] = ()  # an argv, run before a restart; "{pid}" in it is the main PID
    nudge: Nudging = Nudging()


class Refusal(Exception):
    """Why a process can't be found or touched. `hint` is what an operator can do about it, in one line, or empty."""

    hint = ""


class Gone(Refusal):
    """The process has ended, or its PID is another process' by now."""

    hint = "look for the service's present process: it has ended or was restarted"


class NotOfUnit(Refusal):
    """The process is not in the cgroup of the unit."""

    hint = "ask `systemctl status PID` which unit the process belongs to, and name that one"


class PidfileUnusable(Refusal):
    """The pidfile can't be read, holds no PID, or somebody could have written it who has no say over the process."""

    hint = "the pidfile and its directories must belong to root or to the user whom the process runs as (chown)"


class NeverATarget(Refusal):
    """The process or unit is one that the host or the watchdog itself stands on."""

    hint = "the watchdog does not touch PID 1, itself, the bus, or systemd's own daemons"


def contents(path: str) -> bytes:
    """All of a file. Raises `OSError`."""
    with open(path, "rb") as file:
        return file.read()


# --- one process ------------------------------------------------------------------------------------------------------


def stat_fields(text: bytes) -> list[bytes]:
    """The fields of a `stat` file from the third (the state) on; the second may itself hold spaces and brackets."""
    return text[text.rindex(b")") + 2 :].split()


def start_time(pid: int) -> int:
    """When the process began, in clock ticks since boot (field 22 of /proc/PID/stat). Raises `Gone`."""
    try:
        return int(stat_fields(contents(f"/proc/{pid}/stat"))[19])
    except (FileNotFoundError, ProcessLookupError):
        raise Gone(f"there is no process {pid}") from None


def ended(pid: int) -> bool:
    """Whether the process is a zombie: it runs no more, and its parent has not taken note. Raises `Gone`.

    A leader that has ended while its other threads go on is none: field 20, the number of threads, counts it with them.
    """
    try:
        fields = stat_fields(contents(f"/proc/{pid}/stat"))
    except (FileNotFoundError, ProcessLookupError):
        raise Gone(f"there is no process {pid}") from None
    return fields[0] in (b"Z", b"X") and int(fields[17]) < 2


def age(epoch: Epoch, now_boottime: float) -> float:
    """How long the process has lived, in seconds, when CLOCK_BOOTTIME is `now_boottime`."""
    return now_boottime - epoch.start_time / TICKS


def check_alive(epoch: Epoch) -> None:
    """Raises `Gone` unless exactly this life of the process is there."""
    found = start_time(epoch.pid)
    if found != epoch.start_time:
        raise Gone(f"PID {epoch.pid} is another process' by now: it began at tick {found}, not {epoch.start_time}")


def owner(pid: int) -> int:
    """The effective uid of the process. Raises `Gone`."""
    try:
        status = contents(f"/proc/{pid}/status")
    except (FileNotFoundError, ProcessLookupError):
        raise Gone(f"there is no process {pid}") from None
    return next(int(line.split()[2]) for line in status.splitlines() if line.startswith(b"Uid:"))


def descendants(pid: int) -> tuple[int, ...]:
    """The children of the process, theirs, and so on (proc_tid_children(5)); what came meanwhile may be missing."""
    found: list[int] = []
    ahead = [pid]
    while ahead:
        # A list made once: each process is met once, whatever its parent does meanwhile.
        children = [child for child in _children(ahead.pop()) if child not in found]
        found += children
        ahead += children
    return tuple(found)


def _children(pid: int) -> Iterator[int]:
    try:
        tids = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return
    for tid in tids:
        try:
            yield from map(int, contents(f"/proc/{pid}/task/{tid}/children").split())
        except (FileNotFoundError, ProcessLookupError):
            continue


# --- a pidfile --------------------------------------------------------------------------------------------------------


class Pidfile:
    """The process that a pidfile names, held by a pidfd and read anew only when the file or the process has changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: Epoch | None = None
        self._stamp: tuple[int, ...] = ()
        self._pidfd = -1
        self._poll = select.poll()

    def epoch(self) -> Epoch | None:
        """As `pidfile_epoch`: None where there is no such process; raises `PidfileUnusable`."""
        stamp = _stamp(self._path)
        # A pidfd is readable once its process has ended (pidfd_open(2)), so what is known is still true.
        if self._known is not None and stamp == self._stamp and not self._poll.poll(0):
            return self._known
        self.close()
        epoch = pidfile_epoch(self._path)
        if epoch is not None and stamp:
            self._keep(epoch, stamp)
        return epoch

    def _keep(self, epoch: Epoch, stamp: tuple[int, ...]) -> None:
        try:
            self._pidfd = os.pidfd_open(epoch.pid)
            check_alive(epoch)  # the descriptor is of this life, not of a later one
        except (OSError, Gone):
            self.close()
            return
        self._poll.register(self._pidfd, select.POLLIN)
        self._known, self._stamp = epoch, stamp

    def close(self) -> None:
        """Let go of the process."""
        if self._pidfd >= 0:
            if self._known is not None:
                self._poll.unregister(self._pidfd)
            os.close(self._pidfd)
        self._known, self._pidfd = None, -1


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def pidfile_epoch(path: str) -> Epoch | None:
    """The process that the pidfile names; None where there is no file or no such process.

    Raises `PidfileUnusable`, also where a user other than root and the process' own could have put the PID there: with
    root's powers at the other end, a pidfile is an order.
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


# --- a unit -----------------------------------------------------------------------------------------------------------


def unit_pids(unit: str, main: int) -> tuple[int, ...]:
    """All PIDs in the cgroup of the unit, which `main` is a process of; sub-cgroups included. `NotOfUnit`, `Gone`."""
    paths = _cgroups(main)
    for _, directory in _unit_directories(unit, paths):
        return tuple(sorted(set(_procs(directory))))
    shown = paths.get("", "") or paths.get(SYSTEMD, "")
    raise NotOfUnit(f"process {main} is not of {unit}: its cgroup is {shown}")


def unit_cgroup(unit: str, main: int) -> str | None:
    """Where the cgroup of the unit, which `main` is a process of, is in cgroup v2; None where it is not. `Gone`."""
    return dict(_unit_directories(unit, _cgroups(main))).get("")


def _cgroups(main: int) -> dict[str, str]:
    try:
        return cgroup_paths(os.fsdecode(contents(f"/proc/{main}/cgroup")))
    except (FileNotFoundError, ProcessLookupError):
        raise Gone(f"there is no process {main}") from None


def _unit_directories(unit: str, paths: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Each hierarchy that has the unit's own cgroup, and where that is."""
    for hierarchy, root, mount in cgroup_mounts():
        if hierarchy in paths and (cgroup := _unit_part(paths[hierarchy], unit)):
            yield hierarchy, cgroup_directory(cgroup, root, mount)


def cgroup_paths(text: str, controller: str = SYSTEMD) -> dict[str, str]:
    """The paths in a `cgroup` file: of cgroup v2 (written as "") and of the v1 hierarchy with that controller."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found[""] = path
        elif controller in controllers.split(","):
            found[controller] = path
    return found


def cgroup_mounts(controller: str = SYSTEMD) -> Iterator[tuple[str, str, str]]:
    """Where those are mounted: (hierarchy, the part of it that is mounted, mount point), as seen by this process."""
    for line in os.fsdecode(contents("/proc/self/mountinfo")).splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        root, mount = left.split()[3:5]
        if kind == "cgroup2":
            yield "", root, mount
        elif kind == "cgroup" and controller in options.split(","):
            yield controller, root, mount


def cgroup_directory(path: str, root: str, mount: str) -> str:
    """Where the cgroup `path` is, of which hierarchy the part `root` is mounted at `mount`."""
    return mount + ("/" if path == root else path.removeprefix(root.rstrip("/")))


def _unit_part(path: str, unit: str) -> str:
    """The path as far as the unit's own cgroup; empty where it does not lead through it."""
    names = {unit, resolved(unit)}
    names |= {"_" + name for name in names}  # systemd's escape for what would clash with a cgroup's own files
    parts = path.split("/")
    for index, part in enumerate(parts):
        if part in names:
            return "/".join(parts[: index + 1])
    return ""


def resolved(unit: str) -> str:
    """The unit's own name where `unit` is an alias, a link on the unit load path (Debian's redis.service is one)."""
    for directory in UNIT_PATH:
        link = os.path.join(directory, unit)
        if os.path.islink(link):
            name = os.path.basename(os.path.realpath(link))
            return unit if name == "null" else name  # a link to /dev/null: masked
    return unit


def _procs(cgroup: str) -> Iterator[int]:
    for directory, _, _ in os.walk(cgroup):
        try:
            pids = contents(os.path.join(directory, "cgroup.procs")).split()
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # a threaded cgroup: its processes are listed further up
                continue
            raise
        yield from (int(pid) for pid in pids if pid != b"0")  # 0: in a PID namespace that we don't see


# --- a service --------------------------------------------------------------------------------------------------------


def check_allowed(target: Target) -> None:
    """Raises `NeverATarget` for a unit that the host or the watchdog itself stands on."""
    if target.unit and {target.unit, resolved(target.unit)} & NEVER_UNITS:
        raise NeverATarget(f"{target.unit} is never touched")


def processes(target: Target, main: Epoch) -> tuple[Epoch, ...]:
    """All processes of the service, `main` first. Raises a `Refusal` where `main` is not of it, or not any more."""
    check_allowed(target)
    check_alive(main)
    if target.unit is not None:
        pids = unit_pids(target.unit, main.pid)
    elif target.pidfile is not None:
        named = pidfile_epoch(target.pidfile)
        if named is None or (named.pid, named.start_time) != (main.pid, main.start_time):
            raise Gone(f"pidfile {target.pidfile} names {named.pid if named else 'no living process'}, not {main.pid}")
        pids = descendants(main.pid)
    else:
        pids = ()
    check_alive(main)  # what was read above was read of this very life
    return (main, *_alive(pid for pid in pids if pid != main.pid))


def check_runs(target: Target, main: Epoch) -> None:
    """Raises a `Refusal` unless this very life is one of the service, and goes on."""
    check_alive(main)
    if ended(main.pid):
        raise Gone(f"process {main.pid} has ended, and its parent has not taken note")
    processes(target, main)


def _alive(pids: Iterator[int]) -> Iterator[Epoch]:
    for pid in pids:
        try:
            yield Epoch(pid, start_time(pid))
        except Gone:
            continue
