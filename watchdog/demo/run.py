"""The demo itself: starts everything, makes the service lose wake-ups, and watches what the daemon does about it.

How long a stall lasted is measured here, not by the daemon: from the moment at which the service's loop went to sleep
to the answer that a client got which had been connected, and had asked, before the nudge.
"""

from __future__ import annotations

import select
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from watchdog.demo import child
from watchdog.demo.config import COMMUNITY, SERVICE, write_config
from watchdog.demo.receiver import Receiver, receiver
from watchdog.demo.screen import Screen, screen
from watchdog.demo.story import Story

HEALED_WITHIN_S = 30.0
TICK_S = 0.05
LOOK_EVERY_S = 0.2
ENDING = (signal.SIGTERM, signal.SIGHUP)


class Unhealed(Exception):
    """A stall did not end as it should; the text says how it went."""


class Demo:
    """One service, one daemon, one client, one receiver of webhooks; `stall` is one turn of the story."""

    def __init__(
        self, service: child.Service, daemon: child.Daemon, client: socket.socket, receiving: Receiver
    ) -> None:
        self._service = service
        self._daemon = daemon
        self._client = client
        self._receiving = receiving
        self._looked = 0.0
        self.story = Story(time.monotonic())

    def wait_healthy(self, show: Screen) -> None:
        """Until the daemon calls the service healthy."""
        self._until(lambda: self._is("healthy"), show, "the daemon calls the service healthy")

    def stall(self, show: Screen) -> None:
        """Lose a wake-up, and follow it to its end. Raises `Unhealed`."""
        pid = Path(self._service.addresses.pidfile).read_text()
        self._service.events()  # the end of the last stall is known
        self._service.lose_wakeup()
        self.story.lost(self._service.next_event().at)
        self._client.sendall(b"ping\n")
        stall = self.story.stall
        self._until(lambda: stall.healed is not None, show, "the client has its answer")
        self._until(lambda: stall.closed and stall.resolved, show, "the incident is closed, and the webhook told")
        if not stall.nudged or stall.restarted or Path(self._service.addresses.pidfile).read_text() != pid:
            raise Unhealed("the service answers again, but not because of a nudge")

    def rest(self, seconds: float, show: Screen) -> None:
        """Watch for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._tick(show)

    def _until(self, reached: Callable[[], bool], show: Screen, what: str) -> None:
        deadline = time.monotonic() + HEALED_WITHIN_S
        while not reached():
            self._tick(show)
            if not self._service.alive or self._daemon.process.poll() is not None:
                raise Unhealed("the service has ended" if not self._service.alive else "the daemon has ended")
            if time.monotonic() > deadline:
                raise Unhealed(f"not within {HEALED_WITHIN_S:.0f} s: {what}")
        show.show(self.story)

    def _tick(self, show: Screen) -> None:
        readable, _, _ = select.select([self._client], [], [], TICK_S)
        if readable:
            self._hear()
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self._look()
            self._looked = time.monotonic()
        for letter in self._receiving.letters():
            self.story.received(letter, time.monotonic())
        show.show(self.story)

    def _hear(self) -> None:
        at = time.monotonic()
        if not self._client.recv(100):
            raise Unhealed("the service closed the connection that the client held")
        self.story.answered(at)

    def _look(self) -> None:
        """Ask the daemon; one that does not answer is told by the story's standing still."""
        try:
            services = self._daemon.get("/api/v1/services")["services"]
            incidents = self._daemon.get(f"/api/v1/incidents?service={SERVICE}&limit=1")["incidents"]
        except child.NoAnswer:
            return
        at = time.monotonic()
        self.story.looked(services[0], at)
        if incidents and self.story.stalls and not self._is_old(incidents[0]["id"]):
            self.story.followed(incidents[0], at)

    def _is(self, verdict: str) -> bool:
        return self.story.service is not None and self.story.service["verdict"] == verdict

    def _is_old(self, incident: str) -> bool:
        earlier = [stall.incident for stall in self.story.stalls[:-1]]
        return any(view is not None and view["id"] == incident for view in earlier)


def run(*, once: bool, color: bool, pause_s: float = 2.0) -> int:
    """Show the demo until Ctrl-C, or for one stall. Returns 0, or 1 where a stall was not healed by a nudge."""
    with _ended_by_signals(), ExitStack() as ending:
        directory = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="epoll-watchdog-demo-")))
        receiving = ending.enter_context(receiver())
        try:
            service = ending.enter_context(child.service(directory, "--community", COMMUNITY))
            listen = f"127.0.0.1:{_free_port()}"
            config = write_config(directory, service.addresses, listen, receiving.url)
            daemon = ending.enter_context(child.daemon(config, listen, log=directory / "daemon.log"))
        except child.NotReady as error:
            print(error)
            return 1
        host, port = service.addresses.tcp.rsplit(":", 1)
        client = ending.enter_context(closing(socket.create_connection((host, int(port)))))
        demo = Demo(service, daemon, client, receiving)
        try:
            with screen(_header(service, daemon), color=color) as show:
                failure = _told(demo, show, once=once, pause_s=pause_s)
        except KeyboardInterrupt:
            failure = ""
        print(demo.story.summary() + "; no restart, no connection lost" * (not failure))
        if failure:
            print(f"The daemon wrote:\n{_tail(daemon.said())}")
        return 1 if failure else 0


def _told(demo: Demo, show: Screen, *, once: bool, pause_s: float) -> str:
    """Tell the story. Returns why it failed; empty where it did not."""
    try:
        demo.wait_healthy(show)
        while True:
            if not once:
                demo.rest(pause_s, show)
            demo.stall(show)
            if once:
                return ""
    except (Unhealed, TimeoutError, EOFError) as error:
        demo.story.failed(f"FAILED: {error}", time.monotonic())
        show.show(demo.story)
        return str(error)


def _header(service: child.Service, daemon: child.Daemon) -> str:
    at = service.addresses
    return (
        f"A service that loses wake-ups: PID {at.pid}\n"
        f"  tcp and http {at.tcp}, snmp {at.snmp}\n"
        f"  unix {at.unix}\n"
        f"The daemon that guards it: PID {daemon.process.pid}\n"
        f"  in a browser http://{daemon.address}/\n"
        f"  metrics http://{daemon.address}/metrics\n"
    )


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as Ctrl-C does: with all children ended."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
