"""The real daemon with TLS and a password: curl and Prometheus ask it, and SIGHUP changes who may."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import pytest
import trustme

from tests.servers import free_port, running, until
from tests.web.certified import written

SOUND = """\
tls_server_config: {cert_file: cert.pem, key_file: key.pem}
basic_auth_users: {prometheus: %s}
"""
CONFIG = """\
state_directory = "%(home)s/state"
[http]
listen = ["127.0.0.1:%(port)d", "unix:%(home)s/web.sock"]
web_config = "%(home)s/web.yml"
[service.web]
pidfile = "%(home)s/no.pid"
mode = "observe"
[service.web.probe.tcp]
type = "tcp"
address = "127.0.0.1:9"
connect_only = true
"""
SCRAPES = """\
global: {scrape_interval: 500ms}
scrape_configs:
  - job_name: watchdog
    scheme: https
    basic_auth: {username: prometheus, password: first}
    tls_config: {ca_file: %(home)s/ca.pem}
    static_configs: [{targets: ["127.0.0.1:%(port)d"]}]
"""


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(10)).decode()


class Site:
    """A running daemon, and curl."""

    def __init__(self, home: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.home, self.port, self.process = home, port, process

    def curl(self, path: str, password: str | None, *options: str) -> str:
        """The status; "000" where nobody answers."""
        login = ["--user", f"prometheus:{password}"] if password is not None else []
        trust = ["--cacert", str(self.home / "ca.pem"), f"https://127.0.0.1:{self.port}{path}"]
        argv = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", *login, *(options or trust)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout

    def said(self) -> str:
        return (self.home / "log").read_text()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    written(authority, tmp_path)
    (tmp_path / "web.yml").write_text(SOUND % hashed("first"))
    port = free_port()
    (tmp_path / "config.toml").write_text(CONFIG % {"home": tmp_path, "port": port})
    with daemon(tmp_path) as process:
        site = Site(tmp_path, port, process)
        until(lambda: "guarding 1 services" in site.said(), 20, "the daemon")
        yield site


@contextmanager
def daemon(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-m", "watchdog", "run", "--config", str(home / "config.toml")]
    with (home / "log").open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_curl_needs_the_password_and_a_reload_changes_it(site: Site) -> None:
    assert f"metrics at https://127.0.0.1:{site.port}/metrics" in site.said()
    assert [site.curl("/metrics", word) for word in ("first", "second", None)] == ["200", "401", "401"]
    assert site.curl("/api/v1/incidents/none/evidence", "first") == "404"
    socket = ["--unix-socket", f"{site.home}/web.sock"]
    assert site.curl("", None, *socket, "http://localhost/api/v1/incidents/none/evidence") == "404"

    (site.home / "web.yml").write_text("basic_auth_users: {prometheus: clear}\n")
    os.kill(site.process.pid, signal.SIGHUP)
    until(lambda: "is no bcrypt hash" in site.said(), 20, "the refusal")
    assert site.curl("/metrics", "first") == "200"

    written(authority := trustme.CA(), site.home)
    authority.cert_pem.write_to_path(site.home / "ca.pem")
    (site.home / "web.yml").write_text(SOUND % hashed("second"))
    os.kill(site.process.pid, signal.SIGHUP)
    until(lambda: site.curl("/metrics", "second") == "200", 20, "the new certificate and password")
    assert site.curl("/metrics", "first") == "401"


def test_prometheus_scrapes_it_with_tls_and_a_password(site: Site) -> None:
    port = free_port()
    config = site.home / "prometheus.yml"
    config.write_text(SCRAPES % {"home": site.home, "port": site.port})
    argv = ["/usr/bin/prometheus", f"--config.file={config}", f"--storage.tsdb.path={site.home}/data"]
    with running([*argv, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"], site.home):
        until(lambda: up(port) == ["1"], 30, "a scrape")


def up(port: int) -> list[str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query=up", timeout=5) as answer:
            return [series["value"][1] for series in json.load(answer)["data"]["result"]]
    except OSError:
        return []


def test_nothing_starts_with_a_bad_web_configuration(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text("basic_auth_users: {prometheus: clear}\n")
    (tmp_path / "config.toml").write_text(CONFIG % {"home": tmp_path, "port": free_port()})
    with daemon(tmp_path) as process:
        assert process.wait(30) == 78
    assert f"{tmp_path}/web.yml: basic_auth_users.prometheus: is no bcrypt hash" in (tmp_path / "log").read_text()
