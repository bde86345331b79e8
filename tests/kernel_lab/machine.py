"""A systemd booted by the lab's kernel, over a throw-away overlay of this host: a machine with a kernel of its own.

As in `tests/systemd/machine.py`, the overlay is mounted in a mount namespace, and the kernel ends with this process
(PDEATHSIG, a PID namespace): nothing stays behind. What runs inside is run by `agent.py`. There /tmp is empty, and the
repository is read-only at its own path.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tests.kernel_lab import agent, uml
from tests.lookalikes.programs import weigh_session
from tests.systemd.inside import OVERLAY, REPOSITORY, BootFailed, Inside
from tests.systemd.machine import prepare

BOOT_TIMEOUT = 300.0  # s; with a package, dpkg and the byte code too
RING = 2.0  # s. User-mode Linux may overlook what comes on a line, until more comes: so an empty line follows
NICE = -10  # its one CPU is slow: what is measured inside should not be how busy this host is
GRACE = 10.0  # s that the answer may come after the command's own time-out

# Of what Debian boots on bare metal and not in a container, this kernel has no use for any.
MASKED = frozenset(
    {
        *("systemd-udevd.service", "systemd-udev-trigger.service", "systemd-udevd-kernel.socket"),
        *("systemd-udevd-control.socket", "systemd-hwdb-update.service", "systemd-remount-fs.service"),
        *("kmod-static-nodes.service", "systemd-timesyncd.service", "serial-getty@.service", "getty-static.service"),
        *("systemd-network-generator.service", "systemd-journal-flush.service", "dev-hugepages.mount"),
        *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "systemd-sysusers.service", "monit.service"),
    }
)

AGENT = f"""
[Unit]
DefaultDependencies=no
After=multi-user.target

[Service]
ExecStart=/usr/bin/python3 -B {agent.__file__} /dev/ttyS0 /run/lab
KillMode=process
"""

# On hostfs, what a user makes is root's, and that user can't open it again: the daemon's state needs another place.
FSTAB = """
tmpfs /tmp tmpfs mode=1777 0 0
tmpfs /var/lib/epoll-watchdog tmpfs mode=700 0 0
none {repository} hostfs ro,{repository} 0 0
none /run/lab hostfs {shared} 0 0
"""

# What it boots, it finds in the merged directory: only there is the host's root as it is, with ours above it.
# It is no container, whatever this host is: in one, systemd passes no credentials to units on this kernel.
# A package is installed as into the image of a machine, before it runs: inside, its byte code takes half a minute. The
# triggers are of other packages; man-db's would take another minute inside.
BOOT = f"""
set -eu
base=$1 package=$2; shift 2
{OVERLAY}
rm -f "$base/disk/root/.dockerenv" "$base/disk/root/run/.containerenv"
if [ -n "$package" ]; then
    chroot "$base/disk/root" dpkg --force-unsafe-io --no-triggers --install "$package"
fi
exec "$@"
"""
AROUND = ("setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child=KILL")


@dataclass(slots=True)
class Machine(Inside):
    """A booted system. One command at a time: its number goes over `line`, the rest through `shared`."""

    line: socket.socket
    shared: Path
    commands: int = 0

    def _inside(
        self, words: list[str], environment: Mapping[str, str], stdin: str, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        request = {"argv": words, "env": environment, "stdin": stdin, "timeout": timeout}
        answer = self._perform(request, timeout + GRACE)
        if "timed_out" in answer:
            raise subprocess.TimeoutExpired(words, timeout)
        return subprocess.CompletedProcess(words, answer["code"], answer["stdout"], answer["stderr"])

    def _perform(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        self.commands += 1
        (self.shared / f"{self.commands}.request").write_text(json.dumps(request))
        self.line.sendall(f"{self.commands}\n".encode())
        self.await_number(self.commands, timeout)
        answer: dict[str, Any] = json.loads((self.shared / f"{self.commands}.answer").read_text())
        return answer

    def await_number(self, number: int, timeout: float) -> None:
        """Wait for what the agent says when it is done with this command. Raises `OSError`."""
        deadline = time.monotonic() + timeout
        said = b""
        while not said.endswith(b"\n"):
            self.line.settimeout(RING)
            try:
                more = self.line.recv(64)
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise
                self.line.sendall(b"\n")
                continue
            if not more:
                raise ConnectionResetError("the machine is gone")
            said += more
        assert int(said) == number, f"the agent says {said!r}, not {number}"

    def lose(self, comm: str, times: int) -> None:
        """From now on, waits without a time-out of threads of this name lose their wake-ups, so many of them."""
        script = 'cd /sys/module/eventpoll/parameters && echo "$1" >lose_comm && echo "$2" >lose_left'
        self.run("sh", "-c", script, "lose", comm, str(times))

    def lost(self) -> int:
        """How many wake-ups were lost since the boot."""
        return int(self.run("cat", "/sys/module/eventpoll/parameters/lost_count").stdout)


@contextlib.contextmanager
def booted(base: Path, *, keep: frozenset[str] = frozenset(), package: Path | None = None) -> Iterator[Machine]:
    """A machine, for as long as the context lasts; its console is `base/console`.

    `base` is an empty directory; units in `keep` are not masked; dpkg has installed `package`.
    """
    for name in ("disk", "shared", "upper"):
        (base / name).mkdir(parents=True)
    prepare(base / "upper", keep, MASKED)
    _add_agent(base / "upper/etc/systemd/system")
    (base / "upper/etc/fstab").write_text(FSTAB.format(repository=REPOSITORY, shared=base / "shared"))
    ours, theirs = socket.socketpair()
    with ours, (base / "console").open("wb") as console:
        process = _start(base, console, theirs, package)
        try:
            machine = Machine(ours, base / "shared")
            _await_boot(machine, base / "console")
            yield machine
        finally:
            process.kill()
            process.wait()


def _add_agent(system: Path) -> None:
    (system / "lab-agent.service").write_text(AGENT)
    (system / "multi-user.target.wants").mkdir()
    (system / "multi-user.target.wants/lab-agent.service").symlink_to("../lab-agent.service")


def _start(base: Path, console: BinaryIO, line: socket.socket, package: Path | None) -> subprocess.Popen[bytes]:
    options = ("rw", "systemd.unified_cgroup_hierarchy=1", "systemd.show_status=1", f"ssl0=fd:{line.fileno()}")
    kernel = uml.command(base, base / "disk/root", ["/lib/systemd/systemd"], *options, memory="1G")
    with line:
        process = subprocess.Popen(
            ["nice", "-n", str(NICE), *AROUND, "sh", "-c", BOOT, "boot", str(base), str(package or ""), *kernel],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            pass_fds=(line.fileno(),),
            start_new_session=True,
        )
    weigh_session(process.pid, NICE)
    return process


def _await_boot(machine: Machine, console: Path) -> None:
    try:
        machine.await_number(0, BOOT_TIMEOUT)
    except OSError as error:
        tail = console.read_text(errors="replace")[-4000:]
        raise BootFailed(f"no systemd within {BOOT_TIMEOUT:g} s ({error}):\n{tail}") from None
