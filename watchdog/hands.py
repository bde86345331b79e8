"""The brain's end of the helper: it asks it for remedies and evidence, and reaches for it again when it has gone.

Rules: `perform` never raises; a helper that is dead, silent or talks nonsense is an outcome like any other, told in one
line. Requests of several services share the one connection and are joined to their replies by id. Nothing is asked
twice: whether a request that got no reply was done, only the service itself can tell. A helper that does not keep its
own deadlines is parted with, and the next request opens a fresh connection: at once if the last one had lived, else
after a pause, for each start of a helper costs half a second of CPU. How it is reached, and ended, `link` knows.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import socket
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from watchdog.helper.limits import BEFORE, STORING, TIMEOUTS
from watchdog.helper.protocol import MAX_REPLY, Lines, Nonsense, Reply, Request, encode_request, parse_reply
from watchdog.link import COMMAND, Child, Link, Socket, Unreachable, helper_command
from watchdog.messages import Event, of_event
from watchdog.model import Action, Epoch, Outcome, Performed, Rung
from watchdog.reading import Lack, Sample

# Seconds until a reply is given up: what the helper allows itself, and where it acts, what comes first: a changed
# config to be read, the ledger to be written. A reading that comes later than that is of no use to its round.
READINGS: Mapping[str, float] = {verb: TIMEOUTS[verb] + 0.2 for verb in ("find", "examine")}
ACTIONS = ("nudge", "capture", "restart")
PATIENCE: Mapping[str, float] = {
    "hello": TIMEOUTS["hello"] + STORING,
    **READINGS,
    **{verb: TIMEOUTS[verb] + BEFORE for verb in ACTIONS},
}
READY_WITHIN = BEFORE  # seconds for the config to be read
PROCESSES = "the service's processes"
MOST_UNSENT = 1 << 20  # bytes of requests, each some 150: the kernel takes 278 of them from us at a time [M]
YOUNG = 2.0  # seconds; a connection that is at its end so soon has not lived
PAUSE, MAX_PAUSE = 2.0, 60.0  # seconds before another one, doubled from each that has not lived to the next

logger = logging.getLogger(__name__)


class Hands:
    """The helper, through one connection. `spawn` or `connect` opens it; all methods are for one event loop."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._peer: socket.socket | None = None
        self._lines = Lines(MAX_REPLY)
        self._unsent = bytearray()
        self._failed = ""  # why there is no helper
        self._opened = 0.0  # time.monotonic, as the next
        self._answered = False
        self._not_before = 0.0
        self._pause = 0.0  # the last; 0 where the last connection had lived
        self._told = False  # that there is none
        self._closed = False

    @classmethod
    async def spawn(
        cls,
        config: Path,
        ledger: Path,
        command: tuple[str, ...] = COMMAND,
        withheld: Collection[str] = (),
    ) -> Hands:
        """Start a helper of our own, without the environment variables `withheld`; what goes wrong with it, now or
        later, is told by the next `perform`.
        """
        hands = cls(Child(helper_command(config, ledger, command), withheld))
        hands._open()
        return hands

    @classmethod
    async def connect(cls, path: Path) -> Hands:
        """Connect to the helper that is started for whoever comes to this socket; told likewise."""
        hands = cls(Socket(path))
        hands._open()
        return hands

    @property
    def pid(self) -> int | None:
        """Of a helper of our own; None while there is none."""
        return self._link.pid

    async def perform(self, service: str, action: Action) -> Performed:
        """Have a remedy performed; its outcome. Never raises."""
        verb = {Rung.NUDGE: "nudge", Rung.CAPTURE: "capture", Rung.RESTART: "restart"}.get(action.rung)
        if verb is None:
            return Performed(action.rung, Outcome.REFUSED, f"{action.rung} is nothing that the helper does")
        epoch = action.epoch
        pinned = (epoch.pid, epoch.start_time, epoch.invocation_id) if epoch else (0, 0, "")
        reply = await self._ask(Request(next(self._ids), verb, service, *pinned))
        return Performed(action.rung, reply.outcome, reply.reason, reply.detail)

    async def find(self, service: str) -> Epoch | Lack | None:
        """The main process of a service that is no unit; None where it has none. Never raises."""
        reply = await self._ask(Request(next(self._ids), "find", service))
        if reply.outcome is Outcome.GONE:
            return None
        if reply.outcome is not Outcome.DONE:
            hint = reply.detail.get("hint", "")
            return Lack(PROCESSES, f"{reply.reason}; {hint}" if hint else reply.reason)
        try:
            return msgspec.convert(reply.detail, Epoch)
        except msgspec.ValidationError as error:
            return Lack(PROCESSES, f"the helper talks nonsense: {error}")

    async def examine(self, service: str, epoch: Epoch, *, copy: bool = False) -> Sample | Lack:
        """What the kernel says of its processes now; with `copy`, of copies of its epolls too. Never raises."""
        pinned = (epoch.pid, epoch.start_time, epoch.invocation_id)
        reply = await self._ask(Request(next(self._ids), "examine", service, *pinned, copy=int(copy)))
        if reply.outcome is not Outcome.DONE:
            return Lack(PROCESSES, reply.reason)
        try:
            return msgspec.convert(reply.detail, Sample)
        except msgspec.ValidationError as error:
            return Lack(PROCESSES, f"the helper talks nonsense: {error}")

    async def ready(self) -> None:
        """Wait until the helper has read the config, as after its start; what goes wrong, the next request tells."""
        await self._ask(Request(next(self._ids), "examine"), READY_WITHIN)  # of no service: refused once it is read

    async def hello(self) -> Reply:
        """What the helper is and may do (`detail`: version, uid, cap_sys_ptrace, yama_ptrace_scope). Never raises."""
        return await self._ask(Request(next(self._ids), "hello"))

    async def close(self) -> None:
        """Hang up, and end a helper of our own: at once where it does not end by itself."""
        self._closed = True
        self._failed = "the daemon is ending"
        self._hang_up()
        self._give_up(self._failed)
        await self._link.close()

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _ask(self, request: Request, patience: float | None = None) -> Reply:
        patience = PATIENCE[request.verb] if patience is None else patience
        if self._peer is not None and _hung_up(self._peer):
            self._drop("")  # it has ended, and the loop has not heard of that yet
        if self._peer is None:
            self._open()
        if self._peer is None:
            return Reply(request.id, Outcome.FAILED, self._why_none())
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = answer
        try:
            self._send(encode_request(request))
            async with asyncio.timeout(patience):  # `asyncio.wait_for` may lose a cancellation: see `Guard`
                return await answer
        except TimeoutError:
            reason = f"the helper did not answer within {patience:g} s"
            if request.verb in READINGS:  # nothing is lost, and the helper may be at work for another service
                return Reply(request.id, Outcome.TIMED_OUT, reason)
            self._drop(f"{reason}, {self._link.given_up}")
            return Reply(request.id, Outcome.TIMED_OUT, reason)
        finally:
            self._waiting.pop(request.id, None)

    def _send(self, line: bytes) -> None:
        """As soon as the kernel has room for it: a thousand services may ask at once."""
        if self._peer is None:
            return
        self._unsent += line
        if len(self._unsent) > MOST_UNSENT:
            self._drop("the helper does not read its requests")
        elif len(self._unsent) == len(line):
            self._flush()

    def _flush(self) -> None:
        if self._peer is None:
            return
        try:
            del self._unsent[: self._peer.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._readable()  # it may have told why
            if self._peer is not None:
                self._drop(f"the helper can't be written to: {error.strerror}")
            return
        loop = asyncio.get_running_loop()
        if self._unsent:
            loop.add_writer(self._peer, self._flush)
        else:
            loop.remove_writer(self._peer)

    def _readable(self) -> None:
        if self._peer is None:
            return
        try:
            data = self._peer.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop("")
            return
        try:
            for line in self._lines.feed(data):
                if self._peer is not None:
                    self._take(parse_reply(line))
        except Nonsense as nonsense:
            self._drop(f"the helper talks nonsense: {nonsense}")

    def _take(self, reply: Reply) -> None:
        if reply.id is None:  # it was not let in, or has not understood us
            self._drop(f"the helper refuses: {reply.reason[:200]}")
            return
        self._answered = True
        if self._told and time.monotonic() - self._opened >= YOUNG:
            self._told = False
            logger.warning("the helper is back: evidence and remedies again", extra=of_event(Event.HELPER_BACK))
        answer = self._waiting.get(reply.id)
        if answer is not None and not answer.done():  # else it was given up, or its guard was cancelled
            answer.set_result(reply)

    # --- the connection -----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._closed or time.monotonic() < self._not_before:
            return
        self._opened, self._answered = time.monotonic(), False
        try:
            peer = self._link.open()
        except Unreachable as why:
            self._failed = str(why)
            self._rest()
            return
        self._lines = Lines(MAX_REPLY)
        self._unsent.clear()
        self._peer = peer
        asyncio.get_running_loop().add_reader(peer, self._readable)

    def _drop(self, reason: str) -> None:
        """Part with this helper; whoever waits for it is told why (empty: it ended by itself)."""
        self._hang_up()
        lived = time.monotonic() - self._opened >= YOUNG
        parting = self._link.part(reason)
        self._failed = parting.reason
        self._give_up(parting.reason)
        if lived or (self._answered and parting.excused):
            self._pause = 0.0
        else:
            self._rest()

    def _hang_up(self) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(peer)
            loop.remove_writer(peer)
            peer.close()

    def _give_up(self, reason: str) -> None:
        for number, answer in self._waiting.items():
            if not answer.done():
                answer.set_result(Reply(number, Outcome.FAILED, f"{reason}; whether it was done is not known"))

    def _rest(self) -> None:
        """Open no other for a while; told once, until one has lived."""
        first = not self._pause
        self._pause = min(2 * self._pause or PAUSE, MAX_PAUSE)
        self._not_before = time.monotonic() + self._pause
        if first:
            self._told = True
            again = f"in {PAUSE:g} s, and while that does not help, after pauses of up to {MAX_PAUSE:g} s"
            text = "there is no helper, so no evidence and no remedy: %s; %s %s"
            logger.warning(text, self._failed, self._link.again, again, extra=of_event(Event.HELPER_LOST))

    def _why_none(self) -> str:
        left = self._not_before - time.monotonic()
        again = f"; {self._link.again} in {math.ceil(left)} s" if left > 0 and not self._closed else ""
        return f"there is no helper: {self._failed}{again}"


def _hung_up(peer: socket.socket) -> bool:
    """Whether nothing more will come. What did come and is unread says that something may."""
    try:
        return not peer.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
