"""The embedded guarded service: `python -m watchdog.demo.service --dir DIR`.

It answers over TCP and a Unix socket from one event loop, and over SNMP from a thread of its own. SIGUSR1 makes the
loop lose a wake-up; EINTR heals it, unless `--stubborn` says otherwise. Its first line on stdout is a JSON object with
its addresses, then one for each thing that happens to the loop: {"event": "lost", "monotonic": SECONDS}.

Rules of this file: every signal is blocked in every thread and taken by `sigwait` in the main one, for a handler in the
loop's thread would heal the stall with an EINTR of its own. prctl(2) (PR_SET_PTRACER, PR_SET_NAME), Yama.rst.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from watchdog.demo.agent import Agent
from watchdog.demo.loop import Loop

PR_SET_NAME = 15
PR_SET_PTRACER = 0x59616D61
PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)
BACKLOG = 128
TAKEN = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM. Never returns but to end the process."""
    options = _parser().parse_args(argv)
    signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
    _allow_tracer()
    directory: Path = options.dir
    pidfile, unix_path = directory / "service.pid", directory / "service.sock"
    tcp = socket.create_server(("127.0.0.1", options.port), backlog=BACKLOG)
    unix = _unix_listener(unix_path)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", options.snmp_port))
    loop = Loop([tcp, unix], _report, options.stubborn)
    _start("loop", loop.run)
    _start("snmp", Agent(udp, options.community).run)
    _write_whole(pidfile, f"{os.getpid()}\n")
    _say(
        pid=os.getpid(),
        pidfile=str(pidfile),
        tcp=_address(tcp),
        unix=str(unix_path),
        snmp=_address(udp),
    )
    while signal.sigwait(TAKEN) == signal.SIGUSR1:
        loop.lose_wakeup()
    pidfile.unlink(missing_ok=True)
    unix_path.unlink(missing_ok=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m watchdog.demo.service", description="A service to be guarded.")
    parser.add_argument("--dir", type=Path, required=True, help="where its pidfile and its Unix socket go")
    parser.add_argument("--port", type=int, default=0, help="of the TCP socket; 0 takes a free one")
    parser.add_argument("--snmp-port", type=int, default=0, help="of the SNMP agent; 0 takes a free one")
    parser.add_argument("--community", default="public", help="of the SNMP agent")
    parser.add_argument("--stubborn", type=int, default=0, help="how many EINTRs a stall outlives; -1: every one")
    return parser


def _unix_listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(BACKLOG)
    return listener


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()
    return f"{host}:{port}"


def _start(name: str, run: Callable[[], None]) -> None:
    def named() -> None:
        _prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
        try:
            run()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(70)  # a service without its loop or its agent is another failure than the one on show

    threading.Thread(target=named, name=name, daemon=True).start()


def _allow_tracer() -> None:
    """Let a watchdog of the same user trace this process where Yama asks for it; EINVAL where there is no Yama."""
    _prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)


def _report(event: str) -> None:
    _say(event=event, monotonic=time.monotonic())


def _say(**what: object) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more
        os.write(sys.stdout.fileno(), json.dumps(what).encode() + b"\n")


def _write_whole(path: Path, text: str) -> None:
    """So that nobody reads half of it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


if __name__ == "__main__":
    raise SystemExit(main())
