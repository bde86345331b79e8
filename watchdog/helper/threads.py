"""Which threads of a process wait in epoll, and why one of them can't be nudged; all read from /proc, waking nobody.

Rules: a thread is named by the open directory of its task, never by its number: that directory leads to this very
thread or, once it has ended, nowhere (it pins the kernel's `struct pid`, as a pidfd does). Nothing but the number of
the call, the epoll's descriptor and whether the wait has a time-out is kept of `syscall`: its pointers would undo ASLR.

Sources: proc_pid_syscall(5), proc_pid_stat(5), proc_pid_status(5), proc_pid_wchan(5); arch/x86/entry/syscalls/
syscall_64.tbl and include/uapi/asm-generic/unistd.h (arm64 has no epoll_wait); Documentation/admin-guide/LSM/Yama.rst;
kernel-facts.md, section 3.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from watchdog.target import Gone, Refusal, contents, stat_fields

EPOLL_WAITS = {
    "x86_64": {b"232": "epoll_wait", b"281": "epoll_pwait", b"441": "epoll_pwait2"},
    "aarch64": {b"22": "epoll_pwait", b"441": "epoll_pwait2"},
}.get(os.uname().machine, {})
EPOLL_WCHANS = (b"ep_poll", b"do_epoll_wait")
YAMA_SCOPE = "/proc/sys/kernel/yama/ptrace_scope"
CAP_SYS_PTRACE = 19
PF_KTHREAD = 0x00200000


class NotPermitted(Refusal):
    """We lack the rights over the process."""

    hint = "run it as root, or as the process' user, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"


class YamaForbids(Refusal):
    """The Yama security module forbids what the rights would allow."""

    hint = (
        "kernel.yama.ptrace_scope: at 1 or 2 CAP_SYS_PTRACE is needed (run it as root), or at 1 the service's own "
        "prctl(PR_SET_PTRACER); at 3 nobody may trace until the next boot with another setting"
    )


class AlreadyTraced(Refusal):
    """A debugger or strace holds the thread: there can be only one tracer."""

    hint = "end the other tracer; seizing the thread has very likely had the effect of a nudge already"


class Zombie(Refusal):
    """The process has ended, and its parent has not taken note yet."""

    hint = "nothing runs there any more: look at the parent process, or restart the service"


class KernelThread(Refusal):
    """A thread of the kernel: it has no system call to return from."""

    hint = "give the PID of a program"


class Uninterruptible(Refusal):
    """The thread is in state D: no signal and no stop reaches it."""

    hint = "it waits for a disk, a network file system, or is frozen by a cgroup: see /proc/PID/stack and dmesg"


class Stopped(Refusal):
    """The process was stopped by a signal."""

    hint = "find out who stopped it; `kill -CONT PID` lets it go on"


class Unreadable(Refusal):
    """The kernel tells neither the system call nor where in the kernel the thread waits."""

    hint = "a kernel with CONFIG_HAVE_ARCH_TRACEHOOK, or with CONFIG_KALLSYMS, is needed"


@dataclass(frozen=True, slots=True)
class Wait:
    """An epoll wait that a thread is in. `epfd` is None where only wchan told of it."""

    call: str
    epfd: int | None
    finite: bool  # it has a time-out, so it heals itself


def read(directory: int, name: str) -> bytes:
    """A small file below an open directory of /proc. Raises `OSError`; `Gone` once the process or thread has ended."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            return os.read(file, 4096)
        finally:
            os.close(file)
    except ProcessLookupError:
        raise Gone("it has ended") from None


def check_nudgeable(process: int) -> None:
    """Raises a `Refusal` where no thread of the process (an open /proc/PID) can ever be nudged."""
    fields = stat_fields(read(process, "stat"))
    if int(fields[6]) & PF_KTHREAD:
        raise KernelThread("it is a kernel thread")
    # A leader may be a zombie while its other threads go on; field 20 counts them with it.
    if fields[0] in (b"Z", b"X") and int(fields[17]) < 2:
        raise Zombie("it is a zombie: it has ended, and its parent has not taken note")


def state(task: int) -> str:
    """R, S, D, T, t, Z, X, I (proc_pid_stat(5)). Raises `Gone`."""
    try:
        return stat_fields(read(task, "stat"))[0].decode()
    except FileNotFoundError:
        raise Gone("it has ended") from None


