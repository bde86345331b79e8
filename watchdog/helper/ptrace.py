"""One thread is stopped and let go again at once, so that the system call it waits in returns EINTR: the nudge.

Rules, each of them paid for (kernel-facts.md, sections 2 and 3; `tests/helper/` shows them again):
- PTRACE_SEIZE, PTRACE_INTERRUPT, a bounded wait, PTRACE_DETACH. Never PTRACE_ATTACH: a tracer that dies after it leaves
  the service stopped. A seized thread runs on when its tracer ends: who uses this may be killed at any moment.
- A stop that is not ours is a signal on its way to the thread. It is handed on with the same number; then the kernel
  delivers it with its own siginfo.
- A stop is looked at and not consumed (WNOWAIT): the kernel keeps the signal's number until PTRACE_DETACH gives it, so
  not even a tracer killed between the two loses it.
- A thread that did not stop in time can't be let go by a request, only by the end of this process. Until then
  `Tracer.look_after` lets it go where it stopped late.
- All of it in one OS thread, in a process that lives for one nudge.

Source: ptrace(2), "Attaching and detaching", "Signal-delivery-stop", "PTRACE_EVENT stops"; waitid(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from collections.abc import Callable
from types import TracebackType

from watchdog.target import Gone, Refusal

PTRACE_POKEDATA = 5
PTRACE_DETACH = 17
PTRACE_GETREGSET = 0x4204
PTRACE_SETREGSET = 0x4205
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
NT_PRSTATUS = 1
INTERRUPTED = 128 << 8 | signal.SIGTRAP  # PTRACE_EVENT_STOP with SIGTRAP: our interrupt, and not a group-stop
WORD = 8  # bytes, that PTRACE_POKEDATA writes
WALL = 0x40000000  # __WALL: threads too, whatever their parent
ANY_CHANGE = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG | WALL

_libc = ctypes.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class NotStopped(Refusal):
    """The thread was interrupted and did not stop in time. It was let go."""

    hint = "it lacks CPU or sleeps uninterruptibly (D): see whether the host is overloaded or a disk hangs"


class Awake(Refusal):
    """Between two looks the thread left its epoll wait: it is awake, and a stop might break what it does now."""


_REGISTERS = """
r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs
"""


class Registers(ctypes.Structure):
    """user_regs_struct of x86-64 (sys/user.h)."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in _REGISTERS.split())


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def request(what: int, tid: int, data: int = 0, address: int = 0) -> None:
    """ptrace(2). Raises `OSError`."""
    if _ptrace(what, tid, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def registers(tid: int) -> Registers | None:
    """Of a stopped thread; None: it runs 32-bit code, whose registers are others. Raises `OSError`."""
    found = Registers()
    vector = _Vector(ctypes.addressof(found), ctypes.sizeof(found))
    request(PTRACE_GETREGSET, tid, ctypes.addressof(vector), NT_PRSTATUS)
    return found if vector.length == ctypes.sizeof(found) else None


def set_registers(tid: int, wanted: Registers) -> None:
    """Of a stopped thread; all of them at once. Raises `OSError`."""
    vector = _Vector(ctypes.addressof(wanted), ctypes.sizeof(wanted))
    request(PTRACE_SETREGSET, tid, ctypes.addressof(vector), NT_PRSTATUS)


def write(tid: int, address: int, data: bytes) -> None:
    """Into the memory of a stopped thread, by whole words, where it may only read as well. Raises `OSError`."""
    for at in range(0, len(data), WORD):
        request(PTRACE_POKEDATA, tid, int.from_bytes(data[at : at + WORD], "little"), address + at)


def _nothing() -> None:
    pass


class Tracer:
    """Nudges threads, one at a time. A context: inside it SIGCHLD, which tells of a stop, is blocked and waited for."""

    def __init__(self) -> None:
        self._late: set[int] = set()
        self._mask: set[int] = set()

    def __enter__(self) -> Tracer:
        self._mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD}))
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.look_after()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def nudge(
        self, tid: int, still_waits: Callable[[], bool], bound: float, at_stop: Callable[[], None] = _nothing
    ) -> int:
        """Stop the thread and let it go; how long that took, in ns (it stood still for less).

        `still_waits` is asked once the thread is seized: whether this is the thread that was meant, in its epoll wait.
        `at_stop` is called while it stands still; not where it stopped for something else than our interrupt.
        Raises `PermissionError` (seizing was refused), `Gone`, `Awake`, and `NotStopped` after `bound` seconds.
        """
        if tid not in self._late:  # else it is seized since an earlier time, and was not met in its wait
            self._seize(tid)
        self._late.discard(tid)
        try:
            if not still_waits():
                raise Awake(f"thread {tid} has left its epoll wait")
        except Refusal:
            self._late.add(tid)
            raise
        started = time.perf_counter_ns()
        self._interrupt(tid)
        status = self._stop(tid, started + int(bound * 1e9))
        if status is None:
            self._late.add(tid)
            raise NotStopped(f"thread {tid} did not stop within {bound * 1000:.0f} ms")
        try:
            if status == INTERRUPTED:
                at_stop()
        finally:
            self._let_go(tid, status)
        return time.perf_counter_ns() - started

    def look_after(self) -> None:
        """Let go what has stopped since it was given up."""
        for tid in list(self._late):
            try:
                status = self._stop(tid, 0)
                if status is None:
                    continue
                self._let_go(tid, status)
            except Gone:
                pass
            self._late.discard(tid)

    def _seize(self, tid: int) -> None:
        try:
            request(PTRACE_SEIZE, tid)
        except ProcessLookupError:
            raise Gone(f"there is no thread {tid}") from None

    def _interrupt(self, tid: int) -> None:
        try:
            request(PTRACE_INTERRUPT, tid)
        except OSError as error:
            # EIO: it is ending (ptrace_request() in kernel/ptrace.c); the wait that follows finds how.
            if error.errno not in (errno.ESRCH, errno.EIO):
                raise

    def _stop(self, tid: int, until_ns: int) -> int | None:
        """The thread's stop: the signal, or with an event, the event above it. None: it has not stopped by then."""
        while True:
            try:
                seen = os.waitid(os.P_PID, tid, ANY_CHANGE)
            except ChildProcessError:
                raise Gone(f"thread {tid} ended") from None
            if seen is not None:
                if seen.si_code in (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED):
                    os.waitpid(tid, os.WNOHANG | WALL)  # its own parent hears of it only after us
                    raise Gone(f"thread {tid} ended")
                return seen.si_status
            now = time.perf_counter_ns()
            if now >= until_ns:
                return None
            # Asleep at once. A spin keeps the thread from the CPU that it needs to stop on (100 threads, idle host:
            # longest stop 0.15 ms for 0.07); one that yields loses its own (3 busy programs on 2 CPUs: 234 ms for 34).
            signal.sigtimedwait({signal.SIGCHLD}, (until_ns - now) / 1e9)

    def _let_go(self, tid: int, status: int) -> None:
        event = status >> 8  # PTRACE_EVENT_STOP: our interrupt, or a group-stop, which outlives us without our help
        try:
            request(PTRACE_DETACH, tid, 0 if event else status)
        except ProcessLookupError:
            raise Gone(f"thread {tid} was killed") from None
