"""The journal probe: whether the service wrote to the journal lately. sd_journal_open(3), systemd.journal-fields(7).

Rules of this file. Which entries are the service's: those of its unit's present life, by _SYSTEMD_INVOCATION_ID, which
journald itself adds, from the cgroup of whoever wrote: so of every process of the unit, in sub-cgroups too, and of no
earlier life. What systemd says of the unit is not among them. Of a service that is no unit: those of its main process.

Only the newest entry is looked for, and of it only the time: its reception by CLOCK_MONOTONIC, which nobody sets. That
takes 6 µs in one journal file, 12 in 41, whatever the entry holds; the thread costs 150 more. One Reader for the
process (0.4 MiB for one file, 5 for 41), used by one thread at a time, for a disk may hang; every call in which it
could is one that leaves the interpreter to others meanwhile (_reader.c of systemd-python).
"""

from __future__ import annotations

import functools
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from watchdog import target as processes
from watchdog.clock import Clock
from watchdog.model import Epoch, Kind, Observation, Plane, Road, Strength
from watchdog.probes.aside import Aside
from watchdog.probes.attempt import Finding, Found, observe
from watchdog.probes.deadline import Deadline
from watchdog.probes.rights import join
from watchdog.settings import Seconds, check_above_zero, format_duration

PLACES = ("/run/log/journal", "/var/log/journal")
UNIT = r"[A-Za-z0-9:_.\\@-]+\.(service|scope|socket|mount|swap)"  # those whose processes write entries
MATCH = r"(?!__)[A-Z0-9_]{1,64}=[^\0]+"  # sd_journal_add_match(3); fields with two underscores are not matched


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """An entry must have come `within` that time. `unit` is another unit than the service's own.

    `match` narrows it: each is FIELD=value; of one field any may hold, of several fields all must.
    """

    within: Seconds = 60.0
    unit: str | None = None
    match: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_above_zero("within", self.within, "1m")
        if self.unit is not None and not re.fullmatch(UNIT, self.unit):
            raise ValueError(
                f'unit: "{self.unit}" is no unit that writes; write it as systemctl shows it, such as "web.service"'
            )
        for match in self.match:
            if not re.fullmatch(MATCH, match, re.DOTALL):
                raise ValueError(f'match: "{match}" is no match; write FIELD=value, such as "SYSLOG_IDENTIFIER=web"')


def road(_settings: Settings) -> Road:
    """A witness of that very process."""
    return Road(Plane.WITNESS, strength=Strength.PROCESS)


def warnings(_settings: Settings) -> tuple[str, ...]:
    """Nothing."""
    return ()


def prepare(_settings: Settings) -> None:
    """Load systemd-python's reader."""
    import systemd.journal  # noqa: F401


async def probe(settings: Settings, target: Epoch | None, deadline: Deadline) -> Observation:
    """Look once."""
    return await observe(_attempt(settings, target, deadline), deadline)


async def _attempt(settings: Settings, target: Epoch | None, deadline: Deadline) -> Finding:
    if target is None:
        return Kind.ERROR, "the service has no process"
    deadline.ours = "its disk hangs: the journal was not read"
    newest = await _journal.newest(_matches(settings, target))
    return judge(settings, target, newest)


def _matches(settings: Settings, target: Epoch) -> tuple[str, ...]:
    if settings.unit is not None:
        whose = f"_SYSTEMD_UNIT={processes.resolved(settings.unit)}"
    elif target.invocation_id:
        whose = f"_SYSTEMD_INVOCATION_ID={target.invocation_id}"
    else:
        whose = f"_PID={target.pid}"
    return (whose, *settings.match)


def judge(settings: Settings, target: Epoch, newest: float | None) -> Finding:
    """What the time of the newest entry says of this life of the process; None: there is no entry of this boot."""
    expected = f"expected one within {format_duration(settings.within)}"
    lived = processes.age(target, Clock().now())
    age = max(0.0, time.monotonic() - newest) if newest is not None else float("inf")
    if age > lived:
        return Kind.SILENT, f"no entry since the process began {format_duration(lived)} ago, {expected}"
    if age > settings.within:
        return Kind.SILENT, f"the last entry came {format_duration(age)} ago, {expected}"
    return Kind.ALIVE, f"the last entry came {format_duration(age)} ago, read"


# --- the journal ------------------------------------------------------------------------------------------------------


class Journal:
    """The one reader of this process."""

    def __init__(self) -> None:
        self.aside = Aside("journal probe")
        self._reader: Any = None

    async def newest(self, matches: tuple[str, ...]) -> float | None:
        """When the newest entry of this boot came for which they hold, by CLOCK_MONOTONIC. Raises `Found`."""
        return await self.aside.run(functools.partial(self._newest, matches))

    def _newest(self, matches: tuple[str, ...]) -> float | None:
        try:
            if self._reader is None:
                self._reader = _opened()
            return _last(self._reader, matches)
        except OSError as error:
            self._reader = None
            why = os.strerror(error.errno) if error.errno else str(error)
            raise Found((Kind.ERROR, f"the journal cannot be read: {why}")) from None


_journal = Journal()


def close() -> None:
    """Let go of the reader, unless it hangs: a second one would hang with it."""
    global _journal
    if not _journal.aside.busy:
        _journal = Journal()


def _opened() -> Any:
    """A reader of the system's journal. Raises `OSError`; `Found` where there is nothing that it may read."""
    from systemd import journal

    reader = journal.Reader(flags=journal.LOCAL_ONLY | journal.SYSTEM_ONLY)
    if reader.has_persistent_files() or reader.has_runtime_files():
        return reader
    raise Found((Kind.ERROR, unreadable()))


def unreadable() -> str:
    """Why a reader found no file: sd_journal_open(3) does not say."""
    for place in PLACES:
        try:
            Path(place, Path("/etc/machine-id").read_text().strip(), "system.journal").stat()
        except PermissionError:
            pass
        except OSError:
            continue
        return f"may not read the journal: {join('systemd-journal')}"
    return f"there is no journal in {' or '.join(PLACES)}"


def _last(reader: Any, matches: tuple[str, ...]) -> float | None:
    reader.wait(0)  # follow what was rotated since; the first time it begins to watch
    reader.flush_matches()
    for match in matches:
        reader.add_match(match)
    reader.seek_tail()
    if not reader._previous(1):  # get_previous would also read every field, however long
        return None
    came = reader._get_monotonic()
    return came.timestamp / 1e6 if UUID(bytes=came.bootid) == UUID(Clock().boot_id()) else None
