"""Whether the daemon could connect to a Unix socket, as far as the modes on the way to it tell: it is nobody special.

Sources: unix(7) (connecting takes the right to write to the socket), systemd.exec(5) (ProtectHome=).
"""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

HIDDEN = ("/home/", "/root/", "/run/user/")  # from the daemon, by its unit's ProtectHome=
ELSEWHERE = "not seen from here: it lies in another mount namespace, or was renamed or removed"


def unreachable(path: str) -> str:
    """Why the daemon could not connect; empty where it could."""
    if path.startswith("@"):
        return "no name for a config: it has a zero byte in it" if "@" in path[1:] else ""
    if path.startswith(HIDDEN):
        return "hidden from the daemon (ProtectHome=)"
    try:
        for place in reversed(Path(path).parents):
            if not place.stat().st_mode & stat.S_IXOTH:
                return f"only some may enter {place}"
        found = Path(path).stat()
    except OSError:
        return ELSEWHERE
    if not stat.S_ISSOCK(found.st_mode):
        return ELSEWHERE
    return "" if found.st_mode & stat.S_IWOTH else _closed(found)


def _closed(found: os.stat_result) -> str:
    group = _group(found.st_gid)
    if not found.st_mode & stat.S_IWGRP:
        return "only its owner may connect"
    if found.st_gid == 0:
        return "only root's group may connect"
    return (
        f"only group {group} may connect; SupplementaryGroups={group} lets the daemon (systemctl edit epoll-watchdog)"
    )


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
