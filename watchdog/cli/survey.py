"""What `epoll-watchdog init` looks at: the services that systemd runs, and the sockets at which each of them listens.

Rules of this file. It only reads. A listening socket is a unit's where a process of that unit has it open; which
process that is, only root may see of all. What nobody could be found for is counted, and never guessed. Sockets of
other network namespaces than ours (of most containers) are not looked for: no probe of ours would reach them.

Sources: sock_diag(7), proc_pid_fd(5), cgroups(7), org.freedesktop.systemd1(5) (ListUnitsByPatterns).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from watchdog.cli.reachable import unreachable
from watchdog.evidence.descriptors import descriptors
from watchdog.evidence.pinned import open_directory
from watchdog.evidence.sockdiag import SockDiag
from watchdog.reading import Family, Queue
from watchdog.systemd import MANAGER, Bus
from watchdog.target import Gone, contents, unit_of


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket of a unit, and what the programs are called that have it open."""

    family: Family
    address: str  # as clients write it, but for the addresses of a whole host: "0.0.0.0:80", "[::]:80"
    programs: tuple[str, ...]
    closed: str = ""  # why the daemon could not connect to it; empty where it could


@dataclass(frozen=True, slots=True)
class Seen:
    """A unit that listens."""

    unit: str
    description: str
    listeners: tuple[Listener, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is. `silent` are running services at none of whose processes a listening socket was found."""

    listening: tuple[Seen, ...]
    silent: tuple[str, ...] = ()
    unowned: tuple[str, ...] = ()  # addresses whose owner could not be seen
    lacks: tuple[str, ...] = ()  # what could not be read, and why


@dataclass(slots=True)
class _Owners:
    """The processes that have sockets open, by inode. `hidden`: some process may not be looked at."""

    pids: dict[int, list[int]] = field(default_factory=dict)
    hidden: bool = False


async def survey(bus: Bus) -> Survey:
    """Look. Raises `BusUnavailable`, `CallError`: without systemd nobody can say what a unit is."""
    running = await _running(bus)
    with contextlib.closing(SockDiag()) as diag:
        found = diag.listeners()
    owners = _owners({queue.inode for queue in found.queues})
    by_unit: dict[str, dict[Queue, tuple[str, ...]]] = {}
    unowned = []
    for queue in found.queues:
        pids = owners.pids.get(queue.inode, [])
        if not pids and owners.hidden:
            unowned.append(queue.address)
        for unit, programs in _units(pids).items():
            by_unit.setdefault(unit, {})[queue] = programs
    listening = tuple(
        Seen(unit, running.get(unit, ""), _listeners(queues)) for unit, queues in sorted(by_unit.items()) if unit
    )
    silent = () if owners.hidden else tuple(sorted(running.keys() - by_unit.keys()))
    lacks = tuple(f"{lack.what}: {lack.reason}" for lack in found.lacks)
    return Survey(listening, silent, tuple(sorted(unowned)), lacks)


async def _running(bus: Bus) -> dict[str, str]:
    """The services that run, with what they say that they are."""
    rows = (await bus.call(MANAGER, "ListUnitsByPatterns", "asas", ["running"], ["*.service"]))[0]
    return {row[0]: row[1] for row in rows}


def _listeners(queues: Mapping[Queue, tuple[str, ...]]) -> tuple[Listener, ...]:
    """Each address once: with SO_REUSEPORT it has several sockets."""
    found = {(queue.family, queue.asked_at): programs for queue, programs in queues.items()}
    return tuple(
        Listener(family, address, programs, unreachable(address) if family is Family.UNIX else "")
        for (family, address), programs in sorted(found.items())
    )


def _units(pids: Iterable[int]) -> dict[str, tuple[str, ...]]:
    """The units of the processes, each with the names of its programs. What ended meanwhile is left out."""
    found: dict[str, tuple[str, ...]] = {}
    for pid in pids:
        with contextlib.suppress(Gone, OSError):
            unit = unit_of(pid)
            found[unit] = tuple(dict.fromkeys((*found.get(unit, ()), *_names(pid))))
    return found


def _names(pid: int) -> Iterable[str]:
    """What a process is called: by itself, and by its executable, which only root and its own user may see."""
    yield os.fsdecode(contents(f"/proc/{pid}/comm")).rstrip("\n")
    with contextlib.suppress(OSError):
        yield os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")  # noqa: PTH119, PTH115


def _owners(inodes: Set[int]) -> _Owners:
    """Who has these sockets open, as far as may be seen."""
    owners = _Owners()
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):  # noqa: PTH208
        try:
            directory = open_directory(f"/proc/{pid}")
        except OSError:
            continue  # it has ended
        try:
            for inode in inodes & set(descriptors(directory).sockets):
                owners.pids.setdefault(inode, []).append(pid)
        except PermissionError:
            owners.hidden = True
        except OSError:
            continue
        finally:
            os.close(directory)
    return owners
