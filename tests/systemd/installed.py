"""The package, and a machine that it is installed in as its users install it: by dpkg.

A build takes some 15 s, so packages are kept in .cache/packages, under a hash of all that goes into them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.kept import kept
from tests.systemd.machine import REPOSITORY, Machine, booted

SOURCES = (
    *("pyproject.toml", "requirements.lock", "requirements-dev.lock", "README.md", "CHANGELOG.md", "LICENSE"),
    *("docs", "packaging", "systemd", "watchdog"),
)
KEPT = REPOSITORY / ".cache/packages"
KEEP = 4  # other branches', too
NEVER_CHANGES = {"SOURCE_DATE_EPOCH": "1700000000"}  # a commit that changes no file makes no other package
QUICK = {"DPKG_DEB_COMPRESSOR_TYPE": "gzip", "DPKG_DEB_COMPRESSOR_LEVEL": "1"}  # of 30 s of CPU, xz takes 24
DAEMON, HELPER, SOCKET = "epoll-watchdog.service", "epoll-watchdog-helper.service", "epoll-watchdog-helper.socket"


@functools.cache
def package() -> Path:
    """The package of this tree, built where that has not been done yet; below the repository, which machines see."""
    [found] = kept(KEPT, _hash(), _build, KEEP).glob("*-1_*.deb")
    return found


def _build(where: Path) -> None:
    subprocess.run(["packaging/setup", "deb"], cwd=REPOSITORY, check=True)
    with tempfile.TemporaryDirectory(dir=KEPT) as draft:
        script = ["packaging/deb", "--output", draft]
        environment = os.environ | NEVER_CHANGES | QUICK
        done = subprocess.run(script, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(f"packaging/deb ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        where.mkdir()
        for deb in Path(draft).glob("*.deb"):
            shutil.copy(deb, where)


def _hash() -> str:
    digest = hashlib.sha256()
    for source in SOURCES:
        top = REPOSITORY / source
        files = [top] if top.is_file() else sorted(each for each in top.rglob("*") if each.is_file())
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(REPOSITORY)} {file.stat().st_mode} ".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


@functools.cache
def newer_package() -> Path:
    """The same tree as a package of a higher version; below the repository, too."""
    older = package()
    newer = older.with_name(older.name.replace("-1_", "-2_"))
    if not newer.exists():
        with tempfile.TemporaryDirectory(dir=KEPT) as draft:
            tree = Path(draft, "tree")
            subprocess.run(["dpkg-deb", "--raw-extract", older, tree], check=True)
            control = tree / "DEBIAN/control"
            control.write_text(control.read_text().replace("-1\n", "-2\n", 1))
            pack = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), f"{draft}/deb"]
            subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
            Path(draft, "deb").rename(newer)
    return newer


def dpkg(machine: Machine, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run dpkg in the machine, as apt would: without questions."""
    quick = ("--force-unsafe-io", "--force-confold")  # its disk is memory
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    return machine.run("dpkg", *quick, *arguments, check=check, env=environment, timeout=300)  # it compiles it all


@contextlib.contextmanager
def booted_with_package(base: Path) -> Iterator[Machine]:
    """A machine in which the package is installed and its daemon runs, guarding nothing yet."""
    deb = package()
    with booted(base) as machine:
        machine.run("rm", "-f", "/usr/sbin/policy-rc.d")  # some images of containers forbid every start by it
        dpkg(machine, "--install", deb)
        machine.wait_until(DAEMON)
        yield machine
