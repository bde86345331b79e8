"""What takes long to build, kept below .cache under a hash of all that goes into it."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path


def kept(top: Path, name: str, build: Callable[[Path], None], most: int) -> Path:
    """The directory `top/name`, made by `build` where that has not been done yet; at most so many are kept.

    Only one process builds at a time. Raises what `build` raises, which must leave no directory then.
    """
    where = top / name
    top.mkdir(parents=True, exist_ok=True)
    with (top / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not where.exists():
            build(where)
            for older in sorted(top.glob("*/"), key=lambda each: each.stat().st_mtime)[:-most]:
                shutil.rmtree(older)
    return where
