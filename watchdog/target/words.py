"""How a service is named, and why one can't be found or touched."""

from __future__ import annotations

from dataclasses import dataclass

from watchdog.model import Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What the process of a service that writes no pidfile is known by."""

    exe: str  # the absolute path of its executable
    args: tuple[str, ...] = ()  # words of its command line, in this order, among others
    user: str | None = None  # whom it runs as, a name or a number; None: anybody

    def __str__(self) -> str:
        return " ".join([self.exe, *self.args, *(["as", self.user] if self.user is not None else [])])


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
    drill: bool = False  # whether root may put it into a stall, to see it healed
    drill_under_seccomp: bool = False  # its seccomp filter lets epoll_create1, epoll waits and close pass

    def __str__(self) -> str:
        """What it is named by, in one line for people."""
        if self.process is not None:
            return f"process {self.process}"
        if self.cgroup is not None:
            return f"cgroup {self.cgroup}"
        return self.unit or self.pidfile or ""


class Refusal(Exception):
    """Why a process can't be found or touched. `hint` is what an operator can do about it, in one line, or empty."""

    hint = ""

    def with_hint(self) -> str:
        """Both in one line."""
        return f"{self}; {self.hint}" if self.hint else str(self)


class Gone(Refusal):
    """The process has ended, or its PID is another process' by now."""

    hint = "look for the service's present process: it has ended or was restarted"


class NotOfUnit(Refusal):
    """The process is not in the cgroup of the unit."""

    hint = "ask `systemctl status PID` which unit the process belongs to, and name that one"


class NotOfService(Refusal):
    """The process is not what the service's `process` or `cgroup` says."""

    hint = "look for the service's present process: it runs another program by now, or was moved"


class PidfileUnusable(Refusal):
    """The pidfile can't be read, holds no PID, or somebody could have written it who has no say over the process."""

    hint = "the pidfile and its directories must belong to root or to the user whom the process runs as (chown)"


class SeveralFit(Refusal):
    """More processes fit than one, and none of them descends from the others."""

    hint = "give args or user too, so that one fits, or name it by its pidfile, unit or cgroup"


class SeveralCgroups(Refusal):
    """More cgroups with processes fit than one."""

    hint = "write the path so that one fits"


class CantLook(Refusal):
    """Which process it is can't be found out here."""


class NeverATarget(Refusal):
    """The process or unit is one that the host or the watchdog itself stands on."""

    hint = "the watchdog does not touch PID 1, itself, the bus, or systemd's own daemons"
