"""The drill on programs as they are, under load: healed each time, nothing lost, nothing left behind.

DRILLS drills each: 1 in `make test`, 20 in `make drills`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drills.conftest import Tell
from tests.drills.programs import GET, PROGRAMS, Running, load
from tests.helper.test_stall import vdso
from tests.integration.guarding import Guarding, guarding
from tests.servers import ask, until
from watchdog.helper.stall import parked
from watchdog.model import Epoch
from watchdog.target import start_time

DRILLS = int(os.environ.get("DRILLS", "1"))
PING = (b"PING\r\n", b"PONG")
SERVICE = """\
[service.drilled]
pidfile = "{pidfile}"
drill = true
interval = "500ms"
interval_suspect = "200ms"
timeout = "500ms"
rise = 1
settle = "300ms"
budget.nudge.burst = 1000
mode = "nudge"
[service.drilled.probe.tcp]
type = "tcp"
address = "127.0.0.1:{port}"
send = {send}
expect = "{expect}"
"""


def service(name: str, running: Running) -> str:
    send, expect = PING if name == "redis" else (GET, b"hello")
    words = {"send": json.dumps(send.decode()), "expect": expect.decode()}
    return SERVICE.format(pidfile=running.pidfile, port=running.port, **words)


def drill(guard: Guarding) -> dict[str, Any]:
    """Once; what the command tells. Where a probe was late in the very round that it looked at, it is asked again."""
    where = ("--url", f"http://{guard.daemon.address}", "--config", str(guard.config))
    command = [sys.executable, "-P", "-m", "watchdog", "drill", "drilled", "--json", "--at-most", "60s", *where]
    ends = time.monotonic() + 30
    while True:
        guard.wait_verdict("drilled", "healthy")
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        if "is not healthy but" not in done.stderr or time.monotonic() > ends:
            break
    assert done.returncode == 0, done.stdout + done.stderr + guard.daemon.said()[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def lives(running: Running) -> list[Epoch]:
    return [Epoch(pid, start_time(pid)) for pid in running.serving]


def own_vdso(pid: int) -> bytes:
    """What the ELF file fills of it: behind that are the detours."""
    image, end = vdso(pid)
    return image[:end]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short, for a Unix socket's path has 107 bytes."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.mark.timeout(180 + 60 * DRILLS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_each_drill_under_load_is_healed_by_a_nudge_and_costs_nothing(name: str, directory: Path, tell: Tell) -> None:
    with PROGRAMS[name](directory) as running, guarding(directory, service(name, running)) as guard:
        guard.wait_verdict("drilled", "healthy")
        before = lives(running), running.epolls(), [own_vdso(pid) for pid in running.serving]
        with load(name, running.port) as clients:
            told = []
            for _ in range(DRILLS):
                until(
                    lambda: guard.service("drilled")["healthy"] and not guard.service("drilled")["incident"], 20, "well"
                )
                told.append(drill(guard))
            complaints = clients.end()
        send, expect = PING if name == "redis" else (GET, b"hello")
        assert ask(("127.0.0.1", running.port), send, expect)
        assert (lives(running), running.epolls(), [own_vdso(pid) for pid in running.serving]) == before
        assert [tid for epoch in lives(running) for tid in parked(epoch)] == []
        verdicts = {(incident["verdict"], incident["certainty"]) for incident in guard.incidents("drilled")}
    assert complaints == []
    assert {each["healed_by"] for each in told} == {"a nudge"}
    assert min(each["woken_seconds"] for each in told) < 10  # what --at-most is where nothing is said
    assert verdicts == {("epoll_stall", "confirmed")}
    tell(name, [each["woken_seconds"] for each in told], [each["threads"] for each in told])
