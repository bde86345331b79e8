"""No secret is told by anybody: the real daemon, with every channel, probe and place of a secret, and peers that fail
in every way and repeat all that they were sent.

Every secret holds `MARK`. What is looked through: the log of daemon and helper (--verbose), every page and API path,
what the commands say, the state directory, argv and environment of every process that the daemon starts. Its own
environment holds what the operator put there, and so does that of the child that checks the config, which must read
it; nobody else's does.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import bcrypt
import pytest
import trustme

from tests.servers import free_port, until
from watchdog.demo import child
from watchdog.demo.agent import SYS_UPTIME

MARK = "s3cret"
TOKEN = f"{MARK}-0123456789-0123456789"  # what is as long as a token is
TRIED = ("hook-words", "hook-header", "hook-redirect", "hook-nameless", "hook-proxy")
WAYS = ("500", "redirect", "hang", "cut", "garbage", "429")


def secret(name: str) -> str:
    """A secret that says which one it is."""
    return f"{MARK}-{name}-{MARK}"


# --- peers that repeat everything -------------------------------------------------------------------------------------


class _Http(socketserver.BaseRequestHandler):
    """Answers as the path asks for, with all that was sent in headers and body."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            head = _until(self.request, b"\r\n\r\n")
            path, shown = head.split(b" ")[1:2], head.replace(b"\r\n", b" ")
            way = next((way for way in WAYS if path and f"/{way}/".encode() in path[0]), "500")
            if way == "hang":
                self.request.recv(1 << 20)
                self.server.ending.wait()  # type: ignore[attr-defined]
            elif way == "garbage":
                self.request.sendall(b"SSH-2.0 " + shown + b"\r\n\r\n")
            elif way != "cut":
                status = {"redirect": "302 Found", "429": "429 Wait"}.get(way, f"500 {path[0].decode()}")
                location = f"http://elsewhere.invalid{path[0].decode()}"
                answer = f"HTTP/1.1 {status}\r\nLocation: {location}\r\nRetry-After: {location}\r\nX: ".encode() + shown
                self.request.sendall(answer + b"\r\nConnection: close\r\n\r\n" + head * 3)


class _Smtp(socketserver.BaseRequestHandler):
    """Refuses the login in the words of the one who asks."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.request.sendall(b"220 here\r\n")
            while line := _until(self.request, b"\r\n"):
                said = line.strip()
                if said.upper().startswith((b"EHLO", b"HELO")):
                    self.request.sendall(b"250-here\r\n250 AUTH PLAIN LOGIN\r\n")
                elif said.upper() == b"QUIT":
                    return
                else:
                    self.request.sendall(b"535 5.7.8 no: " + said + b" " + _decoded(said) + b"\r\n")


def _decoded(said: bytes) -> bytes:
    try:
        return base64.b64decode(said.split(b" ")[-1]).replace(b"\0", b" ")
    except ValueError:
        return b""


def _until(connection: socket.socket, end: bytes) -> bytes:
    read = b""
    while end not in read:
        data = connection.recv(65536)
        if not data:
            break
        read += data
    return read


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    tls: ssl.SSLContext | None = None
    ending: threading.Event

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = self.socket.accept()
        connection.settimeout(20)
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """Who does not trust us leaves."""


@contextlib.contextmanager
def serving(handler: type[socketserver.BaseRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of such a peer."""
    with _Server(("127.0.0.1", 0), handler) as server:
        server.tls, server.ending = tls, threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.ending.set()
            server.shutdown()


# --- the configuration ------------------------------------------------------------------------------------------------

