"""What we have frozen, as the disk has it: a file for each unit, there before the freeze and gone after the thaw.

So whoever comes after us, whatever became of us, knows what to thaw. Nothing here is believed but a name that can only
be a service's. A record of an earlier boot tells of nothing that is still frozen.

    frozen/redis-server.service      {"boot_id": "…", "wall": "2026-01-31T12:00:00Z"}

Source: unit_name_is_valid() in systemd's src/basic/unit-name.c.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from watchdog.helper import records
from watchdog.target import Refusal

DIRECTORY = "frozen"  # beside the ledger
MAX_NAME = 255  # bytes, UNIT_NAME_MAX
_SERVICE = re.compile(r"[A-Za-z0-9:_.\\@-]+\.service")


class CannotFreeze(Refusal):
    """Nothing can freeze this service on this host, now or later."""

    hint = (
        "it takes a .service of systemd's, cgroup v2 alone (no v1 beside it), and a systemd that calls off a freeze "
        "without harm: 252.39 to 255, or 257.9 and later"
    )


class FrozenAlready(Refusal):
    """Somebody else has frozen the unit: to thaw it is not for us."""

    hint = "`systemctl thaw UNIT` lets it go on"


class Busy(Refusal):
    """systemd does not freeze the unit now."""

    hint = "see `systemctl status UNIT` and `systemctl list-jobs`"


class TooLate(Refusal):
    """What makes sure of the thaw is not there in time: nothing was frozen."""

    hint = "the host is starved or its disk hangs: see /proc/pressure"


def beside(path: str) -> str:
    """Where the records are that go with the ledger at `path`."""
    return records.beside(path, DIRECTORY)


def is_service(name: str) -> bool:
    """Whether this can be the name of a service, and of a file, and of nothing else."""
    return len(name) <= MAX_NAME and _SERVICE.fullmatch(name) is not None


def record(directory: str, unit: str) -> None:
    """Have it on the disk that this unit is about to be frozen. Raises `OSError`; `ValueError` for any other name."""
    if not is_service(unit):
        raise ValueError(f"no service has the name {unit!r}")
    records.put(directory, unit)


def forget(directory: str, unit: str) -> None:
    """It is thawed; harmless where that is known already. Raises `OSError`."""
    records.forget(directory, unit)


def recorded(directory: str) -> list[str]:
    """The units that may be frozen by us still; one whose record tells nothing counts: a thaw too many does no harm."""
    return records.names(directory, is_service)


def tell(failures: Mapping[str, str]) -> None:
    """On stderr, what is frozen still: somebody has to know."""
    for unit, why in failures.items():
        print(f"epoll-watchdog helper: {unit} may be frozen by us still: {why}", file=sys.stderr, flush=True)
