"""Clients in a closed loop: `python -m tests.lookalikes.load ADDRESS… --clients N --ask TEXT --seconds S`.

Each connects, asks, reads the first bytes of the answer (of a GET: all), closes, pauses and begins anew; what fails is
tried again. ADDRESS is HOST:PORT on loopback or in a namespace of the test's own, or the path of a Unix socket.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from contextlib import closing, suppress

ANSWER_WITHIN_S = 5.0


def main() -> None:
    """Ask for as long as was said, then end."""
    parser = argparse.ArgumentParser(prog="python -m tests.lookalikes.load")
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--clients", type=int, default=1, help="an address")
    parser.add_argument("--pause-ms", type=int, default=0, help="of a client, between two questions")
    parser.add_argument("--ask", default="ping\n")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    question = options.ask.encode()
    for address in options.addresses:
        for _ in range(options.clients):
            threading.Thread(target=keep_asking, args=(address, question, options.pause_ms / 1000), daemon=True).start()
    print("asking", flush=True)
    time.sleep(options.seconds)


def keep_asking(address: str, question: bytes, pause: float) -> None:
    """For ever."""
    while True:
        with suppress(OSError):
            ask(address, question)
        time.sleep(pause)


def ask(address: str, question: bytes) -> None:
    """Once, on a connection of its own."""
    unix = "/" in address
    with closing(socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)) as sock:
        sock.settimeout(ANSWER_WITHIN_S)
        host, _, port = address.rpartition(":")
        sock.connect(address if unix else (host, int(port)))
        sock.sendall(question)
        while sock.recv(65536) and question.startswith(b"GET "):
            pass


if __name__ == "__main__":
    main()
