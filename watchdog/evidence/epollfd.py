"""Whether an epoll has something to tell, asked by a copy of it: the one reading that touches.

Rules: the copy is polled, once and without waiting, and closed; never epoll_wait(2) on it, which would take events
away. A poll consumes nothing (kernel-facts.md, section 0), yet it may wake a waiter that is still queued: so this is
read last. It is of exactly the process that is meant: the start time is looked at once the pidfd is open.

Sources: pidfd_open(2), pidfd_getfd(2) (since 5.6; it has the same number on x86-64 and arm64), poll(2).
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import select

from watchdog.evidence.descriptors import EVENTPOLL
from watchdog.evidence.pinned import now, open_directory
from watchdog.evidence.rights import explain
from watchdog.model import Epoch
from watchdog.reading import Lack, Sample
from watchdog.target import Gone, Refusal, check_alive

SYS_PIDFD_GETFD = 438

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class NoCopies(Refusal):
    """The kernel has no pidfd_getfd, or a seccomp filter says so."""

    hint = "Linux 5.6 or later is needed; without it the other forms of the proof remain"


class FilterForbids(Refusal):
    """A seccomp filter forbids it to us, whatever our rights."""

    hint = "SystemCallFilter= of the helper's unit, or the container's seccomp profile, must allow pidfd_getfd"


class NotAnEpoll(Refusal):
    """The descriptor was closed, or is of another kind by now."""

    hint = "the process has changed meanwhile: read it again"


class CopyFailed(Refusal):
    """No copy could be made, for a reason of our own."""

    hint = "look at the limits of the helper's own process"


def readable(epoch: Epoch, epfd: int) -> bool:
    """Whether an epoll of the process would tell of an event at once.

    Raises `Gone`, `NotAnEpoll`, `NoCopies`, `FilterForbids`, `CopyFailed`, and `rights`' refusals.
    """
    try:
        process = os.pidfd_open(epoch.pid)
        try:
            check_alive(epoch)  # so the pidfd is of this life, not of a later one
            copy = _pidfd_getfd(process, epfd)
        finally:
            os.close(process)
    except OSError as error:
        raise _refusal(error, epoch.pid, epfd) from None
    try:
        if os.readlink(f"/proc/self/fd/{copy}") != EVENTPOLL:
            raise NotAnEpoll(f"descriptor {epfd} is no epoll by now")
        poll = select.poll()
        poll.register(copy, select.POLLIN)
        return bool(poll.poll(0))
    finally:
        os.close(copy)


def with_copies(sample: Sample) -> Sample:
    """The sample with `readable` told of every epoll that watches something, or that a thread waits on."""
    epochs = {process.pid: Epoch(process.pid, process.started) for process in sample.processes}
    waited_on = {(thread.pid, thread.epfd) for thread in sample.threads}
    refused: dict[int, Refusal] = {}
    epolls = []
    for epoll in sample.epolls:
        found = None
        if (epoll.watches or (epoll.pid, epoll.fd) in waited_on) and epoll.pid not in refused:
            try:
                found = readable(epochs[epoll.pid], epoll.fd)
            except NotAnEpoll:
                pass
            except Refusal as refusal:
                refused[epoll.pid] = refusal
        epolls.append(dataclasses.replace(epoll, readable=found))
    lacks = [
        Lack(f"copies of epolls of process {pid}", f"{refusal}: {refusal.hint}") for pid, refusal in refused.items()
    ]
    return dataclasses.replace(sample, ended=now(), epolls=tuple(epolls), lacks=(*sample.lacks, *lacks))


def _pidfd_getfd(process: int, fd: int) -> int:
    copy = int(_libc.syscall(ctypes.c_long(SYS_PIDFD_GETFD), process, fd, 0))
    if copy < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return copy


def _refusal(error: OSError, pid: int, epfd: int) -> Refusal:
    """In words."""
    if error.errno == errno.ENOSYS:
        return NoCopies("the kernel makes no copies of descriptors (ENOSYS)")
    if error.errno == errno.ESRCH:
        return Gone(f"process {pid} has ended")
    if error.errno == errno.EBADF:
        return NotAnEpoll(f"descriptor {epfd} is closed by now")
    if error.errno != errno.EPERM:
        return CopyFailed(f"no copy of a descriptor could be made: {error.strerror}")
    if _filtered():
        return FilterForbids("a seccomp filter forbids it to copy descriptors")
    try:
        process = open_directory(f"/proc/{pid}")
    except FileNotFoundError:
        return Gone(f"process {pid} has ended")
    try:
        return explain(process)
    finally:
        os.close(process)


def _filtered() -> bool:
    """Whether not even a copy of a descriptor of our own may be made: rights are not what is missing."""
    ends = os.pipe()
    try:
        process = os.pidfd_open(os.getpid())
        try:
            os.close(_pidfd_getfd(process, ends[0]))
        finally:
            os.close(process)
    except PermissionError:
        return True
    finally:
        for end in ends:
            os.close(end)
    return False
