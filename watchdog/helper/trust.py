"""Whom root obeys: a file counts only where nobody but root could have written it, or put another in its place.

So its owner is not enough: each directory and each symbolic link on the way to it is looked at too. In a directory with
the sticky bit, such as /tmp, nobody can exchange what is root's, but anybody can add what is missing.

Sources: path_resolution(7); inode(7), the sticky bit.
"""

from __future__ import annotations

import os
import stat

MAX_LINKS = 40  # as many as the kernel follows
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Untrusted(Exception):
    """Somebody else than root has a say over a path; in one line who could, and what mends it."""


def check(path: str) -> None:
    """Raises `Untrusted` unless only root could have put there what is at this absolute path, or nothing."""
    here, status = "/", os.lstat("/")
    _check(here, status)
    ahead, links = path.split("/")[::-1], 0
    while ahead:
        name = ahead.pop()
        if name in ("", "."):
            continue
        there = os.path.dirname(here) if name == ".." else os.path.join(here, name)
        try:
            found = os.lstat(there)
        except FileNotFoundError:
            break
        except OSError as error:
            raise Untrusted(f"{there}: {error.strerror}") from None
        _check(there, found)
        if not stat.S_ISLNK(found.st_mode):
            here, status = there, found
            continue
        links += 1
        if links > MAX_LINKS:
            raise Untrusted(f"{path} leads through more than {MAX_LINKS} symbolic links")
        target = os.readlink(there)
        ahead += target.split("/")[::-1]
        if target.startswith("/"):
            here, status = "/", os.lstat("/")
    if status.st_mode & _OTHERS:  # sticky or not: others could add what is not there yet
        raise _untrusted(here)


def _check(path: str, status: os.stat_result) -> None:
    link = stat.S_ISLNK(status.st_mode)
    if link and status.st_uid != 0:
        raise Untrusted(f"{path} is a symbolic link that uid {status.st_uid} can exchange: chown -h root {path}")
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_uid != 0 or (status.st_mode & _OTHERS and not sticky and not link):  # a link's mode says nothing
        raise _untrusted(path)


def _untrusted(path: str) -> Untrusted:
    return Untrusted(f"{path} can be written by others than root: chown root {path} && chmod go-w {path}")
