"""A detour: machine code on which a thread sleeps on a fresh, empty epoll instead of its own, until it gets EINTR.

Some 70 bytes of code are written behind the end of the process' vdso; a thread stopped out of its epoll wait is sent
there by one change of its registers and let go. It makes an epoll, waits on it without a time-out, closes it, puts
every register back and jumps behind the application's own wait with -EINTR. x86-64 only. Why so:
- *Code*: after a system call a program may rely on all registers but rax, rcx and r11, and somebody must put rdi back
  when the wait ends. No tracer can stay for that: the nudge needs its place. glibc 2.36's epoll_wait does without rdi,
  rsi, rdx and r10 afterwards but keeps its cancellation type in r8 (objdump); inlined calls may need each of them. Here
  not even rcx and the flags differ. The stack is not touched, nor what is below it: a small one may end there.
- *In the vdso*: no system call is made in the application's name, whose result (an address, a descriptor) it would take
  for its wait's if we were killed before the registers are back; and no executable memory is mapped, which SELinux or
  seccomp may forbid. Nearly every process has a vdso, and it may be written for a debugger's breakpoints. Behind what
  its ELF headers tell of there is nothing: 1,504 bytes on 6.18 [measured], 20 detours. Used up, a refusal says so.
- *Never changed nor removed*: a detour depends on the call alone (its number, epoll, return address; a time-out only
  where rdx has no room for it) and holds no state. Threads share it, the next drill finds it there, and a signal
  handler that interrupted it can always return to it.

Killed at any moment (the thread was seized, so it then runs on), we leave it so that it can:
1. Seized, not stopped yet: nothing has changed.
2. Stopped: its wait returns EINTR, as by a nudge.
3. While the detour is written: as 2; nobody is on the way to it. A torn one matches nothing: the next goes behind it.
4. PTRACE_SETREGSET is one step. Before it: 2. After it the thread is on the detour, which needs nobody; a signal that
   was on its way finds it as if it were a function of the program.
There is no single-step and no stop at a system call: a SIGTRAP of both outlives a killed tracer and kills [measured].
Where no epoll can be made (EMFILE), wait and close fail with EBADF, and the application sees EINTR.

What stays in the process: these bytes, in a private copy of the vdso's last page, which forks inherit and an exec
drops. What it does not stand: pthread_cancel in C++ (without unwinding tables, destructors may not run), and another
thread that closes descriptors it did not open and then uses their numbers anew.

Sources: ptrace(2), vdso(7), elf(5), signal(7) (SA_RESTART does not restart epoll_wait); arch/x86/entry/vdso/vma.c.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from watchdog.evidence.calls import EPOLL_WAITS, NAMES
from watchdog.evidence.pinned import read
from watchdog.helper import ptrace, threads
from watchdog.helper.ptrace import Registers
from watchdog.target import Gone, Refusal

MACHINE = "x86_64"
CODE_64 = 0x33  # cs of 64-bit code (__USER_CS)
ELF_64, ELF_X86_64 = 2, 62  # the vdso of a 32-bit program, or of x32, is of another class
MINUS_EINTR = (1 << 64) - 4  # in a register
IN_NO_CALL = (1 << 64) - 1
SYSCALL = b"\x0f\x05"
CLOSE, EPOLL_CREATE1, EPOLL_CLOEXEC = 3, 291, 0x80000
EPOLL_PWAIT2 = 441  # its time-out is a pointer
WAITS = frozenset(int(number) for number, name in NAMES.items() if name in EPOLL_WAITS)


class OtherMachine(Refusal):
    """Detours are written in the machine code of x86-64."""

    hint = "a drill needs a 64-bit program on x86-64"


class NoRoom(Refusal):
    """There is no place for a detour in the process' vdso."""

    hint = "restart the service for a fresh one, or let the drill go on a kernel with more room"


@dataclass(frozen=True, slots=True)
class Vdso:
    """The vdso of a process, by an open /proc/PID/mem, and from where on it is empty."""

    memory: int
    start: int
    size: int
    end: int

    def image(self) -> bytes:
        """All of it. Raises `Gone`."""
        image = os.pread(self.memory, self.size, self.start)
        if len(image) < self.size:
            raise Gone("it runs another program by now")
        return image

    def holds(self, address: int) -> bool:
        """Whether code at the address is of the vdso, or a detour."""
        return self.start <= address < self.start + self.size


