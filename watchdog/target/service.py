"""A service, however it is named: who may be one, which process it has now, and all that belong to it."""

from __future__ import annotations

from collections.abc import Collection

from watchdog.model import Epoch
from watchdog.target.cgroup import cgroup_epoch, cgroup_pids, named_cgroup
from watchdog.target.match import check_fits, match_epoch
from watchdog.target.never import check_cgroup, check_process, is_never_touched
from watchdog.target.pidfile import pidfile_epoch
from watchdog.target.process import check_alive, descendants, ended, lives
from watchdog.target.unit import resolved, unit_cgroup, unit_pids
from watchdog.target.words import Gone, NeverATarget, Refusal, Target


def check_allowed(target: Target) -> None:
    """Raises `NeverATarget` for a name that is of what the host or the watchdog itself stands on. It reads little."""
    if target.unit and (is_never_touched(target.unit) or is_never_touched(resolved(target.unit))):
        raise NeverATarget(f"{target.unit} is never touched")
    if target.cgroup:
        check_cgroup(target.cgroup)


def find(target: Target, never: Collection[int] = ()) -> Epoch | None:
    """The main process of a service that is no unit; None where it has none. A unit's main process systemd tells.

    `never` are left out, where it is looked for among all processes. Raises a `Refusal` where it can't be told which
    one it is, or it is never touched.
    """
    check_allowed(target)
    if target.pidfile is not None:
        return pidfile_epoch(target.pidfile)
    if target.process is not None:
        return match_epoch(target.process, never)
    if target.cgroup is not None:
        return cgroup_epoch(target.cgroup)
    return None


def processes(target: Target, main: Epoch) -> tuple[Epoch, ...]:
    """All processes of the service, `main` first. Raises a `Refusal` where `main` is not of it, or not any more.

    Raises `NeverATarget` where any of them is what the host or the watchdog itself stands on: then it is not what its
    name says, and nothing of it is touched.
    """
    check_allowed(target)
    check_alive(main)
    check_process(main.pid)
    pids = _pids(target, main)
    check_alive(main)  # what was read above was read of this very life
    return (main, *lives(pid for pid in pids if pid != main.pid))


def _pids(target: Target, main: Epoch) -> tuple[int, ...]:
    if target.unit is not None:
        return unit_pids(target.unit, main.pid)
    if target.cgroup is not None:
        return cgroup_pids(target.cgroup, main.pid)
    if target.process is not None:
        check_fits(target.process, main.pid)
    elif target.pidfile is not None:
        _check_named(target.pidfile, main)
    else:
        return ()
    below = []
    for pid in descendants(main.pid):
        try:
            check_process(pid)
            below.append(pid)
        except Gone:
            continue
    return tuple(below)


def _check_named(pidfile: str, main: Epoch) -> None:
    named = pidfile_epoch(pidfile)
    if named is None or (named.pid, named.start_time) != (main.pid, main.start_time):
        raise Gone(f"pidfile {pidfile} names {named.pid if named else 'no living process'}, not {main.pid}")


def check_runs(target: Target, main: Epoch) -> None:
    """Raises a `Refusal` unless this very life is one of the service, and goes on."""
    check_alive(main)
    if ended(main.pid):
        raise Gone(f"process {main.pid} has ended, and its parent has not taken note")
    processes(target, main)


def cgroup_of(target: Target, main: int) -> str | None:
    """Where the service's own cgroup is in cgroup v2, which `main` is a process of; None where it has none. `Gone`."""
    if target.unit is not None:
        return unit_cgroup(target.unit, main)
    if target.cgroup is not None:
        try:
            return named_cgroup(target.cgroup)
        except Refusal:
            return None
    return None