GENERAL = """\
state_directory = "{home}/state"
[http]
listen = ["127.0.0.1:{listen}", "unix:{home}/web.sock"]
web_config = "{home}/web.yml"
[dead_man]
url = {{ file = "{kept}/dead-man-url" }}
interval = "15s"
timeout = "1s"
"""
WEBHOOK = """\
[channel.hook-{name}]
type = "webhook"
url = "{url}"
timeout = "700ms"
headers = {{ X-Inline = "{inline}", X-Kept = {{ credential = "header" }} }}
secret = [{{ credential = "signs" }}, {{ env = "SIGNS_TOO" }}]
{more}
"""
CHANNELS = """\
[channel.hook-words]
type = "webhook"
url = {{ file = "{kept}/no-url" }}
[channel.hook-header]
type = "webhook"
url = "http://127.0.0.1:{http}/500/{inline}"
headers = {{ X-Kept = {{ file = "{kept}/two-lines" }} }}
[channel.hook-base64]
type = "webhook"
url = "http://127.0.0.1:{http}/500/{inline}"
secret = {{ file = "{kept}/no-base64" }}
[channel.am-format]
type = "webhook"
format = "alertmanager"
url = {{ file = "{kept}/url-of-redirect" }}
[channel.am]
type = "alertmanager"
urls = ["http://user:{inline}@127.0.0.1:{http}/500", {{ file = "{kept}/url-of-redirect" }}, {{ env = "AM_URL" }}]
headers = {{ Authorization = {{ credential = "header" }} }}
timeout = "700ms"
[channel.chat]
type = "slack"
min_severity = "info"
url = {{ credential = "slack-url" }}
[channel.pager]
type = "pagerduty"
min_severity = "info"
routing_key = {{ env = "ROUTING_KEY" }}
url = "http://127.0.0.1:{http}/garbage/{inline}"
[channel.mail]
type = "email"
min_severity = "info"
host = "127.0.0.1"
port = {smtp}
tls = "tls"
ca_file = "{home}/ca.pem"
username = "watchdog"
password = {{ file = "{kept}/mail-password" }}
sender = "watchdog@example.org"
recipients = ["ops@example.org"]
[channel.command]
type = "exec"
command = ["/bin/sh", "{home}/spy", "{home}/seen-channel", "1"]
"""
SERVICES = """\
[service.demo]
pidfile = "{at.pidfile}"
interval = "200ms"
interval_suspect = "100ms"
timeout = "200ms"
rise = 1
settle = "300ms"
[service.demo.probe.tcp]
type = "tcp"
address = "{at.tcp}"
send = "ping\\n"
expect = "pong"
[service.demo.probe.snmp]
type = "snmp"
address = "{at.snmp}"
oid = "{oid}"
community = {{ env = "SNMP_COMMUNITY" }}
strength = "inside"
[service.demo.probe.exec]
type = "exec"
command = ["/bin/sh", "{home}/spy", "{home}/seen-probe", "0"]
[service.web]
pidfile = "{at.pidfile}"
mode = "observe"
interval = "1s"
timeout = "500ms"
start_timeout = "1s"
fall = 1
{probes}
"""
PROBE = """\
[service.web.probe.{name}]
type = "http"
url = "{url}"
{more}
"""
SNMP = """\
[service.web.probe.snmp-2]
type = "snmp"
address = "{at.snmp}"
oid = "{oid}"
community = {{ file = "{kept}/community" }}
[service.web.probe.snmp-3]
type = "snmp"
address = "{at.snmp}"
oid = "{oid}"
version = "3"
username = "watcher"
auth_password = {{ file = "{kept}/auth" }}
privacy_password = {{ file = "{kept}/privacy" }}
"""
SPY = """\
#!/bin/sh
{ env; tr '\\0' ' ' < /proc/$PPID/cmdline; tr '\\0' '\\n' < /proc/self/environ; } >> "$1"
exit "$2"
"""
MISPLACED = """\
state_directory = "{home}/state"
[dead_man]
url = "{mark}"
[channel.a]
type = "webhook"
url = "htp://{mark}"
secret = "{mark}"
[channel.b]
type = "webhook"
url = "http://example.org/{mark}"
secret = {{ file = "{mark}" }}
[channel.c]
type = "webhook"
url = "http://example.org/{mark}"
secret = {{ credential = "{mark}/x" }}
min_severity = "https://example.org/{mark}"
[channel.d]
type = "webhook"
url = "http://example.org/{mark}"
secret = {{ env = "{mark}=x" }}
timeout = "{mark}"
[channel.e]
type = "alertmanager"
urls = "http://example.org/{mark}"
[channel.f]
type = "pagerduty"
routing_key = "{mark}"
url = "{mark}"
[channel.g]
type = "slack"
url = "http://{mark}:x/"
[channel.h]
type = "slack"
url = "http://example.org/{mark}"
proxy = "socks5://user:{mark}@example.org"
[channel.i]
type = "webhook"
url = "http://example.org/{mark}"
headers = {{ Authorization = "{mark}\\n" }}
[channel.j]
type = "email"
host = "user:{mark}@example.org"
sender = "watchdog@example.org"
recipients = ["ops@example.org"]
[channel.k]
type = "email"
host = "example.org"
username = "u"
password = "{mark}"
sender = "smtp://user:{mark}@example.org"
recipients = ["ops@example.org"]
[channel.l]
type = "email"
host = "example.org"
sender = "watchdog@example.org"
recipients = ["smtp://user:{mark}@example.org"]
[channel.m]
type = "https://example.org/{mark}"
[channel.n]
type = "webhook"
url = {{ env = "{mark}-x" }}
[service.web]
pidfile = "/run/web.pid"
[service.web.probe.a]
type = "http"
url = "http://user:{mark}@example.org:99999/"
[service.web.probe.b]
type = "http"
url = "http://user:{mark}@example.org/"
[service.web.probe.c]
type = "http"
url = "http://example.org/"
headers = {{ Authorization = "Bearer {mark}" }}
[service.web.probe.d]
type = "http"
url = "http://example.org/"
bearer_token = "{mark}"
[service.web.probe.e]
type = "snmp"
address = "127.0.0.1:161"
oid = "1.3.6.1.2.1.1.3.0"
community = "{mark}"
"""
UNREAD = '[channel.a]\ntype = "webhook"\nurl = https://example.org/{mark}\n'  # no TOML


