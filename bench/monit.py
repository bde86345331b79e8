"""Debian's monit at its fastest, and an nginx that it can stop and start, which loses a wake-up when it is told to.

monit's cycle is 1 s, which is its shortest, and so is its test's time-out; one failure is enough. It does not test a
process that is younger than the time-out of its start program: that is 5 s here instead of 30, and a stall begins only
after it has tested the new nginx. nginx is ended by its own fast stop and starts as a daemon (its default), for whoever
starts it does not stay. monit(1), nginx(8).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.stalled import losing
from tests.servers import ask, free_port, running, until
from tests.stall import HTTP, kicker, shim_for

CYCLE_S = 1.0
START_S = 5
TESTED_WITHIN_S = 30.0

NGINX_CONF = """\
user root;
pid {home}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log {home}/access.log;
  keepalive_timeout 600s;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi; scgi_temp_path {home}/scgi; uwsgi_temp_path {home}/uwsgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ default_type text/plain; return 200 "hello\\n"; }}
  }}
}}
"""
CONTROL = """\
#!/bin/sh
nginx="/usr/sbin/nginx -p {home} -c {home}/nginx.conf -e {home}/error.log"
case $1 in
start) exec env {environment} $nginx ;;
stop) exec $nginx -s stop ;;
esac
"""
MONITRC = """\
set daemon {cycle:.0f}
set log {home}/log
set pidfile {home}/pid
set idfile {home}/id
set statefile {home}/state
check process nginx with pidfile {nginx.pidfile}
  start program = "{nginx.control} start" with timeout {start} seconds
  stop program = "{nginx.control} stop"
  if failed host 127.0.0.1 port {nginx.port} protocol http with timeout 1 second then restart
"""


@dataclass(frozen=True, slots=True)
class Restartable:
    """An nginx that `control start` starts and `control stop` ends, for anybody."""

    control: Path
    pidfile: Path
    access_log: Path
    port: int
    lose: Callable[[], float]  # its worker goes to sleep; when, by CLOCK_MONOTONIC

    @property
    def address(self) -> tuple[str, int]:
        """Of its one listener."""
        return "127.0.0.1", self.port

    def answers(self) -> bool:
        """Whether it answers on a new connection."""
        return ask(self.address, b"GET / HTTP/1.0\r\n\r\n", b" 200 ")

    def wait_tested(self) -> None:
        """Until monit has had an answer. Raises `TimeoutError`."""
        before = self._tests()
        until(lambda: self._tests() > before, TESTED_WITHIN_S, "monit tests nginx")

    def _tests(self) -> int:
        return self.access_log.read_text().count('"Monit/')


@contextmanager
def restartable(home: Path, library: Path) -> Iterator[Restartable]:
    """It, in a new directory, running; at the end it is killed, whoever started it last."""
    home.mkdir()
    port = free_port()
    shim = shim_for(library, home / "shim")
    lose_wakeup = losing(shim, kicker(("127.0.0.1", port), HTTP[0]))

    def lose() -> float:
        lost = lose_wakeup()
        shim.trigger.unlink()  # a new process would find it new
        return lost

    control = home / "control"
    environment = " ".join(f"{name}={value}" for name, value in shim.environment.items())
    control.write_text(CONTROL.format(home=home, environment=environment))
    control.chmod(0o755)
    (home / "nginx.conf").write_text(NGINX_CONF.format(home=home, port=port))
    nginx = Restartable(control, home / "nginx.pid", home / "access.log", port, lose)
    try:
        subprocess.run([str(control), "start"], check=True)
        until(nginx.answers, 10, "nginx answers")
        yield nginx
    finally:
        with suppress(FileNotFoundError, ProcessLookupError):
            os.killpg(int(nginx.pidfile.read_text()), signal.SIGKILL)


@contextmanager
def monit(home: Path, nginx: Restartable) -> Iterator[None]:
    """monit, in a new directory, guarding nginx."""
    home.mkdir()
    control = home / "monitrc"
    control.write_text(MONITRC.format(home=home, nginx=nginx, cycle=CYCLE_S, start=START_S))
    control.chmod(0o600)
    with running(["monit", "-I", "-c", str(control)], home):
        yield
