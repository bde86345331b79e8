"""A disk that hangs: a FUSE mount whose server never says a word. fuse(4), mount(2)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def hung_mount(directory: Path) -> Iterator[Callable[[], None]]:
    """Whoever looks below `directory` waits, until what this yields is called: then nothing can be read there."""
    with Path("/dev/fuse").open("rb+", buffering=0) as server:
        options = f"fd={server.fileno()},rootmode=40000,user_id=0,group_id=0"
        if _libc.mount(b"hung", os.fsencode(directory), b"fuse", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), f"mount {directory}")
        try:
            yield server.close
        finally:
            server.close()
            _libc.umount2(os.fsencode(directory), MNT_DETACH)
