"""Becoming a user without rights, or with a single one. For a worker: there is no way back."""

from __future__ import annotations

import ctypes
import os
import struct

from watchdog.evidence.rights import CAP_SYS_PTRACE

NOBODY = 65534
PR_SET_KEEPCAPS = 8
LINUX_CAPABILITY_VERSION_3 = 0x20080522


def become_nobody() -> None:
    """Without any capability."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def become_nobody_who_may_trace() -> None:
    """With CAP_SYS_PTRACE and no other capability."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0
    become_nobody()
    header = struct.pack("Ii", LINUX_CAPABILITY_VERSION_3, 0)
    ptrace = 1 << CAP_SYS_PTRACE
    assert libc.capset(header, struct.pack("6I", ptrace, ptrace, 0, 0, 0, 0)) == 0
