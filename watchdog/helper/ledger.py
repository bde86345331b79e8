"""The helper's own account of how often it has acted: a hijacked or confused brain gains nothing by asking more often.

Rules: a use is written, and on the disk (fsync of file and directory), before the act; where that fails, what is kept
here in memory still counts. No file is an empty ledger; one that can't be understood is an error, never an empty one. A
time counts by CLOCK_BOOTTIME of its boot. A use of an earlier boot counts as made at the start of this one: it can't be
younger than that, whatever the wall clock says by now, so nothing stricter can be true.

    {"version": 1, "uses": {"redis": {"nudge": [{"boot_id": "…", "boottime": 912.3, "wall": "2026-01-31T12:00:00Z"}]}}}

Sources: clock_gettime(2); fsync(2) and rename(2); random(4) on the boot id.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass

from watchdog.budget import left
from watchdog.model import Budget, Rung
from watchdog.target import contents

VERSION = 1
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class LedgerUnreadable(Exception):
    """There is a ledger and it can't be understood: nothing may be done until somebody has looked at it."""


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a remedy. The wall clock (ISO 8601) is for people."""

    boot_id: str
    boottime: float
    wall: str


def now() -> Use:
    """This moment."""
    boot_id = contents(BOOT_ID).decode("ascii").strip()
    return Use(boot_id, time.clock_gettime(time.CLOCK_BOOTTIME), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


class Ledger:
    """The uses of each service's remedies."""

    def __init__(self, uses: dict[str, dict[Rung, list[Use]]]) -> None:
        self._uses = uses

    @classmethod
    def read(cls, path: str) -> Ledger:
        """The ledger in the file; an empty one where there is none. Raises `LedgerUnreadable`."""
        try:
            text = contents(path)
        except FileNotFoundError:
            return cls({})
        except OSError as error:
            raise LedgerUnreadable(f"ledger {path} can't be read: {error.strerror}") from None
        try:
            return cls(_parse(text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise LedgerUnreadable(f"ledger {path} can't be understood; look at it, then remove it") from None

    def left(self, service: str, rung: Rung, budget: Budget, at: Use) -> int:
        """How many uses are left at that moment."""
        uses = self._uses.get(service, {}).get(rung, [])
        return left(budget, tuple(_in_this_boot(use, at) for use in uses), at.boottime)

    def spend(self, service: str, rung: Rung, budget: Budget, at: Use) -> None:
        """Count a use, and forget those that no longer count."""
        uses = self._uses.setdefault(service, {})
        uses[rung] = [use for use in uses.get(rung, []) if at.boottime - _in_this_boot(use, at) < budget.interval]
        uses[rung].append(at)

    def refund(self, service: str, rung: Rung, at: Use) -> None:
        """Take a use back that came to nothing."""
        self._uses[service][rung].remove(at)

    def text(self) -> bytes:
        """The file's content."""
        uses_of = {
            service: {rung.value: [_plain(use) for use in uses] for rung, uses in remedies.items()}
            for service, remedies in self._uses.items()
        }
        return json.dumps({"version": VERSION, "uses": uses_of}).encode() + b"\n"


def write(path: str, text: bytes) -> None:
    """Put the text in place of the file as a whole, and on the disk. Raises `OSError`."""
    draft = path + ".new"
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        rest = text
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    finally:
        os.close(file)
    os.replace(draft, path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _in_this_boot(use: Use, at: Use) -> float:
    return use.boottime if use.boot_id == at.boot_id else 0.0


def _plain(use: Use) -> dict[str, str | float]:
    return {"boot_id": use.boot_id, "boottime": use.boottime, "wall": use.wall}


def _parse(text: bytes) -> dict[str, dict[Rung, list[Use]]]:
    content = json.loads(text)
    if content["version"] != VERSION:
        raise ValueError("a version that is not ours")
    return {
        service: {
            Rung(rung): [Use(str(use["boot_id"]), float(use["boottime"]), str(use["wall"])) for use in uses]
            for rung, uses in remedies.items()
        }
        for service, remedies in content["uses"].items()
    }