@contextmanager
def vdso_of(process: int) -> Iterator[Vdso]:
    """That of a process (an open /proc/PID). Raises `OtherMachine`, `NoRoom`, `NotPermitted`."""
    if os.uname().machine != MACHINE:
        raise OtherMachine(f"this is {os.uname().machine}, and threads can be stalled on {MACHINE} only")
    try:
        memory = os.open("mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    except PermissionError:
        raise threads.explain(process) from None
    except ProcessLookupError:
        raise Gone("it has ended") from None
    try:
        yield _find(process, memory)
    finally:
        os.close(memory)


def _find(process: int, memory: int) -> Vdso:
    line = next((line for line in _maps(process).splitlines() if line.endswith(b"[vdso]")), None)
    if line is None:
        raise NoRoom("it has no vdso")
    start, _, end = line.split()[0].partition(b"-")
    found = Vdso(memory, int(start, 16), int(end, 16) - int(start, 16), 0)
    image = found.image()
    if (image[4], *struct.unpack_from("<H", image, 18)) != (ELF_64, ELF_X86_64):
        raise OtherMachine("it is a 32-bit program")
    return Vdso(memory, found.start, found.size, _end(image))


def _maps(process: int) -> bytes:
    """Unlike most files of /proc it comes by the page, however much is asked for."""
    file = os.open("maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    with os.fdopen(file, "rb") as whole:
        return whole.read()


def _end(image: bytes) -> int:
    """Where the last thing that an ELF file of 64 bits tells of ends, rounded up to a word."""
    segments, sections = struct.unpack_from("<QQ", image, 32)
    segment_size, segment_count, section_size, section_count = struct.unpack_from("<HHHH", image, 54)
    ends = [64, segments + segment_size * segment_count, sections + section_size * section_count]
    for at in range(segments, segments + segment_size * segment_count, segment_size):
        offset, _, _, in_file, in_memory = struct.unpack_from("<5Q", image, at + 8)
        ends.append(offset + max(in_file, in_memory))
    return _words(max(ends))


def _words(length: int) -> int:
    return -(-length // ptrace.WORD) * ptrace.WORD


def divert(tid: int, vdso: Vdso) -> bool:
    """Send a stopped thread on its detour; False: it was not in its epoll wait. Raises a `Refusal`."""
    try:
        now = ptrace.registers(tid)
        if now is None or now.cs != CODE_64:
            raise OtherMachine("it runs 32-bit code")
        waited = now.orig_rax in WAITS and now.rax == MINUS_EINTR
        if not waited or os.pread(vdso.memory, 2, now.rip - 2) != SYSCALL:
            return False  # it has events to handle, or runs
        packed = now.orig_rax != EPOLL_PWAIT2 and now.r10 < 1 << 32 and now.rdx < 1 << 32
        now.rip = _written(tid, vdso, detour(now, packed=packed))
        if packed:
            now.rdx |= now.r10 << 32  # the kernel looks at the lower half alone: `int maxevents`
        now.orig_rax = IN_NO_CALL  # it is in no system call any more, so none is begun again
        ptrace.set_registers(tid, now)
    except ProcessLookupError:
        raise Gone(f"thread {tid} was killed") from None
    except OSError as error:
        raise NoRoom(f"its memory can't be changed: {error.strerror}") from None
    return True


def _written(tid: int, vdso: Vdso, code: bytes) -> int:
    """The address of this code behind the vdso; it is written there unless it is there. Raises `NoRoom`, `OSError`."""
    image = vdso.image()
    at = image.find(code, vdso.end)
    if at >= 0:
        return vdso.start + at
    at = max(vdso.end, _words(len(image.rstrip(b"\0"))))
    if at + _words(len(code)) > vdso.size:
        raise NoRoom("there is no room left behind its vdso")
    ptrace.write(tid, vdso.start + at, code)
    return vdso.start + at


def detour(wait: Registers, *, packed: bool) -> bytes:
    """The code that waits instead of this interrupted wait. `packed`: its time-out is in the upper half of rdx."""
    forever = b"\x41\xba\0\0\0\0" if wait.orig_rax == EPOLL_PWAIT2 else b"\x49\xc7\xc2\xff\xff\xff\xff"
    # No instruction here changes a flag; bswap, twice, stands for a shift, which would.
    unpacked = b"\x49\x89\xd2\x49\x0f\xca\x41\x0f\xca\x89\xd2"
    return b"".join(
        (
            b"\xb8" + _four(EPOLL_CREATE1) + b"\xbf" + _four(EPOLL_CLOEXEC) + SYSCALL,  # mov eax; mov edi
            b"\x89\xc7\xb8" + _four(wait.orig_rax) + forever + SYSCALL,  # mov edi, eax; mov eax; mov r10: no time-out
            b"\xb8" + _four(CLOSE) + SYSCALL,  # edi holds the epoll still
            b"\xbf" + _four(wait.rdi) if wait.rdi < 1 << 32 else b"\x48\xbf" + _eight(wait.rdi),  # mov edi or rdi
            unpacked if packed else b"\x49\xba" + _eight(wait.r10),  # mov r10, rdx; bswap r10, r10d; mov edx, edx
            b"\x48\xb9" + _eight(wait.rip),  # mov rcx: where the kernel leaves the return address too
            b"\x48\xc7\xc0" + _four(MINUS_EINTR & 0xFFFFFFFF) + b"\xff\xe1",  # mov rax, -EINTR; jmp rcx
        )
    )


def _four(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _eight(number: int) -> bytes:
    return number.to_bytes(8, "little")


def on_detour(task: int, vdso: Vdso) -> bool:
    """Whether the thread sleeps in an epoll wait of ours: the last word of `syscall` is where it will go on."""
    words = read(task, "syscall").split()
    return len(words) == 9 and vdso.holds(int(words[8], 16))
