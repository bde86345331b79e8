"""`epoll-watchdog alert-test`, with real receivers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.servers import free_port
from watchdog.alerts import CHANNELS
from watchdog.cli.alert_test import _send, command, letter
from watchdog.config import Channel
from watchdog.model import Severity

SERVICE = (
    '[service.web]\nunit = "web.service"\n[service.web.probe.tcp]\ntype = "tcp"\naddress = "127.0.0.1:80"\nsend = "x"\n'
)
TOKEN = "T0PSECRET"


@contextmanager
def receiver(status: int) -> Iterator[tuple[int, list[Mapping[str, Any]]]]:
    """A receiver that answers so; its port, and what it was sent."""
    taken: list[Mapping[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, taken
        finally:
            server.shutdown()
            thread.join()


def run(directory: Path, port: int, name: str = "ops") -> Result:
    channel = f'[channel.ops]\ntype = "webhook"\nurl = "http://127.0.0.1:{port}/{TOKEN}"\nmin_severity = "critical"\n'
    (directory / "config.toml").write_text(f'{SERVICE}{channel}services = ["web"]\nevents = ["resolved"]\n')
    return CliRunner().invoke(command, [name, "--config", str(directory / "config.toml")])


def test_a_marked_message_reaches_the_receiver(tmp_path: Path) -> None:
    with receiver(204) as (port, taken):
        done = run(tmp_path, port)
    assert done.exit_code == 0
    assert "channel ops (webhook): delivered in " in done.stdout
    (told,) = taken
    assert (told["kind"], told["severity"], told["service"]) == ("test", "critical", "alert-test")
    assert told["text"].startswith("This is a test of the channel ops, sent by ")


@pytest.mark.parametrize(("status", "advice"), [(500, "would try again soon"), (404, "would go no better")])
def test_a_refusal_is_told_and_exits_1(tmp_path: Path, status: int, advice: str) -> None:
    with receiver(status) as (port, taken):
        done = run(tmp_path, port)
    assert (done.exit_code, len(taken)) == (1, 1)
    assert f"answered {status}" in done.stderr
    assert advice in done.stderr
    assert TOKEN not in done.output


def test_a_receiver_that_is_not_there_is_told_without_its_url(tmp_path: Path) -> None:
    done = run(tmp_path, free_port())
    assert done.exit_code == 1
    assert "FAILED after" in done.stderr
    assert "Connection refused" in done.stderr
    assert TOKEN not in done.output


def test_an_unknown_channel_is_told_with_those_there_are(tmp_path: Path) -> None:
    done = run(tmp_path, 1, "oops")
    assert (done.exit_code, "known here: ops" in done.stderr) == (2, True)


def test_a_bad_config_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("nonsense = 1\n")
    done = CliRunner().invoke(command, ["ops", "--config", str(tmp_path / "config.toml")])
    assert (done.exit_code, "nonsense: is no key" in done.stderr) == (3, True)


async def test_a_channels_own_fault_is_told_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = CHANNELS["webhook"]

    async def broken(*_: object) -> None:
        raise RuntimeError(TOKEN)

    monkeypatch.setattr(kind.open, "send", broken)
    settings = kind.settings(url="http://127.0.0.1:1/")
    result = await _send(Channel(name="ops", type="webhook", settings=settings))
    assert "RuntimeError" in str(result)
    assert TOKEN not in str(result)


@pytest.mark.parametrize("severity", Severity)
def test_the_severity_is_one_that_the_channel_takes(severity: Severity) -> None:
    settings = CHANNELS["webhook"].settings(url="http://127.0.0.1:1/", min_severity=severity)
    assert letter(Channel(name="ops", type="webhook", settings=settings)).severity == severity
