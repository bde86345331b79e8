"""`epoll-watchdog demo`: the real thing on show, in a terminal and without one, and gone without a trace."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import until

DEMO = [sys.executable, "-P", "-m", "watchdog", "demo"]
NOBODY = 65534


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demo keeps its files; short, for a Unix socket's path has 107 bytes."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o1777)
        yield path


def environment(temporary: Path, **more: str) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return {**kept, "TMPDIR": str(temporary), "TERM": "xterm-256color", "COLUMNS": "80", **more}


@contextmanager
def in_terminal(temporary: Path, *options: str, **more: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The demo with a terminal of its own; yields it and the terminal's other end."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *DEMO, *options],
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment(temporary, **more),
    )
    os.close(its)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(terminal: int, text: str, within_s: float = 30.0) -> str:
    """What the terminal shows, up to `text`; an empty one reads to the end."""
    shown, deadline = "", time.monotonic() + within_s
    while not text or text not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"not shown within {within_s:g} s: {text!r} in {shown!r}"
        try:
            shown += os.read(terminal, 65536).decode(errors="replace")
        except OSError:  # EIO: nobody holds the other end any more
            assert not text, shown
            break
    return shown


def processes_of(temporary: Path) -> list[int]:
    """Who has the demo's directory among its arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(temporary).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_once_heals_one_stall_and_says_how_long_it_took(temporary: Path) -> None:
    done = subprocess.run([*DEMO, "--once"], capture_output=True, text=True, env=environment(temporary), timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"healed in (\d+) ms", done.stdout)
    assert told
    assert int(told[1]) < 3000
    assert "webhook: resolved" in done.stdout
    assert "/metrics" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stderr == ""
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []


def test_it_works_as_an_ordinary_user(temporary: Path) -> None:
    argv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *DEMO, "--once"]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(temporary), timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "healed in" in done.stdout


def test_in_a_terminal_it_goes_on_until_ctrl_c(temporary: Path) -> None:
    with in_terminal(temporary, "--pause", "0.1", LINES="60") as (process, terminal):  # all rows
        shown = read_until(terminal, "2 of 2 stalls healed")
        assert "witness" in shown
        assert "\x1b[32m" in shown
        assert max(map(int, re.findall(r"healed in (\d+) ms", shown))) < 3000
        os.write(terminal, b"\x03")
        shown = read_until(terminal, "")
        assert process.wait(timeout=10) == 0
    assert "Traceback" not in shown
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []


def test_the_page_that_it_names_tells_the_story(temporary: Path) -> None:
    argv = [*DEMO, "--pause", "0.5"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment(temporary)) as process:
        assert process.stdout is not None
        url = next(line for line in process.stdout if "in a browser" in line).split()[-1]
        next(line for line in process.stdout if "the daemon closed incident" in line)
        with urllib.request.urlopen(url, timeout=5) as answer:
            page = answer.read().decode()
        process.terminate()
        process.stdout.read()
    assert "epoll_stall (confirmed)" in page
    assert re.search(r'<a href="/incidents/[0-9a-f-]+">', page)


def test_no_color_is_obeyed_in_a_terminal(temporary: Path) -> None:
    with in_terminal(temporary, NO_COLOR="1") as (process, terminal):
        shown = read_until(terminal, "verdict: healthy")
        os.write(terminal, b"\x03")
        shown += read_until(terminal, "")
        assert process.wait(timeout=10) == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown)


def test_a_stall_that_is_not_healed_is_a_failure(temporary: Path) -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, env=environment(temporary)) as process:
        assert process.stdout is not None
        daemon = next(line for line in process.stdout if "daemon" in line)
        os.kill(int(daemon.split()[-1]), signal.SIGKILL)
        rest = process.stdout.read()
        assert process.wait(timeout=30) == 1
    assert "the daemon has ended" in rest


def test_a_killed_demo_leaves_no_child_behind(temporary: Path) -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, env=environment(temporary)) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if "healthy" in line)
        assert len(processes_of(temporary)) >= 2
        process.kill()
    until(lambda: processes_of(temporary) == [], 10, "the end of the demo's children")
