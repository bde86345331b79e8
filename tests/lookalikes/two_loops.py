"""Two asyncio loops in two threads of one process: `python -m tests.lookalikes.two_loops`.

On asyncio's default selector, epoll. The first burns 5 ms for each request, the second answers at once. Prints
"ready PORT PORT"; ends with its standard input.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
import time

ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nawake\n"


def main() -> None:
    """Serve until nobody holds our standard input any more."""
    ports: queue.SimpleQueue[int] = queue.SimpleQueue()
    for work_s in (0.005, 0.0):
        threading.Thread(target=lambda work_s=work_s: asyncio.run(serve(work_s, ports)), daemon=True).start()
    print("ready", ports.get(), ports.get(), flush=True)
    sys.stdin.read()
    os._exit(0)


async def serve(work_s: float, ports: queue.SimpleQueue[int]) -> None:
    """One loop and its listener."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            begun = time.thread_time()
            while time.thread_time() - begun < work_s:
                pass
            writer.write(ANSWER)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a client of the load that gave up
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    ports.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    main()
