"""A tiny receiver of webhooks on loopback, so that the demo can show what the daemon told."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Letter = dict[str, Any]


class Receiver:
    """What came so far, and what comes next."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._queue: queue.SimpleQueue[Letter] = queue.SimpleQueue()

    def put(self, letter: Letter) -> None:
        """Keep a letter that came."""
        self._queue.put(letter)

    def letters(self) -> list[Letter]:
        """What came since the last call. Does not wait."""
        came = []
        while not self._queue.empty():
            came.append(self._queue.get())
        return came

    def next(self, within_s: float) -> Letter:
        """The next letter. Raises `TimeoutError`."""
        try:
            return self._queue.get(timeout=within_s)
        except queue.Empty:
            raise TimeoutError(f"no webhook within {within_s:g} s") from None


@contextmanager
def receiver(listener: socket.socket | None = None) -> Iterator[Receiver]:
    """A receiver on a free port of 127.0.0.1, or on this listener."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(204)
            self.end_headers()
            receiving.put(json.loads(body))

        def log_message(self, *_: object) -> None:
            """Nothing: the terminal belongs to the story."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=listener is None)
    if listener is not None:
        server.socket.close()
        server.socket, server.server_port = listener, listener.getsockname()[1]
    receiving = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="receiver", daemon=True)
    thread.start()
    try:
        yield receiving
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
