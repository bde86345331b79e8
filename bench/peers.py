"""Debian's prometheus-blackbox-exporter and prometheus-snmp-exporter: started, and scraped over a kept connection."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from tests.servers import ask, free_port, running, wait_ready

BLACKBOX = "prometheus-blackbox-exporter"
SNMP = "prometheus-snmp-exporter"

BLACKBOX_CONFIG = """\
modules:
  http:
    prober: http
    timeout: 2s
    http: {preferred_ip_protocol: ip4}
  ping:
    prober: tcp
    timeout: 2s
    tcp:
      preferred_ip_protocol: ip4
      query_response:
      - send: "PING"
      - expect: "^.PONG"
"""
SNMP_CONFIG = """\
uptime:
  get: [1.3.6.1.2.1.1.3.0]
  metrics:
  - {name: sysUpTime, oid: 1.3.6.1.2.1.1.3, type: gauge}
  version: 2
  auth: {community: public}
"""


class Unanswered(Exception):
    """An exporter did not tell of a probe that succeeded."""


@dataclass(slots=True)
class Peer:
    """An exporter, and the connection that it is scraped by."""

    pid: int
    connection: http.client.HTTPConnection

    def take(self, path: str, success: bytes, count: int, interval: float) -> None:
        """Scrape so many times, every `interval` seconds (0: back to back). Raises `Unanswered`."""
        due = time.monotonic()
        for _ in range(count):
            due += interval
            time.sleep(max(0.0, due - time.monotonic()))
            self.connection.request("GET", path)
            body = self.connection.getresponse().read()
            if success not in body:
                raise Unanswered(f"{path}: {body.decode(errors='replace')[-500:]}")


def probe_path(module: str, target: str) -> str:
    """Where blackbox_exporter probes."""
    return f"/probe?{urlencode({'module': module, 'target': target})}"


def snmp_path(target: str) -> str:
    """Where snmp_exporter asks for sysUpTime."""
    return f"/snmp?{urlencode({'module': 'uptime', 'target': target})}"


@contextmanager
def exporter(program: str, config: str, directory: Path) -> Iterator[Peer]:
    """The exporter with that config, ready, and a connection to it."""
    home = directory / program
    home.mkdir()
    (home / "config.yml").write_text(config)
    port = free_port()
    argv = [program, f"--config.file={home / 'config.yml'}", f"--web.listen-address=127.0.0.1:{port}"]
    with running(argv, home) as server:
        wait_ready(server, lambda: ask(("127.0.0.1", port), b"GET /metrics HTTP/1.0\r\n\r\n", b" 200 "))
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            yield Peer(server.pid, connection)
