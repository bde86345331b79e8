"""Records of what we have begun and must not leave half done: a file for each, in a directory for each kind, beside the
ledger. Whoever comes after us, whatever became of us, knows by them what to finish.

A record is written as a whole and is on the disk (fsync of file and directory) before `put` returns. It tells of its
boot: what an earlier one had begun is over. What it holds is told as it is; who reads it believes nothing of it that is
not of the right type.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from watchdog.helper import ledger

MAX_RECORD = 4096  # bytes that are read of one


def beside(path: str, kind: str) -> str:
    """Where the records of this kind are that go with the ledger at `path`."""
    return os.path.join(os.path.dirname(path), kind)


def put(directory: str, name: str, **told: Any) -> None:
    """Have it on the disk, with the boot and the time. `name` has to be a file's alone. Raises `OSError`."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
        _sync(os.path.dirname(directory))
    now = ledger.now()
    text = json.dumps({"boot_id": now.boot_id, "wall": now.wall, **told})
    ledger.write(os.path.join(directory, name), text.encode() + b"\n")


def forget(directory: str, name: str) -> None:
    """It is over; harmless where that is known already. Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, name))
        _sync(directory)


def names(directory: str, is_ours: Callable[[str], bool]) -> list[str]:
    """Those of this boot, and those that do not tell of which. Records of an earlier boot are removed on the way."""
    try:
        candidates = sorted(filter(is_ours, os.listdir(directory)))
    except OSError:  # there is none, so there never was a record, or nobody can read it
        return []
    boot_id = ledger.now().boot_id
    found = []
    for name in candidates:
        if str(content(directory, name).get("boot_id", boot_id)) == boot_id:
            found.append(name)
        else:
            with contextlib.suppress(OSError):  # it does no harm
                forget(directory, name)
    return found


def content(directory: str, name: str) -> Mapping[str, Any]:
    """What it tells; nothing where it can't be read or understood."""
    try:
        file = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        found = json.loads(os.read(file, MAX_RECORD))
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        os.close(file)
    return found if isinstance(found, dict) else {}


def _sync(directory: str) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
