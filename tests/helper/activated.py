"""The real helper behind a listening socket, which it is passed as systemd passes it (sd_listen_fds(3))."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.helper.serving import Helper

# LISTEN_PID is the PID of the helper itself: the shell, which has the socket as its input, tells it and becomes it.
PASS = 'export LISTEN_PID=$$; exec "$@" 3<&0 0</dev/null'

SERVICE = """
[service.{name}]
pidfile = "{pidfile}"
restart_command = {restart}
{keys}
budget.nudge = {{ burst = {burst}, interval = "1h" }}
[service.{name}.probe.tcp]
type = "tcp"
address = "127.0.0.1:9"
send = "x"
expect = "x"
"""


def start_with(passed: int, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a helper and pass it this descriptor."""
    helper = (sys.executable, "-P", "-m", "watchdog.helper", *arguments)
    return subprocess.Popen(
        ["sh", "-c", PASS, "pass", *helper],
        env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "helper.sock", **(env or {})},
        stdin=passed,
        stderr=subprocess.PIPE,
        text=True,
    )


@dataclass(slots=True)
class Activated:
    """A listening socket, and the helpers that were started for it. `directory` is open to everybody."""

    directory: Path
    listener: socket.socket
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """Of the socket."""
        return self.directory / "helper.sock"

    @property
    def config(self) -> Path:
        """The TOML file."""
        return self.directory / "config.toml"

    @property
    def ledger(self) -> Path:
        """In the helper's own directory."""
        return self.directory / "state/ledger.json"

    def serve_only(
        self, pids: Mapping[str, int], *, restart: tuple[str, ...] = ("/bin/true",), burst: int = 5, keys: str = ""
    ) -> None:
        """Write the config: services by name, each with the PID in its pidfile."""
        text = ""
        for name, pid in pids.items():
            pidfile = self.directory / f"{name}.pid"
            pidfile.write_text(str(pid))
            restart_command = list(restart)
            text += SERVICE.format(name=name, pidfile=pidfile, burst=burst, restart=restart_command, keys=keys)
        self.config.write_text(text)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """What systemd does when somebody comes."""
        state = {"STATE_DIRECTORY": str(self.ledger.parent)}
        self.started.append(
            start_with(self.listener.fileno(), "--config", str(self.config), *arguments, env=state),
        )
        return self.started[-1]

    @contextlib.contextmanager
    def peer(self) -> Iterator[Helper]:
        """A connection to the helper that was started last."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20.0)
            connection.connect(str(self.path))
            yield Helper(self.started[-1].pid, connection, self.config, self.ledger)


@contextlib.contextmanager
def activated() -> Iterator[Activated]:
    """A socket in a directory of its own, with nobody behind it yet. All helpers are killed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="epoll-watchdog-"))
    directory.chmod(0o755)
    (directory / "state").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "helper.sock"))
        listener.listen(128)
        made = Activated(directory, listener)
        made.serve_only({})
        try:
            yield made
        finally:
            for process in made.started:
                process.kill()
                process.communicate(timeout=30)
            shutil.rmtree(directory)
