"""A real systemd for tests: a throw-away overlay of this very host, booted in a container in about a second.

The overlay has `/` below and a tmpfs above, mounted in a mount namespace of its own; and systemd-nspawn
is the first process of a PID namespace that ends with this process (PDEATHSIG): so nothing stays behind, whatever
happens here, but two empty cgroups where this process itself is killed.

The container has its own PID, network and mount namespaces and cgroup v2 (FreezeUnit works). Its system bus can also be
reached from outside, by `bus_address`: uid 0 is the same there. The repository is mounted read-only at its own path.
Only D-Bus and the journal are booted; what else Debian has enabled on this host is masked, see `MASKED`.

Sources: systemd-nspawn(1), sd_notify(3) (READY=1), nsenter(1).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.systemd.inside import OVERLAY, BootFailed, Inside
from tests.systemd.inside import PYTHON as PYTHON
from tests.systemd.inside import REPOSITORY as REPOSITORY

BOOT_TIMEOUT = 30.0  # s; it takes about one
WANTED = {"dbus.service", "dbus.socket", "systemd-journald.service"}
MASKED = {
    *("getty.target", "machines.target", "remote-fs.target", "timers.target", "var-lib-machines.mount"),
    *(
        "systemd-binfmt.service",
        "systemd-firstboot.service",
        "systemd-logind.service",
        "systemd-machine-id-commit.service",
    ),
    *("systemd-modules-load.service", "systemd-pcrphase-sysinit.service", "systemd-pcrphase.service"),
    *("systemd-pstore.service", "systemd-random-seed.service", "systemd-repart.service", "systemd-sysctl.service"),
    *("systemd-update-utmp-runlevel.service", "systemd-update-utmp.service", "systemd-user-sessions.service"),
}

# Enters a cgroup of its own first: nspawn calls the payload's cgroup "payload", so two containers would share one.
BOOT = f"""
set -eu
base=$1 cgroup=$2 repository=$3
echo 0 >"$cgroup/cgroup.procs"
{OVERLAY}
exec systemd-nspawn --quiet --boot --register=no --keep-unit --private-network --system-call-filter=pidfd_getfd \
    --notify-ready=yes --console=pipe --bind-ro="$repository" --directory="$base/disk/root"
"""


@dataclass(frozen=True, slots=True)
class Machine(Inside):
    """A booted system. `leader` is its PID 1, as seen from here."""

    leader: int

    @property
    def bus_address(self) -> str:
        """The D-Bus address of its system bus, for a process outside."""
        return f"unix:path=/proc/{self.leader}/root/run/dbus/system_bus_socket"

    def _inside(
        self, words: list[str], environment: Mapping[str, str], stdin: str, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", f"--target={self.leader}", "--all", "--", *words]
        return subprocess.run(inside, env=environment, input=stdin, capture_output=True, text=True, timeout=timeout)


@contextlib.contextmanager
def booted(base: Path, *, keep: frozenset[str] = frozenset()) -> Iterator[Machine]:
    """A machine, for as long as the context lasts. `base` is an empty directory; units in `keep` are not masked."""
    for name in ("disk", "upper"):
        (base / name).mkdir(parents=True)
    prepare(base / "upper", keep)
    notify = _notify_socket(base / "notify")
    with _own_cgroup() as cgroup, (base / "console").open("wb") as console:
        around = [
            "setpriv",
            "--pdeathsig=KILL",
            "unshare",
            "--mount",
            "--pid",
            "--mount-proc",
            "--fork",
            "--kill-child=KILL",
        ]
        container = subprocess.Popen(
            [*around, "sh", "-c", BOOT, "boot", str(base), str(cgroup), str(REPOSITORY)],
            env={
                "PATH": os.environ["PATH"],
                "NOTIFY_SOCKET": str(base / "notify"),
                "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
        )
        try:
            with notify:  # closed after the boot: PID 1 goes on to notify, and would wait for a reader for ever
                _await_boot(notify, container, base / "console")
            yield Machine(_leader(container.pid))
        finally:
            container.kill()
            container.wait()


def prepare(upper: Path, keep: frozenset[str], more: frozenset[str] = frozenset()) -> None:
    """The overlay's own files: a machine id (two equal ones share their journals), and what must not start.

    `more` is masked beside `MASKED`.
    """
    system = upper / "etc/systemd/system"
    system.mkdir(parents=True)
    (upper / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
    for unit in (_enabled_here() | MASKED | more) - keep - WANTED:
        (system / unit).unlink(missing_ok=True)
        (system / unit).symlink_to("/dev/null")


def _enabled_here() -> set[str]:
    """The services, sockets and timers that this host would start at its boot: none of them belongs to a test."""
    links = Path("/etc/systemd/system").glob("*.wants/*")
    return {link.name for link in links if link.suffix in (".service", ".socket", ".timer") and "@" not in link.name}


@contextlib.contextmanager
def _own_cgroup() -> Iterator[Path]:
    mount = Path("/sys/fs/cgroup")
    unified = mount if (mount / "cgroup.procs").exists() else mount / "unified"
    ours = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    name = f"{ours.strip('/')}/test-machine-{os.getpid()}-{uuid.uuid4().hex[:8]}".lstrip("/")
    cgroup = unified / name
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        for hierarchy in (cgroup, mount / "systemd" / name):  # nspawn mirrors it where cgroup v1 is there too
            _remove_cgroup(hierarchy)


def _remove_cgroup(cgroup: Path) -> None:
    deadline = time.monotonic() + 5
    while cgroup.exists():
        for directory, _, _ in os.walk(cgroup, topdown=False):
            with contextlib.suppress(OSError):  # the kernel still counts a process that has just been killed
                Path(directory).rmdir()
        if time.monotonic() > deadline:
            raise AssertionError(f"{cgroup} is not empty: a process of the test machine lives on")


def _notify_socket(path: Path) -> socket.socket:
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(path))
    notify.settimeout(0.2)
    return notify


def _await_boot(notify: socket.socket, container: subprocess.Popen[bytes], console: Path) -> None:
    """Wait until nspawn tells that the systemd in it has booted."""
    deadline = time.monotonic() + BOOT_TIMEOUT
    said = ""
    while "READY=1" not in said.splitlines():
        if container.poll() is not None or time.monotonic() > deadline:
            tail = console.read_text(errors="replace")[-4000:]
            raise BootFailed(f"no systemd within {BOOT_TIMEOUT:g} s; exit code {container.poll()}:\n{tail}")
        with contextlib.suppress(TimeoutError):
            said = notify.recv(4096).decode()


def _leader(unshare: int) -> int:
    """The container's PID 1, as numbered here: unshare's only child is nspawn, and nspawn's is systemd."""
    nspawn = int(Path(f"/proc/{unshare}/task/{unshare}/children").read_text())
    return int(Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text())


def missing() -> str:
    """What this host lacks to boot a machine; empty where it lacks nothing."""
    if os.geteuid() != 0:
        return "root"
    absent = [name for name in ("systemd-nspawn", "nsenter", "setpriv", "unshare") if shutil.which(name) is None]
    return ", ".join(absent)
