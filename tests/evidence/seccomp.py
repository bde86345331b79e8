"""A seccomp filter that forbids one system call, as a unit's SystemCallFilter= or a container's profile does.

For a worker: there is no way back. Sources: seccomp(2), linux/filter.h, linux/seccomp.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000
BPF_LD_W_ABS = 0x20  # the first word of struct seccomp_data is the call's number
BPF_JMP_JEQ_K = 0x15
BPF_RET_K = 0x06


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def forbid(call: int, code: int) -> None:
    """From now on, `call` fails with the error `code` in this process."""
    instructions = [
        (BPF_LD_W_ABS, 0, 0, 0),
        (BPF_JMP_JEQ_K, 0, 1, call),
        (BPF_RET_K, 0, 0, SECCOMP_RET_ERRNO | code),
        (BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW),
    ]
    code_of_it = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code_of_it)
    program = _Program(len(instructions), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0, ctypes.get_errno()


if __name__ == "__main__":  # CALL ERRNO COMMAND…: become the command, under that filter
    forbid(int(sys.argv[1]), int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])
