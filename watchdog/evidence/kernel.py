"""Kernels that are known to lose wake-ups of epoll, and whether the running one is among them.

Rules. A row is of a bug in which an event is ready and the waiter of an epoll is not woken: what a nudge cures. (So not
the pipe and sockmap edges that never reach an epoll, nor the endless loop of 6.14.4, nor what only a weakly ordered CPU
could do and nobody has seen.) A kernel is judged by its stable level, "5.4.212". Where its number hides the level
nothing is guessed: Debian tells it in uname -v ("Debian 5.10.218-1"), Ubuntu in /proc/version_signature
("Ubuntu 5.4.0-132.148-generic 5.4.212"), Red Hat, SUSE and Oracle nowhere. A distribution may have taken a fix alone;
of Ubuntu's own kernels it is known by their ABI number, of its derivatives (aws, gcp, …) it is not, and told so.

Sources: kernel-facts.md, section 1; the rows have their own. That the fix of `timed-out` is in 5.10.4: it was queued
for 5.10 on 30 December 2020, the day of that release.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from watchdog.reading import Advisory
from watchdog.target import contents

Level = tuple[int, int, int]  # 5.4.212; of a release candidate the last is -1
Ranges = tuple[tuple[Level, Level], ...]  # from the first that has the bug to the first that has it no more

SIGNATURE = "/proc/version_signature"


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug that loses wake-ups, and which levels have it."""

    advisory: Advisory
    ranges: Ranges

    def has(self, level: Level) -> bool:
        """Whether this level has it."""
        return any(first <= level < fixed for first, fixed in self.ranges)


AUTOREMOVE = Bug(
    Advisory(
        id="autoremove",
        text="a waiter that still ran when an event came leaves the epoll's queue: it sleeps, and no event wakes it",
        fixed_in="5.4.226; Ubuntu 5.4.0-135.152; azure after 5.4.0-1095",
        source="launchpad.net/bugs/1996678, github.com/dotnet/runtime/issues/79446 (cf2db24ec4b8 without 289caf5d8f6c)",
    ),
    (((5, 4, 211), (5, 4, 226)),),
)
TIMED_OUT = Bug(
    Advisory(
        id="timed-out",
        text="of several waiters on one epoll, one that times out may swallow the wake-up of another",
        fixed_in="5.11, 5.10.4, 5.4.226; Ubuntu 5.4.0-135.152",
        source="lkml.kernel.org/r/20201106231635.3528496-2-soheil.kdev@gmail.com (289caf5d8f6c)",
    ),
    (((5, 0, 0), (5, 4, 226)), ((5, 5, -1), (5, 10, 4))),
)
RWLOCK = Bug(
    Advisory(
        id="rwlock",
        text="an event that epoll_ctl makes ready may come between a waiter's look and its sleep",
        fixed_in="5.6, 5.5.12, 5.4.28",
        source="bugzilla.kernel.org/show_bug.cgi?id=205933, github.com/chriskohlhoff/asio/issues/452 (1b53734bd0b2)",
    ),
    (((5, 1, 0), (5, 4, 28)), ((5, 5, -1), (5, 5, 12)), ((5, 6, -1), (5, 6, 0))),
)
OVERLOOKED = Bug(
    Advisory(
        id="overlooked",
        text="a waiter may find both lists of ready events empty while they are being moved, and sleep",
        fixed_in="5.7",
        source="lkml.kernel.org/r/20200505145609.1865152-1-rpenyaev@suse.de (65759097d804)",
    ),
    (((5, 5, -1), (5, 7, 0)),),
)
BUGS = (AUTOREMOVE, TIMED_OUT, RWLOCK, OVERLOOKED)

# Ubuntu's 5.4 by its ABI: which of its kernels have `autoremove`, and from which on two of the bugs are fixed.
_UBUNTU = re.compile(r"5\.4\.0-(\d{1,6})-(generic|generic-lpae|lowlatency)")
_UBUNTU_BAD, _UBUNTU_FIXED = range(132, 135), 135
_FIXED_BY_UBUNTU = (AUTOREMOVE, TIMED_OUT)
_AZURE_BAD = "5.4.0-1095-azure"

_NUMBER = r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})"
_TOLD = (re.compile(rf"^Ubuntu \S+ {_NUMBER}\s*$"), re.compile(rf"\bDebian {_NUMBER}(?=[-+~])"))
_RELEASE = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(.*)", re.DOTALL)
_HIDDEN = re.compile(r"\.el\d|-default$")  # Red Hat, Oracle; SUSE


def running() -> tuple[Advisory, ...]:
    """Of the kernel that runs here."""
    host = os.uname()
    try:
        signature = os.fsdecode(contents(SIGNATURE))
    except OSError:
        signature = ""
    return advisories(host.release, signature or host.version)


def advisories(release: str, version: str) -> tuple[Advisory, ...]:
    """Of a kernel, by its uname -r and its uname -v (or, where there is one, its /proc/version_signature)."""
    ubuntu = _UBUNTU.fullmatch(release)
    if release == _AZURE_BAD or (ubuntu and int(ubuntu[1]) in _UBUNTU_BAD):
        found = {AUTOREMOVE: AUTOREMOVE.advisory}
    else:
        found = {}
    level = _level(release, version)
    fixed = _FIXED_BY_UBUNTU if ubuntu and int(ubuntu[1]) >= _UBUNTU_FIXED else ()
    derived = version.startswith("Ubuntu ") and not ubuntu
    for bug in BUGS:
        if level is not None and bug not in found and bug not in fixed and bug.has(level):
            found[bug] = _perhaps(bug.advisory) if derived and bug in _FIXED_BY_UBUNTU else bug.advisory
    return tuple(found.values())


def _perhaps(known: Advisory) -> Advisory:
    text = f"perhaps, for nobody tells whether this build has Ubuntu's own fix: {known.text}"
    return Advisory(known.id, text, known.fixed_in, known.source)


def _level(release: str, version: str) -> Level | None:
    """The stable level; None where the kernel's number hides it."""
    for told in _TOLD:
        if match := told.search(version):
            return int(match[1]), int(match[2]), int(match[3])
    match = _RELEASE.fullmatch(release)
    if match is None or _HIDDEN.search(release):
        return None
    major, minor, patch, rest = int(match[1]), int(match[2]), match[3], match[4]
    if rest.startswith("-rc"):
        return major, minor, -1
    if patch in (None, "0") and re.match(r"-\d", rest):  # a distribution's own number instead: 5.10.0-30-amd64
        return None
    return major, minor, int(patch or 0)
