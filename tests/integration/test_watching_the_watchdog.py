"""Who watches the watchdog: the dead-man ping and the stacks of a loop that stands still, of the real daemon."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.integration.guarding import ENVIRONMENT, Guarding, demo_table, guarding
from tests.integration.test_faults import small_disk
from tests.servers import until
from watchdog.demo import child
from watchdog.helper.ptrace import PTRACE_DETACH, PTRACE_INTERRUPT, PTRACE_SEIZE, WALL, request

Pings = queue.Queue[tuple[str, str]]  # of each, the path and the body
SECRET = "/ping/path-that-nobody-may-see"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[child.Service]:
    with child.service(tmp_path) as running:
        yield running


@contextmanager
def monitor() -> Iterator[tuple[str, Pings]]:
    """A monitor on loopback: the URL to ping, and what came."""
    came: Pings = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.put((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"OK")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{SECRET}", came
        finally:
            server.shutdown()


def dead_man(url: str, interval: str = "15s") -> str:
    return f'[dead_man]\nurl = "{url}"\ninterval = "{interval}"\n'


def reload(guard: Guarding, text: str) -> None:
    """Put this configuration into force."""
    guard.config.write_text(text)
    os.kill(guard.pid, signal.SIGHUP)


def test_the_daemon_pings_at_its_start_and_a_reload_names_another_monitor(
    service: child.Service, tmp_path: Path
) -> None:
    with (
        monitor() as (url, came),
        monitor() as (other, came_there),
        guarding(tmp_path, demo_table(service) + dead_man(url), env=ENVIRONMENT) as guard,
    ):
        path, body = came.get(timeout=10)
        reload(guard, guard.config.read_text().replace(url, other))
        there, _ = came_there.get(timeout=10)
        until(lambda: guard.metric("dead_man_pings_total", outcome="success") == 2, 5, "two pings in the metrics")
        shown = guard.daemon.said() + guard.daemon.text("/metrics")
    assert (path, there) == (SECRET, SECRET)
    assert body.endswith(": guarding 1 services")
    assert came.empty()
    assert "path-that-nobody-may-see" not in shown


def test_a_monitor_that_is_out_of_the_configuration_is_not_pinged(service: child.Service, tmp_path: Path) -> None:
    with monitor() as (url, came), guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        assert guard.metric("dead_man_pings_total") is None
        without = guard.config.read_text()
        reload(guard, without + dead_man(url))
        came.get(timeout=10)
        reload(guard, without)
        until(lambda: guard.daemon.said().count("the config was read again") == 2, 10, "the second reload")
        guard.wait_verdict("demo", "healthy")
        assert came.empty()


def test_a_state_that_can_not_be_written_is_told_to_the_monitor(service: child.Service, tmp_path: Path) -> None:
    with (
        monitor() as (url, came),
        small_disk(tmp_path / "state", "ro"),
        guarding(tmp_path, demo_table(service) + dead_man(url), env=ENVIRONMENT) as guard,
    ):
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        until(lambda: guard.metric("store_writable") == 0, 10, "the metric of a state that cannot be written")
        reload(guard, guard.config.read_text().replace('"15s"', '"16s"'))  # so as not to wait for the next ping
        pings = [came.get(timeout=15)]
        while not pings[-1][0].endswith("/fail"):
            pings.append(came.get(timeout=15))
        until(lambda: guard.metric("dead_man_pings_total", outcome="fail") == 1, 5, "the metric of a failure told")
    assert "its state cannot be written: " in pings[-1][1]


def _held_in_poll(pid: int) -> bool:
    """Whether it is held, and in poll or ppoll; if not in these, it is let go."""
    request(PTRACE_SEIZE, pid)
    request(PTRACE_INTERRUPT, pid)
    os.waitpid(pid, WALL)
    if Path(f"/proc/{pid}/syscall").read_text().split()[0] in ("7", "271", "73"):  # of x86-64; ppoll of arm64
        return True
    request(PTRACE_DETACH, pid)
    return False


@contextmanager
def loop_held(pid: int) -> Iterator[None]:
    """The main thread stopped by a tracer, and no other: in its selector, where it does not keep the interpreter."""
    until(lambda: _held_in_poll(pid), 10, "the loop at rest")
    try:
        yield
    finally:
        request(PTRACE_DETACH, pid)


def test_a_loop_that_stands_still_leaves_its_stack_in_the_log(service: child.Service, tmp_path: Path) -> None:
    with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        guard.wait_verdict("demo", "healthy")
        with loop_held(guard.pid):
            until(lambda: "the loop has not run for" in guard.daemon.said(), 10, "the stacks")
        until(lambda: "the loop runs again: it stood still for" in guard.daemon.said(), 10, "the end of it")
        assert guard.metric("loop_late_total") == 1
        lines = guard.daemon.said().splitlines()
    [at] = [number for number, line in enumerate(lines) if "the loop has not run for" in line]
    assert lines[at + 1] == f"thread MainThread ({guard.pid}), which runs the loop:"
    assert lines[at + 2].endswith(" in _PollLikeSelector.select")


def test_systemds_sigabrt_leaves_the_stacks_of_a_loop_that_no_code_of_ours_can_see(
    service: child.Service, tmp_path: Path
) -> None:
    with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        guard.wait_verdict("demo", "healthy")
        subprocess.run(["prlimit", f"--pid={guard.pid}", "--core=0"], check=True)
        os.kill(guard.pid, signal.SIGABRT)
        assert guard.daemon.process.wait(timeout=10) == -signal.SIGABRT
        said = guard.daemon.said()
    assert "Fatal Python error: Aborted" in said
    assert ", line " in said
    assert " in run_forever" in said
