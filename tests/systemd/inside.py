"""What can be done inside a booted machine, whatever it runs on: commands, files and units."""

from __future__ import annotations

import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / ".venv/bin/python"

# The root of a machine: an overlay of this host's, whose upper side is memory. `base` has what is ours above it.
OVERLAY = """
mount -t tmpfs -o size=2g,mode=755 tmpfs "$base/disk"
mkdir "$base/disk/upper" "$base/disk/work" "$base/disk/root"
cp -a "$base/upper/." "$base/disk/upper"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/disk/upper,workdir=$base/disk/work" "$base/disk/root"
"""


class BootFailed(Exception):
    """The machine did not come up; the text is the end of its console."""


class Inside(ABC):
    """A booted system."""

    __slots__ = ()

    def run(
        self,
        *argv: str | os.PathLike[str],
        check: bool = True,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root with all capabilities. With `check`, its failure fails the test."""
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/root", **(env or {})}
        done = self._inside([os.fspath(word) for word in argv], environment, stdin, timeout)
        if check and done.returncode != 0:
            raise AssertionError(f"{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    @abstractmethod
    def _inside(
        self, words: list[str], environment: Mapping[str, str], stdin: str, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run the command inside. Raises `TimeoutExpired`."""

    def python(self, code: str, *arguments: str, before: tuple[str, ...] = ()) -> str:
        """Run Python code inside, in the repository's venv, perhaps behind a command such as setpriv; its stdout."""
        done = self.run(*before, PYTHON, "-c", code, *arguments, env={"PYTHONPATH": str(REPOSITORY)})
        return done.stdout

    def write_file(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside. Not through /proc/PID/root: there an absolute symlink leads back to the host."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        self.run("sh", "-c", script, "write_file", path, f"{mode:o}", stdin=text)

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        """Run systemctl inside; its stdout, stripped."""
        return self.run("systemctl", "--no-pager", *arguments, check=check).stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """One property of a unit, as systemctl prints it."""
        return self.systemctl("show", unit, "--property", name, "--value")

    def add_unit(self, name: str, text: str, *, start: bool = False) -> str:
        """Write a unit file, perhaps start it; the unit's name, for the caller's convenience."""
        self.write_file(f"/etc/systemd/system/{name}", text)
        self.systemctl("daemon-reload")
        if start:
            self.systemctl("start", name)
        return name

    def wait_until(self, unit: str, state: str = "active", timeout: float = 10.0) -> None:
        """Wait for the unit's ActiveState. Fails the test where it does not come."""
        deadline = time.monotonic() + timeout
        while (now := self.show(unit, "ActiveState")) != state:
            if time.monotonic() > deadline:
                raise AssertionError(f"{unit} is {now}, not {state}, after {timeout:g} s")
            time.sleep(0.02)
