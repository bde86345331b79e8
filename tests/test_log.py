"""Lines of the log, written to real streams and to a socket in the place of the journal's."""

from __future__ import annotations

import array
import contextlib
import io
import logging
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchdog import log
from watchdog.messages import MESSAGES
from watchdog.model import Record, RecordKind, Severity

OPENED = Record(RecordKind.OPENED, 1.0, "the loop sleeps", "01J", Severity.WARNING, {"verdict": "epoll_stall"})


@pytest.fixture(autouse=True)
def no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may themselves run under systemd."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)


def written(level: int = logging.INFO) -> tuple[contextlib.AbstractContextManager[None], io.StringIO]:
    """A log to a stream that is no terminal."""
    stream = io.StringIO()
    return log.lines(level, stream), stream


def test_a_record_is_one_line_with_its_service_and_kind() -> None:
    lines, stream = written()
    with lines:
        log.record("ravendb", OPENED)
    assert stream.getvalue().endswith(" WARNING  ravendb: opened: the loop sleeps\n")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("severity", "level"),
    [(None, "INFO"), (Severity.INFO, "INFO"), (Severity.WARNING, "WARNING"), (Severity.CRITICAL, "CRITICAL")],
)
def test_severity_becomes_the_level(severity: Severity | None, level: str) -> None:
    lines, stream = written()
    with lines:
        log.record("ravendb", Record(RecordKind.ESCALATED, 1.0, "text", "01J", severity))
    assert stream.getvalue().split()[2] == level


def test_debug_lines_are_ours_only() -> None:
    lines, stream = written(logging.DEBUG)
    with lines:
        logging.getLogger("watchdog.guard").debug("ours")
        logging.getLogger("asyncio").debug("theirs")
    assert "ours" in stream.getvalue()
    assert "theirs" not in stream.getvalue()


def test_levels_and_handlers_are_as_before_when_it_ends() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("watchdog").level)
    lines, _stream = written(logging.DEBUG)
    with lines:
        pass
    assert (root.level, list(root.handlers), logging.getLogger("watchdog").level) == before


def test_a_traceback_is_kept() -> None:
    lines, stream = written()
    with lines:
        try:
            raise ValueError("what went wrong")
        except ValueError:
            logging.getLogger("watchdog").exception("a fault of ours")
    assert "a fault of ours\nTraceback" in stream.getvalue()
    assert "ValueError: what went wrong" in stream.getvalue()


def test_a_terminal_gets_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _on_terminal().endswith(" CRITICAL text\x1b[0m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert _on_terminal().endswith(" CRITICAL text")


def _on_terminal() -> str:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream, log.lines(stream=stream):
        logging.getLogger("watchdog").critical("text")
    text = os.read(ours, 1000).decode()
    os.close(ours)
    return text.rstrip()


def test_a_stream_that_hangs_stops_nobody_and_the_lost_lines_are_counted() -> None:
    reading, writing = os.pipe()
    taken: list[bytes] = []
    with os.fdopen(writing, "w") as stream, log.lines(stream=stream):
        began = time.monotonic()
        for _ in range(log.ROOM * 3):
            logging.getLogger("watchdog").warning("x" * 1000)
        assert time.monotonic() - began < 5.0
        while b"lines were lost" not in b"".join(taken[-2:]):
            taken.append(os.read(reading, 65536))
            logging.getLogger("watchdog").warning("on")
    os.close(reading)


def test_the_end_does_not_wait_for_a_stream_that_hangs() -> None:
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    with log.lines(stream=stream):
        [writer] = [thread for thread in threading.enumerate() if thread.name == "log"]
        for _ in range(log.ROOM * 3):
            logging.getLogger("watchdog").warning("x" * 1000)
        began = time.monotonic()
    assert time.monotonic() - began < 1.0
    os.close(reading)  # which ends the hang: with an error that is nobody's
    writer.join(timeout=10)
    assert not writer.is_alive()
    with contextlib.suppress(BrokenPipeError):
        stream.close()


@contextlib.contextmanager
def journal(directory: Path) -> Iterator[socket.socket]:
    """A socket that takes what sd_journal_send(3) sends; a private mount puts it in the journal's place."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as place:
        place.bind(str(directory / "socket"))
        place.settimeout(10)
        yield place


def fields(place: socket.socket) -> dict[str, str]:
    """One entry of the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), of one-line fields."""
    data, ancillary, _flags, _address = place.recvmsg(65536, socket.CMSG_SPACE(array.array("i").itemsize))
    assert not ancillary
    return dict(line.split("=", 1) for line in data.decode().splitlines())


def test_under_systemd_the_journal_gets_fields(tmp_path: Path) -> None:
    code = """
        import os, sys
        from watchdog import log
        from watchdog.model import Record, RecordKind, Severity
        stat = os.fstat(2)
        os.environ["JOURNAL_STREAM"] = f"{stat.st_dev}:{stat.st_ino}"
        with log.lines():
            record = Record(RecordKind.OPENED, 1.0, "it sleeps", "01J", Severity.WARNING, {"verdict": "epoll_stall"})
            log.record("ravendb", record)
    """
    place_of_journal = "/run/systemd/journal"
    script = f"mount -t tmpfs tmpfs /run; mkdir -p {place_of_journal}; mount --bind {tmp_path} {place_of_journal}"
    script += '; exec "$0" -c "$1"'
    argv = ["unshare", "--mount", "sh", "-ec", script, sys.executable, textwrap.dedent(code)]
    with journal(tmp_path) as place:
        result = subprocess.run(argv, capture_output=True, text=True, timeout=30)
        assert (result.returncode, result.stderr) == (0, "")
        entry = fields(place)
    code_file = entry.pop("CODE_FILE"), entry.pop("CODE_FUNC"), entry.pop("CODE_LINE").isdigit()
    assert code_file == ("<string>", "<module>", True)  # who told it, not how it was written
    assert entry == {
        "MESSAGE_ID": MESSAGES[RecordKind.OPENED],
        "MESSAGE": "ravendb: opened: it sleeps",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "epoll-watchdog",
        "LOGGER": "watchdog",
        "WATCHDOG_SERVICE": "ravendb",
        "WATCHDOG_KIND": "opened",
        "WATCHDOG_INCIDENT": "01J",
        "WATCHDOG_VERDICT": "epoll_stall",
        "WATCHDOG_SEVERITY": "warning",
    }


def test_a_stream_that_was_redirected_is_not_the_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with (tmp_path / "log").open("w") as stream, log.lines(stream=stream):
        log.record("ravendb", OPENED)
    assert "ravendb: opened" in (tmp_path / "log").read_text()


def test_a_signal_that_kills_the_daemon_leaves_the_stacks_of_all_threads() -> None:
    code = """
        import os, resource, signal, threading
        from watchdog import log
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        log.set_up()
        ready, gate = threading.Event(), threading.Lock()
        gate.acquire()
        def stuck_thread(): ready.set(); gate.acquire()
        def stuck_loop(): os.kill(os.getpid(), signal.SIGABRT)
        threading.Thread(target=stuck_thread, daemon=True).start()
        ready.wait()
        stuck_loop()
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30)
    assert result.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in result.stderr
    assert re.search(r"^Current thread .*\n  File .* in stuck_loop$", result.stderr, re.MULTILINE)
    assert re.search(r"^  File .* in stuck_thread$", result.stderr, re.MULTILINE)
