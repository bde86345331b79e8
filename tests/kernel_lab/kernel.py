"""The lab's kernel: user-mode Linux from Debian's source, with `patches.py` and `kernel.config`.

A build takes minutes, so kernels are kept in .cache/kernel, under a hash of all that goes into them. This module, run
(`python -m tests.kernel_lab.kernel`), builds it where that has not been done yet, and prints where it is.

Sources: Documentation/virt/uml/user_mode_linux_howto_v2.rst; scripts/kconfig/merge_config.sh of Linux 6.1.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.kept import kept
from tests.kernel_lab import patches

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CONFIG = HERE / "kernel.config"
INPUTS = (Path(__file__), Path(patches.__file__), CONFIG)
PACKAGE = "linux-source-6.1"
TARBALL = Path(f"/usr/src/{PACKAGE}.tar.xz")
KEPT = REPOSITORY / ".cache/kernel"
KEEP = 2  # another branch's, too


class BuildFailed(Exception):
    """There is no kernel; the text has why."""


@functools.cache
def kernel() -> Path:
    """The kernel's executable, built where that has not been done yet."""
    return kept(KEPT, _hash(), _build, KEEP) / "linux"


def built() -> bool:
    """Whether it has been built already."""
    return (KEPT / _hash()).exists()


def missing() -> str:
    """What this host lacks to build a kernel; empty where it lacks nothing."""
    tools = [name for name in ("bc", "bison", "flex", "gcc", "make", "xz") if shutil.which(name) is None]
    return ", ".join(tools if TARBALL.exists() else [PACKAGE, *tools])


def _build(where: Path) -> None:
    if lacking := missing():
        raise BuildFailed(f"missing: {lacking}; `packaging/setup test` installs them")
    with tempfile.TemporaryDirectory(dir=KEPT) as draft:
        _run(Path(draft), "tar", "--extract", "--strip-components=1", f"--file={TARBALL}")
        patches.apply(Path(draft))
        _configure(Path(draft))
        _make(Path(draft), f"-j{len(os.sched_getaffinity(0))}", "linux")
        _run(Path(draft), "strip", "linux")
        where.mkdir()
        Path(draft, "linux").rename(where / "linux")


def _configure(tree: Path) -> None:
    """The architecture's defaults, and ours above them. An option that came to nothing is an error."""
    _make(tree, "x86_64_defconfig")
    _run(tree, "scripts/kconfig/merge_config.sh", "-m", ".config", str(CONFIG))
    _make(tree, "olddefconfig")
    if ignored := _ignored(CONFIG.read_text().splitlines(), (tree / ".config").read_text().splitlines()):
        raise BuildFailed(f"the kernel's configuration ignores {', '.join(ignored)}")


def _ignored(wanted: list[str], got: list[str]) -> list[str]:
    """The lines of `wanted` that `got` does not follow. An option that is not there at all is "not set", too."""
    values = {line.partition("=")[0]: line for line in got if line.startswith("CONFIG_")}
    needed = [line for line in wanted if line.startswith("CONFIG_")]
    spared = [line for line in wanted if line.startswith("# CONFIG_") and line.endswith(" is not set")]
    return [
        *(line for line in needed if values.get(line.partition("=")[0]) != line),
        *(line for line in spared if line.split()[1] in values),
    ]


def _make(tree: Path, *arguments: str) -> None:
    _run(tree, "make", "ARCH=um", *arguments)


def _run(tree: Path, *argv: str) -> None:
    done = subprocess.run(argv, cwd=tree, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(argv)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")


def _hash() -> str:
    version = subprocess.run(["dpkg-query", "--show", PACKAGE], capture_output=True, text=True).stdout
    digest = hashlib.sha256(version.encode())
    for file in INPUTS:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    print(kernel())
