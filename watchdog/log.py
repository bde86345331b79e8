"""Every line of the daemon's log: to the journal with fields, to a terminal for eyes, else as plain text.

Rules of this file: the rest of the daemon uses plain `logging`, and hands in fields as `extra`, named as the journal
wants them; a secret is never logged, since no message holds one. Lines are written by a thread of their own from a
bounded queue: a journal or a terminal that hangs costs lines (their number is told), and never stops the guarding.

Facts: systemd.exec(5) ($JOURNAL_STREAM), systemd.journal-fields(7), sd_journal_send(3), no-color.org.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import logging
import logging.handlers
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from watchdog.messages import FIELDS, ID, of_record
from watchdog.model import Record, Severity

ROOM = 1000  # lines that may wait
LEVELS = {None: logging.INFO, Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING}
COLOURS = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31", logging.DEBUG: "2"}

Waiting = queue.Queue[logging.LogRecord | None]  # None ends the writer

_log = logging.getLogger("watchdog")


def record(service: str, told: Record) -> None:
    """One line for a record; the journal gets what people filter by as fields, and an id that the catalog explains."""
    level = LEVELS.get(told.severity, logging.CRITICAL)
    _log.log(level, "%s: %s: %s", service, told.kind, told.text, extra=of_record(service, told), stacklevel=2)


def set_up(*, verbose: bool = False) -> None:
    """Log until the process ends, as `lines` does; and a signal that kills it leaves the stacks of all threads.

    systemd's watchdog sends SIGABRT (systemd.service(5), WatchdogSec=): the interpreter then writes them to stderr
    itself, without its lock, so also where a thread holds that and no code of ours can run.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError, RuntimeError):  # a stderr that is no file, or closed
        faulthandler.enable()
    until_exit = contextlib.ExitStack()
    until_exit.enter_context(lines(logging.DEBUG if verbose else logging.INFO))
    atexit.register(until_exit.close)


@contextlib.contextmanager
def lines(level: int = logging.INFO, stream: TextIO | None = None) -> Iterator[None]:
    """Log to the journal where `stream` (stderr) is connected to it, else to `stream`, until the context ends.

    `level` is ours; the libraries' lines begin at INFO.
    """
    waiting: Waiting = queue.Queue(ROOM)
    writer = threading.Thread(target=_write, args=(waiting, _handler(stream or sys.stderr)), name="log", daemon=True)
    handler = _Queue(waiting)
    root = logging.getLogger()
    before = root.level, _log.level
    root.setLevel(max(level, logging.INFO))
    _log.setLevel(level)
    root.addHandler(handler)
    writer.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0])
        _log.setLevel(before[1])
        if waiting.full():  # it hangs; what waits is lost anyway
            waiting.get_nowait()
        waiting.put_nowait(None)
        writer.join(timeout=0.5)


class _Queue(logging.handlers.QueueHandler):
    """Hands lines over without waiting, and counts those that found no room."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(waiting)
        self._waiting = waiting
        self._lost = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self._lost:
                text = f"{self._lost} lines were lost: the log hung"
                self._waiting.put_nowait(logging.LogRecord(__name__, logging.WARNING, "", 0, text, None, None))
                self._lost = 0
            self._waiting.put_nowait(record)
        except queue.Full:
            self._lost += 1


def _write(waiting: Waiting, handler: logging.Handler) -> None:
    while (record := waiting.get()) is not None:
        with contextlib.suppress(Exception):  # a line that can't be written: there is nobody left to tell
            handler.handle(record)


def _handler(stream: TextIO) -> logging.Handler:
    if _is_journal(stream):
        from systemd.journal import send

        return _Journal(send)
    handler = _Stream(stream)
    handler.setFormatter(_Text(colour=stream.isatty() and not os.environ.get("NO_COLOR")))
    return handler


def _is_journal(stream: TextIO) -> bool:
    """Whether systemd connected this very stream to the journal: $JOURNAL_STREAM is its "device:inode"."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


class _Stream(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Its own complaint would go to the stream that failed."""


class _Text(logging.Formatter):
    def __init__(self, *, colour: bool) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(message)s", "%H:%M:%S" if colour else None)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        code = COLOURS.get(record.levelno) if self._colour else None
        return f"\x1b[{code}m{text}\x1b[0m" if code else text


class _Journal(logging.Handler):
    """systemd-python's own handler sends every attribute of a line; this one what the journal should keep."""

    def __init__(self, send: Callable[..., Any]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        fields = {name: str(value) for name, value in vars(record).items() if name.startswith(FIELDS) or name == ID}
        self._send(
            self.format(record),
            CODE_FILE=record.pathname,
            CODE_LINE=record.lineno,
            CODE_FUNC=record.funcName or "",
            PRIORITY=_priority(record.levelno),
            SYSLOG_IDENTIFIER="epoll-watchdog",
            LOGGER=record.name,
            **fields,
        )


def _priority(level: int) -> str:
    """Of syslog(3)."""
    if level >= logging.CRITICAL:
        return "2"
    if level >= logging.ERROR:
        return "3"
    if level >= logging.WARNING:
        return "4"
    return "6" if level >= logging.INFO else "7"
