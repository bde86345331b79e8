"""Booting the lab's kernel: a process of this user, that needs no privileges. Its root is a directory of this host.

Source: Documentation/virt/uml/user_mode_linux_howto_v2.rst of Linux 6.1.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.kernel_lab.kernel import kernel


def command(base: Path, root: Path, init: Sequence[str], *options: str, memory: str) -> list[str]:
    """The command that boots it: its console on stdout, its own files in `base`, its root the directory `root`.

    `init` is the first program and its arguments; `options` are more words for the kernel. No word may hold a space:
    the kernel splits its line at them.
    """
    program, *arguments = init
    own = ("con=null", "con0=null,fd:1", f"mem={memory}", f"uml_dir={base}/")
    return [
        str(kernel()),
        *own,
        *("root=none", "rootfstype=hostfs"),  # a root: without one, UML takes its first disk, and there are none
        f"rootflags={root}",
        *options,
        f"init={program}",
        "--",
        *arguments,
    ]


@contextlib.contextmanager
def booted(base: Path, init: Sequence[str], *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The kernel's process on this host's own root, for as long as the context lasts; `base/console` is its console."""
    line = command(base, Path("/"), init, "ro", *options, memory="256M")
    with (base / "console").open("wb") as console:
        process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a helper of the kernel's would outlive it
        process.wait()
