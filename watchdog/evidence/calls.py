"""Which system call a thread is in, and of an epoll wait: on which epoll, and whether it has a time-out.

Rules: nothing but the call's number, the epoll's descriptor and whether there is a time-out is kept of
/proc/PID/task/TID/syscall: its pointers would undo ASLR. A 32-bit program on a 64-bit kernel numbers its calls
otherwise, and nothing in that file tells of it: of such a program the names are wrong.

Sources: proc_pid_syscall(5), proc_pid_wchan(5); arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h (arm64, which has none of the oldest calls; written "-").
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from watchdog.evidence.pinned import read, state
from watchdog.target import Refusal

# Name, number on x86-64, number on arm64: the calls that a thread of a server sleeps in, and those that touch a disk.
_TABLE = """
epoll_wait 232 -          epoll_pwait 281 22        epoll_pwait2 441 441      io_uring_enter 426 426
poll 7 -                  ppoll 271 73              select 23 -               pselect6 270 72
futex 202 98              futex_waitv 449 449       futex_wait 455 455        restart_syscall 219 128
nanosleep 35 101          clock_nanosleep 230 115   pause 34 -                sched_yield 24 124
rt_sigtimedwait 128 137   rt_sigsuspend 130 133     wait4 61 260              waitid 247 95
accept 43 202             accept4 288 242           connect 42 203            shutdown 48 210
recvfrom 45 207           recvmsg 47 212            recvmmsg 299 243          sendfile 40 71
sendto 44 206             sendmsg 46 211            sendmmsg 307 269          splice 275 76
read 0 63                 readv 19 65               pread64 17 67             preadv 295 69
write 1 64                writev 20 66              pwrite64 18 68            pwritev 296 70
open 2 -                  openat 257 56             openat2 437 437           close 3 57
stat 4 -                  lstat 6 -                 newfstatat 262 79         statx 332 291
unlink 87 -               unlinkat 263 35           rename 82 -               renameat2 316 276
getdents64 217 61         ftruncate 77 46           fallocate 285 47          ioctl 16 29
fsync 74 82               fdatasync 75 83           sync_file_range 277 84    msync 26 227
flock 73 32               fcntl 72 25               io_getevents 208 4        io_pgetevents 333 292
semop 65 193              semtimedop 220 192        msgrcv 70 188             msgsnd 69 189
mmap 9 222                munmap 11 215             madvise 28 233            mprotect 10 226
clone 56 220              clone3 435 435            vfork 58 -                execve 59 221
"""


def names_of(machine: str) -> Mapping[bytes, str]:
    """The calls by their numbers on that machine, as uname(2) names it; none on one that is not known here."""
    words = _TABLE.split()
    numbers = {"x86_64": words[1::3], "aarch64": words[2::3]}.get(machine, [])
    return {number.encode(): name for name, number in zip(words[::3], numbers, strict=False) if number != "-"}


NAMES = names_of(os.uname().machine)  # empty on a machine whose numbers are not known here
EPOLL_WAITS = frozenset({"epoll_wait", "epoll_pwait", "epoll_pwait2"})
EPOLL_WCHANS = (b"ep_poll", b"do_epoll_wait")


class Unreadable(Refusal):
    """The kernel tells neither the system call nor where in the kernel the thread waits."""

    hint = "a kernel with CONFIG_HAVE_ARCH_TRACEHOOK, or with CONFIG_KALLSYMS, is needed"


class Call(NamedTuple):
    """A system call, by its name or else its number; "" for none. `epfd` is None where only wchan told of the wait."""

    name: str
    epfd: int | None = None
    finite: bool = False  # an epoll wait with a time-out: it heals itself


NONE = Call("")
BY_WCHAN = Call("epoll_wait")


def parse(text: bytes, names: Mapping[bytes, str] = NAMES) -> Call:
    """What a `syscall` file tells. A thread that runs ("running") or sleeps in no call ("-1 …") is in none."""
    fields = text.split()
    if len(fields) < 7:
        return NONE
    name = names.get(fields[0])
    if name is None:
        return Call(fields[0].decode())
    if name not in EPOLL_WAITS:
        return Call(name)
    timeout = int(fields[4], 16)
    infinite = timeout == 0 if name == "epoll_pwait2" else bool(timeout & 0x80000000)
    return Call(name, int(fields[1], 16) & 0xFFFFFFFF, not infinite)


def epoll_wait(task: int) -> Call | None:
    """The epoll wait that the thread (an open /proc/PID/task/TID) is in; None: it does something else.

    Raises `Gone`, `PermissionError`, `Unreadable`.
    """
    try:
        text = read(task, "syscall")
    except (FileNotFoundError, PermissionError) as error:
        # No such file: an older or odd kernel. EACCES: a user with CAP_SYS_PTRACE alone; the file's mode is 0400.
        return _by_wchan(task, error)
    if not NAMES:
        return _by_wchan(task, FileNotFoundError())
    call = parse(text)
    return call if call.name in EPOLL_WAITS else None


def _by_wchan(task: int, error: OSError) -> Call | None:
    if state(task) == "R":
        return None
    where = read(task, "wchan")
    if where in EPOLL_WCHANS:
        return BY_WCHAN
    if where not in (b"0", b""):
        return None
    if isinstance(error, PermissionError):
        raise error
    raise Unreadable("the kernel does not tell which system call it is in")
