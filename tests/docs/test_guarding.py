"""The examples for nginx and redis, asked of Debian's own: every probe of them is answered."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from tests import servers
from tests.docs.tables import MANUAL
from watchdog.cli.diagnose import command

GUIDE = (MANUAL.parent / "guarding.md").read_text()
UNIT = re.compile(r'unit = "[^"]+"')
COMMUNITY = re.compile(r'\{ credential = "snmp-community" \}')


def example(heading: str, pidfile: Path, snmpd: servers.Snmpd, places: Mapping[str, str]) -> str:
    """The configuration below a heading, for a server that is no unit, at other places."""
    _, _, part = GUIDE.partition(f"\n## {heading}\n")
    text = part.partition("```toml\n")[2].partition("```")[0]
    text = COMMUNITY.sub('{ env = "COMMUNITY" }', UNIT.sub(f'pidfile = "{pidfile}"', text))
    for place, here in {"127.0.0.1:161": snmpd.address, **places}.items():
        assert place in text
        text = text.replace(place, here)
    return text


def diagnosed(directory: Path, name: str, text: str, server: servers.Server, snmpd: servers.Snmpd) -> Result:
    """Once the agent knows of the process: it reads its table anew each second."""
    oid = f"{servers.HRSWRUN_STATUS}.{server.pid}"
    known = functools.partial(servers.snmp_command, directory, "snmpget", snmpd.port, snmpd.community, oid)
    servers.until(known, 10, "the agent's word on the process")
    config = directory / "config.toml"
    config.write_text(text)
    environment = {"COMMUNITY": snmpd.community, "COLUMNS": "100"}
    return CliRunner(env=environment).invoke(command, [name, "--config", str(config)])


def alive(done: Result) -> list[str]:
    """The probes that were answered."""
    return re.findall(r"^(\w+) .* alive ", done.stdout, re.MULTILINE)


def test_the_probes_of_nginx_are_answered(tmp_path: Path, snmpd: servers.Snmpd) -> None:
    _, _, location = GUIDE.partition("    location = /alive")
    location = "location = /alive" + location.partition("\n")[0]
    with servers.nginx(tmp_path, server_config=location) as nginx:
        places = {"127.0.0.1:80": nginx.address, "/run/nginx-alive.sock": str(nginx.path)}
        done = diagnosed(tmp_path, "nginx", example("nginx", nginx.pidfile, snmpd, places), nginx, snmpd)

    assert alive(done) == ["http", "unix", "process"], done.output
    assert "answered 204" in done.stdout
    assert done.exit_code == 0


def test_the_socket_of_nginx_is_open_to_the_user_of_the_daemon(tmp_path: Path) -> None:
    with servers.nginx(tmp_path) as nginx:
        mode = nginx.path.stat().st_mode & 0o777

    assert mode == 0o666


def asked(redis: servers.Redis, directory: Path, snmpd: servers.Snmpd) -> Result:
    places = {"127.0.0.1:6379": redis.address, "/run/redis/redis-server.sock": str(redis.path)}
    return diagnosed(directory, "redis", example("redis", redis.pidfile, snmpd, places), redis, snmpd)


def test_the_probes_of_redis_are_answered(redis: servers.Redis, tmp_path: Path, snmpd: servers.Snmpd) -> None:
    done = asked(redis, tmp_path, snmpd)

    assert (alive(done), done.exit_code) == (["tcp", "unix", "process"], 0), done.output


def test_a_redis_with_a_password_answers_without_it(redis: servers.Redis, tmp_path: Path, snmpd: servers.Snmpd) -> None:
    address = ("127.0.0.1", redis.port)
    assert servers.ask(address, b"CONFIG SET requirepass sesame\r\n", b"+OK")
    assert servers.ask(address, b"PING\r\n", b"-NOAUTH Authentication required.")

    done = asked(redis, tmp_path, snmpd)

    assert (alive(done), done.exit_code) == (["tcp", "unix", "process"], 0), done.output