def write_all(home: Path, kept: Path, http: int) -> dict[str, str]:
    """Every file; and the daemon's environment."""
    kept.mkdir(mode=0o700)
    url = f"http://127.0.0.1:{http}"
    for name, value in {
        "dead-man-url": f"{url}/redirect/{secret('dead-man')}",
        "no-url": secret("no-url"),
        "two-lines": f"{secret('two')}\r\nX-Lines: {secret('lines')}",
        "no-base64": f"whsec_{secret('no-base64')}!",
        "url-of-redirect": f"{url}/redirect/{secret('file-url')}",
        "header": secret("header"),
        "signs": secret("signs"),
        "slack-url": f"{url}/redirect/{secret('slack')}",
        "mail-password": secret("mail"),
        "basic": secret("basic"),
        "bearer": secret("bearer"),
        "community": secret("community"),
        "auth": secret("auth"),
        "privacy": secret("privacy"),
    }.items():
        (kept / name).write_text(value + "\n")
    (home / "spy").write_text(SPY)
    return {
        "CREDENTIALS_DIRECTORY": str(kept),
        "SIGNS_TOO": secret("signs-too"),
        "AM_URL": f"{url}/cut/{secret('env-url')}",
        "ROUTING_KEY": secret("routing"),
        "SNMP_COMMUNITY": "public",
        "UNUSED": "harmless",
    }


def configuration(home: Path, kept: Path, at: child.Addresses, ports: dict[str, int]) -> str:
    """All of it."""
    inline, local = secret("inline"), f"http://127.0.0.1:{ports['http']}"
    urls = {way: f"{local}/{way}/{inline}" for way in WAYS} | {
        "refused": f"http://127.0.0.1:{ports['closed']}/{inline}",
        "nameless": f"http://user:{inline}@{inline}.invalid/{inline}",
        "no-tls": f"https://127.0.0.1:{ports['http']}/{inline}",
        "untrusted": f"https://127.0.0.1:{ports['https']}/{inline}",
    }
    hooks = "".join(WEBHOOK.format(name=name, url=url, inline=inline, more="") for name, url in urls.items())
    for name, to in (("proxy", "http"), ("no-proxy", "closed")):
        more = f'proxy = "http://user:{inline}@127.0.0.1:{ports[to]}"'
        hooks += WEBHOOK.format(name=name, url=f"http://example.org/{inline}", inline=inline, more=more)
    login = f'basic_auth = {{ username = "prober", password = {{ file = "{kept}/basic" }} }}'
    bearer = f'bearer_token = {{ file = "{kept}/bearer" }}'
    probes = "".join(
        PROBE.format(name=f"{way}-{kind}", url=url.replace(inline, "path").replace("user:path@", ""), more=more)
        for kind, more in (("basic", login), ("bearer", bearer))
        for way, url in urls.items()
    )
    values = {"home": home, "kept": kept, "inline": inline, "at": at, "oid": SYS_UPTIME, **ports}
    probes += SNMP.format(**values)
    return (GENERAL + CHANNELS).format(**values) + hooks + SERVICES.format(probes=probes, **values)


