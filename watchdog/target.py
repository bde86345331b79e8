"""From a name to pinned processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a `[service.NAME]` table says of the processes to guard and of how they are restarted.

    Exactly one of `unit` and `pidfile` is set. The processes of a unit are those of its cgroup; of a pidfile, the named
    process and its descendants. Without a unit, only `restart_command` (an argv, never a shell) can restart anything.
    """

    unit: str | None = None
    pidfile: str | None = None
    restart_command: tuple[str, ...] = ()
    also_restarts: tuple[str, ...] = ()  # units that a restart of this one may take along
