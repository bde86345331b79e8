"""What would let this process reach a file: the drop-in to add, in words. systemd.exec(5), SupplementaryGroups=."""

from __future__ import annotations

import os
import stat
from pathlib import Path

UNIT = "epoll-watchdog.service"


def join(group: str) -> str:
    """How this process gets another group."""
    return f'add "[Service]", "SupplementaryGroups={group}" as a drop-in to {UNIT}'


def remedy(path: str, write: bool = False) -> str:
    """What would let it through the directories above `path`, and write to `path` itself. May wait for a disk."""
    from grp import getgrgid

    needs = [(place, os.X_OK, stat.S_IXGRP) for place in reversed(Path(path).parents)]
    needs += [(Path(path), os.W_OK, stat.S_IWGRP)] if write else []
    for place, need, bit in needs:
        if os.access(place, need):
            continue
        try:
            found = place.stat()
        except OSError as error:
            return f"{place}: {error.strerror}"
        if not found.st_mode & bit:
            return f"{place} has mode {stat.S_IMODE(found.st_mode):04o}, so no group may; the service must allow one"
        try:
            group = getgrgid(found.st_gid).gr_name
        except KeyError:
            group = str(found.st_gid)
        return join(group)
    return "a security module (AppArmor, SELinux) may forbid it"