# --- what was seen ----------------------------------------------------------------------------------------------------


class Seen:
    """Whatever anybody could see, by where."""

    def __init__(self, forbidden: tuple[bytes, ...]) -> None:
        self._forbidden = forbidden
        self.leaks: set[str] = set()
        self.places = 0

    def look(self, where: str, content: bytes | str) -> None:
        """Look through it."""
        data = content.encode() if isinstance(content, str) else content
        self.places += 1
        for word in self._forbidden:
            for found in re.finditer(re.escape(word), data):
                self.leaks.add(f"{where}: …{data[max(0, found.start() - 120) : found.end() + 60]!r}…")


def children_of(pid: int) -> Iterator[int]:
    """All that descend from it."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for text in (task / "children").read_text().split():
                yield int(text)
                yield from children_of(int(text))


@contextlib.contextmanager
def spying(pid: int, seen: Seen) -> Iterator[set[str]]:
    """Looks at every process that the daemon starts; gives what programs were seen."""
    programs: set[str] = set()
    ending = threading.Event()
    own = Path(f"/proc/{pid}/cmdline").read_bytes()

    def spy() -> None:
        while not ending.wait(0.005):
            for process in children_of(pid):
                with contextlib.suppress(OSError):
                    command = Path(f"/proc/{process}/cmdline").read_bytes()
                    environment = Path(f"/proc/{process}/environ").read_bytes()
                    if Path(f"/proc/{process}/cmdline").read_bytes() != command or command == own or not command:
                        continue  # between fork and exec it is still the daemon itself
                    words = command.replace(b"\0", b" ").decode()
                    programs.add(words)
                    seen.look(f"argv of {words}", command)
                    if b"watchdog.config" not in command:
                        seen.look(f"environment of {words}", environment)

    thread = threading.Thread(target=spy)
    thread.start()
    try:
        yield programs
    finally:
        ending.set()
        thread.join()


class Site:
    """The running daemon."""

    def __init__(
        self, home: Path, process: subprocess.Popen[bytes], env: dict[str, str], service: child.Service
    ) -> None:
        self.home, self.process, self.env, self.service = home, process, env, service
        self.config = home / "config.toml"
        self.url = f"unix:{home}/web.sock"

    def said(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def reload(self, content: str, until_said: str) -> None:
        """With another config."""
        self.config.write_text(content)
        before = self.said().count(until_said)
        os.kill(self.process.pid, signal.SIGHUP)
        self.wait(lambda: self.said().count(until_said) > before, until_said)

    def wait(self, check: Callable[[], bool], what: str, within_s: float = 120.0) -> None:
        try:
            until(check, within_s, what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.said()[-6000:]}") from None

    def command(self, *words: str) -> str:
        """What a command of ours says."""
        argv = [sys.executable, "-m", "watchdog", *words]
        ran = subprocess.run(argv, capture_output=True, text=True, env=os.environ | self.env, timeout=120)
        return f"{ran.stdout}\n{ran.stderr}"

    def page(self, path: str) -> tuple[bytes, bytes]:
        """Headers and body, over the Unix socket, whatever the status."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(f"{self.home}/web.sock")
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return str(answer.headers).encode(), answer.read()


@pytest.fixture
def site(tmp_path: Path, seen: Seen) -> Iterator[Site]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trusted = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(trusted)
    hashed = bcrypt.hashpw(secret("web").encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{prometheus: {hashed}}}\n")
    (tmp_path / "service").mkdir()
    kept = tmp_path / "kept"
    with ExitStack() as stack:
        service = stack.enter_context(child.service(tmp_path / "service"))
        ports = {
            "http": stack.enter_context(serving(_Http)),
            "https": stack.enter_context(serving(_Http, trusted)),
            "smtp": stack.enter_context(serving(_Smtp, trusted)),
            "closed": free_port(),
            "listen": free_port(),
        }
        env = write_all(tmp_path, kept, ports["http"])
        (tmp_path / "config.toml").write_text(configuration(tmp_path, kept, service.addresses, ports))
        argv = [sys.executable, "-P", "-m", "watchdog", "run", "--verbose", "--config", str(tmp_path / "config.toml")]
        process = stack.enter_context(child.child(argv, log=tmp_path / "log", env=env))
        site = Site(tmp_path, process, env, service)
        site.wait(lambda: "guarding 2 services" in site.said() or process.poll() is not None, "the daemon")
        assert process.poll() is None, site.said()
        yield site


