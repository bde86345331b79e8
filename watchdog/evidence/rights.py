"""Why the kernel forbade to read of a process, in words that an operator can act on.

Sources: ptrace(2), "Ptrace access mode checking"; Documentation/admin-guide/LSM/Yama.rst; kernel-facts.md, section 3.
"""

from __future__ import annotations

import os

from watchdog.evidence.pinned import open_directory, state, status
from watchdog.target import Gone, Refusal, contents

YAMA_SCOPE = "/proc/sys/kernel/yama/ptrace_scope"
CAP_SYS_PTRACE = 19
SEARCHING = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: `syscall` and `fd` are closed to other users


class NotPermitted(Refusal):
    """We lack the rights over the process."""

    hint = "run it as root, or as the process' user, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"


class YamaForbids(Refusal):
    """The Yama security module forbids what the rights would allow."""

    hint = (
        "kernel.yama.ptrace_scope: at 1 or 2 CAP_SYS_PTRACE is needed (run it as root), or at 1 the service's own "
        "prctl(PR_SET_PTRACER); at 3 nobody may trace until the next boot with another setting"
    )


class Zombie(Refusal):
    """The process has ended, and its parent has not taken note yet."""

    hint = "nothing runs there any more: look at the parent process, or restart the service"


def yama_scope() -> int | None:
    """kernel.yama.ptrace_scope, 0 to 3; None in a kernel without Yama."""
    try:
        return int(contents(YAMA_SCOPE))
    except FileNotFoundError:
        return None


def may_ptrace() -> bool:
    """Whether this process has CAP_SYS_PTRACE in its user namespace."""
    return bool(_capabilities() & 1 << CAP_SYS_PTRACE)


def _capabilities() -> int:
    directory = open_directory("/proc/self")
    try:
        return int(status(directory)["CapEff"][0], 16)
    finally:
        os.close(directory)


def explain(task: int, *, seizing: bool = False) -> Refusal:
    """Why the kernel forbade to read of the thread or, with `seizing`, to seize it."""
    try:
        found, uids = state(task), status(task)["Uid"]
    except (Gone, FileNotFoundError):
        return Gone("it has ended")
    if found in ("Z", "X"):
        return Zombie("it is a zombie: it has ended, and its parent has not taken note")
    searches = seizing or bool(_capabilities() & SEARCHING)
    same_user = set(uids) == {str(os.geteuid())}
    return forbidden(scope=yama_scope(), capable=may_ptrace(), same_user=same_user, uid=uids[1], searches=searches)


def forbidden(*, scope: int | None, capable: bool, same_user: bool, uid: str, searches: bool = True) -> Refusal:
    """The rights that were missing: Yama's say comes after those of ptrace(2), and the mode of a file before both.

    `searches`: we have CAP_DAC_READ_SEARCH, or no file is in question.
    """
    if scope == 3:
        return YamaForbids("kernel.yama.ptrace_scope is 3: nobody may trace, not even root")
    if not capable and same_user and scope in (1, 2):
        return YamaForbids(f"kernel.yama.ptrace_scope is {scope}, and we lack CAP_SYS_PTRACE")
    if capable and not same_user and not searches:
        return NotPermitted(f"it runs as uid {uid}, we as uid {os.geteuid()} without CAP_DAC_READ_SEARCH")
    if capable:
        return NotPermitted("it is in a user namespace above ours, or a security module forbids it")
    if same_user:
        return NotPermitted(
            "it has another group, more capabilities than we, or is not dumpable; we lack CAP_SYS_PTRACE"
        )
    return NotPermitted(f"it runs as uid {uid}, we as uid {os.geteuid()} without CAP_SYS_PTRACE")