def epoll_wait(task: int) -> Wait | None:
    """The epoll wait that the thread (an open /proc/PID/task/TID) is in; None: it does something else.

    Raises `Gone`, `PermissionError`, `Unreadable`.
    """
    try:
        text = read(task, "syscall")
    except (FileNotFoundError, PermissionError) as error:
        # No such file: an older or odd kernel. EACCES: a user with CAP_SYS_PTRACE alone; the file's mode is 0400.
        return _by_wchan(task, error)
    call, *arguments = text.split()
    if call not in EPOLL_WAITS:
        if EPOLL_WAITS:
            return None
        return _by_wchan(task, FileNotFoundError())
    name = EPOLL_WAITS[call]
    timeout = int(arguments[3], 16)
    infinite = timeout == 0 if name == "epoll_pwait2" else bool(timeout & 0x80000000)
    return Wait(name, int(arguments[0], 16) & 0xFFFFFFFF, not infinite)


def _by_wchan(task: int, error: OSError) -> Wait | None:
    if state(task) == "R":
        return None
    where = read(task, "wchan")
    if where in EPOLL_WCHANS:
        return Wait("epoll_wait", None, finite=False)
    if where not in (b"0", b""):
        return None
    if isinstance(error, PermissionError):
        raise error
    raise Unreadable("the kernel does not tell which system call it is in")


def sleeps(task: int) -> bool:
    """Whether the thread sleeps so that a stop reaches it; False: it runs. Raises the `Refusal` that fits its state."""
    found = state(task)
    if found == "D":
        raise Uninterruptible("it sleeps uninterruptibly (state D)")
    if found == "T":
        raise Stopped("it was stopped by a signal (state T)")
    if found == "t":
        raise AlreadyTraced(f"it stands still before its tracer, process {tracer(task)}")
    if found in ("Z", "X"):
        raise Gone("it has ended")
    return found == "S"


# --- why not ----------------------------------------------------------------------------------------------------------


def tracer(task: int) -> int:
    """The PID of who traces the thread; 0: nobody."""
    return int(_status(task)["TracerPid"][0])


def yama_scope() -> int | None:
    """kernel.yama.ptrace_scope, 0 to 3; None in a kernel without Yama."""
    try:
        return int(contents(YAMA_SCOPE))
    except FileNotFoundError:
        return None


def may_ptrace() -> bool:
    """Whether this process has CAP_SYS_PTRACE in its user namespace."""
    directory = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return bool(int(_status(directory)["CapEff"][0], 16) >> CAP_SYS_PTRACE & 1)
    finally:
        os.close(directory)


def explain(task: int) -> Refusal:
    """Why the kernel forbade to seize the thread or to read of it."""
    try:
        status = _status(task)
        found = state(task)
    except (Gone, FileNotFoundError):
        return Gone("it has ended")
    if found in ("Z", "X"):
        return Zombie("it is a zombie: it has ended, and its parent has not taken note")
    if tracer_pid := int(status["TracerPid"][0]):
        return AlreadyTraced(f"process {tracer_pid} traces it already")
    same_user = set(status["Uid"]) == {str(os.geteuid())}
    return forbidden(scope=yama_scope(), capable=may_ptrace(), same_user=same_user, uid=status["Uid"][1])


def forbidden(*, scope: int | None, capable: bool, same_user: bool, uid: str) -> Refusal:
    """The rights that were missing: Yama's say comes after those of ptrace(2), "Ptrace access mode checking"."""
    if scope == 3:
        return YamaForbids("kernel.yama.ptrace_scope is 3: nobody may trace, not even root")
    if not capable and same_user and scope in (1, 2):
        return YamaForbids(f"kernel.yama.ptrace_scope is {scope}, and we lack CAP_SYS_PTRACE")
    if capable:
        return NotPermitted("it is in a user namespace above ours, or a security module forbids it")
    if same_user:
        return NotPermitted(
            "it has another group, more capabilities than we, or is not dumpable; we lack CAP_SYS_PTRACE"
        )
    return NotPermitted(f"it runs as uid {uid}, we as uid {os.geteuid()} without CAP_SYS_PTRACE")


def _status(task: int) -> dict[str, list[str]]:
    lines = read(task, "status").decode(errors="replace").splitlines()
    return {key: rest.split() for key, _, rest in (line.partition(":") for line in lines)}