@pytest.fixture
def seen() -> Seen:
    logins = [base64.b64encode(f"prober:{secret('basic')}".encode()), base64.b64encode(secret("mail").encode())]
    return Seen((MARK.encode(), b"$2b$", *logins))


@pytest.mark.timeout(600)  # two dozen commands, and three reloads, each a Python of its own
def test_nothing_tells_a_secret(site: Site, seen: Seen) -> None:
    sound = site.config.read_text()
    channels = [line[9:-1] for line in sound.splitlines() if line.startswith("[channel.")]
    with spying(site.process.pid, seen) as programs:
        site.wait(lambda: _verdict(site, "demo") == "healthy", "a healthy service")
        site.service.lose_wakeup()
        site.wait(lambda: " demo: resolved: " in site.said(), "the recovery")
        site.wait(lambda: " web: opened: " in site.said(), "an incident of what every probe finds dark")
        for channel in channels:
            site.wait(lambda: f"channel {channel}: " in site.said(), f"the failure of {channel}")  # noqa: B023  (it is waited on here)
        site.wait(lambda: "the dead-man ping fails" in site.said(), "the dead man's failure")
        _ask_everything(site, seen, channels)
        site.reload(MISPLACED.format(home=site.home, mark=TOKEN), "the old one stays in force")
        seen.look("check-config of a bad one", site.command("check-config", str(site.config)))
        seen.look("check-config --json", site.command("check-config", "--json", str(site.config)))
        site.reload(UNREAD.format(mark=TOKEN), "the old one stays in force")
        seen.look("check-config of what is no TOML", site.command("check-config", str(site.config)))
        (site.home / "web.yml").write_text(f"basic_auth_users: {{prometheus: {secret('clear')}}}\n")
        site.reload(sound, "the old one stays in force")
        seen.look("check-config of a web.yml", site.command("check-config", str(site.config)))
    assert any("watchdog.helper" in words for words in programs)
    assert any("watchdog.config" in words for words in programs)
    for name in ("seen-channel", "seen-probe"):
        seen.look(f"the environment that {name} had", (site.home / name).read_bytes())
    site.process.terminate()
    site.process.wait(60)
    seen.look("the log", site.said())
    for file in sorted((site.home / "state").iterdir()):
        seen.look(f"state/{file.name}", file.read_bytes())
    assert seen.leaks == set(), "\n".join(sorted(seen.leaks))


def _verdict(site: Site, name: str) -> str:
    services = json.loads(site.page("/api/v1/services")[1])["services"]
    return next(str(service["verdict"]) for service in services if service["name"] == name)


def _ask_everything(site: Site, seen: Seen, channels: list[str]) -> None:
    incidents = json.loads(site.page("/api/v1/incidents")[1])["incidents"]
    assert {incident["service"] for incident in incidents} == {"demo", "web"}
    evidence = [f"/api/v1/incidents/{incident['id']}/evidence" for incident in incidents]
    health = ["/-/healthy", "/-/ready", "/-/service/demo", "/-/service/web", "/-/service/none", "/none"]
    for path in ["/metrics", "/api/v1/services", "/api/v1/incidents", "/api/v1/incidents?limit=x", *evidence, *health]:
        seen.look(path, b"\n".join(site.page(path)))
    password = site.home / "kept" / "web-password"
    address = next(line for line in site.said().splitlines() if "metrics at" in line).rpartition(" at ")[2]
    for word in ("web", "wrong"):
        password.write_text(secret(word))
        login = ("--user", "prometheus", "--password-file", str(password))
        seen.look(
            f"status with a password ({word})",
            site.command("status", "--url", address.removesuffix("/metrics"), *login),
        )
    for options in ((), ("--json",)):
        seen.look(f"status {options}", site.command("status", "--url", site.url, *options))
        seen.look(f"check-config {options}", site.command("check-config", str(site.config), *options))
    seen.look("diagnose", site.command("diagnose", "web", "--config", str(site.config)))
    failed = 0
    tried = [channel for channel in channels if not channel.startswith("hook-") or channel in TRIED]
    for channel in tried:
        said = site.command("alert-test", channel, "--config", str(site.config))
        failed += "FAILED" in said
        seen.look(f"alert-test {channel}", said)
    assert failed == len(tried)
