"""The programs of the lab: each as its users run it, none knows of the lab.

Five wait in epoll without a time-out and can lose a wake-up for ever. redis (its serverCron, ten times a second) and
haproxy (at most a minute) wait with one, and are the control.

nginx keeps a timer for every connection that it knows, and waits no longer than to the first of them: it waits without
a time-out only while it has none. So its client connects after the wake-up is lost, and waits in the backlog.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tests.stall import HTTP, LINE, PING

SERVERS = Path(__file__).resolve().parent / "servers"
CLASSES = "/run/lab/classes"  # where the machine sees what `javac` has made


@dataclass(frozen=True, slots=True)
class Program:
    """A program, its unit, the name of the thread that waits in epoll, and how it is asked."""

    name: str
    unit: str
    comm: str
    port: int
    conversation: tuple[bytes, bytes]
    command: str = ""  # of a unit of ours; empty: Debian's own
    keys: str = ""  # of that unit
    times_clients: bool = False  # a connection that it knows gives its wait a time-out

    @property
    def address(self) -> tuple[str, int]:
        """Of its TCP listener."""
        return ("127.0.0.1", self.port)

    @property
    def unit_file(self) -> str:
        """The unit's text, where it is ours."""
        return f"[Service]\nExecStart={self.command}\n{self.keys}"

    @property
    def service(self) -> str:
        """The table of the daemon's config that guards it."""
        question, end = (text.decode() for text in self.conversation)
        send, expect = json.dumps(question), json.dumps(re.escape(end.strip()))
        return SERVICE.format(name=self.name, unit=self.unit, port=self.port, send=send, expect=expect)


# The machine has one slow CPU for seven services and their guard.
SERVICE = """
[service.{name}]
unit = "{unit}"
interval = "2s"
interval_suspect = "500ms"
rise = 1
settle = "1s"
dark_for = "30s"

[service.{name}.budget.nudge]
burst = 1000

[service.{name}.budget.restart]
burst = 1000

[service.{name}.probe.tcp]
type = "tcp"
address = "127.0.0.1:{port}"
send = {send}
expect = {expect}

[service.{name}.probe.snmp]
type = "snmp"
address = "127.0.0.1:161"
oid = "1.3.6.1.2.1.25.4.2.1.7.{{pid}}"
community = {{ credential = "snmp-community" }}
"""

# Its table of processes (hrSWRunStatus): what it tells is of the very process.
SNMPD_CONF = """
agentAddress udp:127.0.0.1:161
view seen included .1.3.6.1.2.1.25.4.2.1
rocommunity lab 127.0.0.1 -V seen
"""
NGINX_CONF = """
worker_processes 1;
pid /run/nginx.pid;
events { worker_connections 64; }
http {
  access_log off;
  keepalive_timeout 0;
  server {
    listen 127.0.0.1:80;
    location / { default_type text/plain; return 200 "hello\\n"; }
  }
}
"""
HAPROXY_CONF = """
global
  stats socket /run/haproxy.sock
defaults
  mode http
  timeout client 1m
  timeout connect 1s
  timeout server 1m
frontend hello
  bind 127.0.0.1:7004
  http-request return status 200 content-type text/plain string "hello\\n"
"""

JAVA = f"/usr/bin/java -XX:+UseSerialGC -Xmx64m -cp {CLASSES} Nio"
DEMO = "/usr/lib/epoll-watchdog/bin/python3 -I -m watchdog.demo.service --dir /run/demo"
DEMO_KEYS = "RuntimeDirectory=demo\n"

LOSERS = (
    Program("nginx", "nginx.service", "nginx", 80, HTTP, times_clients=True),
    Program("node", "node.service", "node", 7001, LINE, f"/usr/bin/node {SERVERS}/echo.js 7001"),
    Program("java", "java.service", "selector", 7002, LINE, f"{JAVA} line 7002", "SuccessExitStatus=143\n"),
    Program("asyncio", "asyncio.service", "python3", 7003, LINE, f"/usr/bin/python3 {SERVERS}/echo.py 7003"),
    Program("demo", "demo.service", "loop", 7005, LINE, f"{DEMO} --port 7005", DEMO_KEYS),
)
CONTROLS = (
    Program("redis", "redis-server.service", "redis-server", 6379, PING),
    Program("haproxy", "haproxy.service", "haproxy", 7004, HTTP),
)
PROGRAMS = LOSERS + CONTROLS
NAMED = {program.name: program for program in PROGRAMS}
