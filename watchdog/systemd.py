"""What systemd says of units, over the system bus, typed. Read-only: `helper/unit_restart.py` has what changes a unit.

Rules: dbus-fast is imported inside functions (4 MiB), and only its low level is used: no introspection, no proxies.
Every call has a deadline. No state is trusted for longer than `MAX_AGE`, even where no signal has touched it.

Sources: org.freedesktop.systemd1(5) for methods, properties and signals; D-Bus Specification, "Match Rules". UnitNew
and UnitRemoved are not listened to: to read a stopped unit makes systemd load it and drop it again, which sends both,
so each reading would ask for the next one. PropertiesChanged tells of jobs too, by the unit's property Job.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from watchdog.model import UnitState

if TYPE_CHECKING:
    from dbus_fast.aio import MessageBus
    from dbus_fast.message import Message

SYSTEMD = "org.freedesktop.systemd1"
SYSTEMD_PATH = "/org/freedesktop/systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
UNIT = "org.freedesktop.systemd1.Unit"
JOB = "org.freedesktop.systemd1.Job"
SERVICE = "org.freedesktop.systemd1.Service"
DBUS = "org.freedesktop.DBus"
# The bus' own errors that stand for "there is no systemd here", as in a container that runs only a dbus-daemon.
NOBODY_THERE = tuple(f"{DBUS}.Error.{name}" for name in ("ServiceUnknown", "NameHasNoOwner", "NoReply", "Spawn."))
PROPERTIES = "org.freedesktop.DBus.Properties"

CALL_TIMEOUT = 5.0  # of one call
MAX_AGE = 30.0  # of a state that no signal has touched

T = TypeVar("T")
Signal = Callable[[str, str, list[Any]], None]


class BusUnavailable(Exception):
    """The system bus, or systemd on it, could not be asked. The text says why, in one line."""


class CallError(Exception):
    """systemd answered with an error: `name` (such as org.freedesktop.systemd1.NoSuchUnit), and its own words."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


class NoSuchUnit(Exception):
    """systemd knows no unit of that name."""


class NotRunning(Exception):
    """The unit has no main process now; the text says in what state it is."""


class Listed(NamedTuple):
    """One row of Manager.ListUnitsByNames. `id` is the unit's own name, also where it was asked for by an alias."""

    id: str
    load_state: str
    active_state: str
    sub_state: str
    path: str
    job: str | None

    @property
    def found(self) -> bool:
        """Whether there is such a unit: one whose file cannot be used, or was deleted while it runs, is there too."""
        return self.load_state != "not-found" or self.active_state != "inactive"


def poll_loop() -> asyncio.AbstractEventLoop:
    """A loop that waits in poll(2): a watchdog of an epoll bug does not itself wait on epoll."""
    return asyncio.SelectorEventLoop(selectors.PollSelector())


def run_on_poll(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it on a `poll_loop` of its own."""
    with asyncio.Runner(loop_factory=poll_loop) as runner:
        return runner.run(coroutine)


def load_dbus() -> None:
    """Import what a connection needs, where a clock is about to run: it takes 60 to 190 ms [M], and 2 MiB."""
    import dbus_fast.aio  # noqa: F401


class Bus:
    """One connection to systemd over the system bus. Use it as an async context manager, or `open` and `close` it.

    `signal(path, member, body)` is called for each signal that a `match` asked for. `address` is a D-Bus address; None
    stands for $DBUS_SYSTEM_BUS_ADDRESS or the standard one. Only one that `passes_files` can pass open files in a call.
    """

    def __init__(self, signal: Signal | None = None, *, address: str | None = None, passes_files: bool = False) -> None:
        self._signal = signal
        self._address = address
        self._passes_files = passes_files
        self._bus: MessageBus | None = None

    @property
    def connected(self) -> bool:
        """Whether calls can be made."""
        return self._bus is not None and self._bus.connected

    async def open(self) -> None:
        """Connect. Raises `BusUnavailable`."""
        from dbus_fast.aio import MessageBus
        from dbus_fast.constants import BusType
        from dbus_fast.errors import DBusFastError

        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                bus = MessageBus(
                    bus_address=self._address, bus_type=BusType.SYSTEM, negotiate_unix_fd=self._passes_files
                )
                await bus.connect()
        except TimeoutError as error:
            raise BusUnavailable(f"the system bus did not take our connection within {CALL_TIMEOUT:g} s") from error
        except (OSError, EOFError, DBusFastError) as error:
            raise BusUnavailable(f"cannot connect to the system bus: {error}") from error
        bus.add_message_handler(self._received)
        self._bus = bus

    async def close(self) -> None:
        """Disconnect; harmless where nothing is connected any more."""
        bus, self._bus = self._bus, None
        if bus is None:
            return
        bus.disconnect()
        with contextlib.suppress(Exception):  # the reason why it went away was told where it mattered
            async with asyncio.timeout(CALL_TIMEOUT):
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _received(self, message: Message) -> None:
        from dbus_fast.constants import MessageType

        if message.message_type is MessageType.SIGNAL and self._signal and message.path and message.member:
            self._signal(message.path, message.member, message.body)

    async def call(
        self,
        interface: str,
        member: str,
        signature: str = "",
        *body: Any,
        path: str = SYSTEMD_PATH,
        files: Sequence[int] = (),
    ) -> list[Any]:
        """Call a method of systemd's and return its results. Raises `CallError` and `BusUnavailable`.

        A value of type "h" in the body is an index into `files`, which are open descriptors and stay so.
        """
        return await self._call(SYSTEMD, path, interface, member, signature, body, files)

    async def _call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str,
        body: Iterable[Any],
        files: Sequence[int] = (),
    ) -> list[Any]:
        from dbus_fast.constants import MessageType
        from dbus_fast.errors import DBusFastError
        from dbus_fast.message import Message

        bus = self._bus
        if bus is None or not bus.connected:
            raise BusUnavailable("the system bus closed our connection")
        message = Message(
            destination, path, interface, member, signature=signature, body=list(body), unix_fds=list(files)
        )
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                reply = await bus.call(message)
        except TimeoutError as error:
            raise BusUnavailable(f"systemd did not answer {member} within {CALL_TIMEOUT:g} s") from error
        except (OSError, EOFError, DBusFastError) as error:
            raise BusUnavailable(f"the system bus failed us in {member}: {error or type(error).__name__}") from error
        if reply is None:
            raise BusUnavailable(f"the system bus closed our connection during {member}")
        if reply.message_type is MessageType.ERROR:
            text = str(reply.body[0]) if reply.body else ""
            if str(reply.error_name).startswith(NOBODY_THERE):
                raise BusUnavailable(f"systemd does not answer on the system bus: {text or reply.error_name}")
            raise CallError(str(reply.error_name), text)
        return list(reply.body)

    async def match(self, **rule: str) -> None:
        """Ask the bus for systemd's signals that fit, such as `member="JobRemoved"`."""
        text = ",".join(f"{key}='{value}'" for key, value in {"type": "signal", **rule}.items())
        await self._call(DBUS, "/org/freedesktop/DBus", DBUS, "AddMatch", "s", [text])

    async def subscribe(self) -> None:
        """Tell systemd that somebody listens: without a subscriber it sends no signals at all."""
        await self.call(MANAGER, "Subscribe")

    async def get(self, path: str, interface: str, name: str) -> Any:
        """One property, as plain Python values."""
        from dbus_fast.unpack import unpack_variants

        return unpack_variants((await self.call(PROPERTIES, "Get", "ss", interface, name, path=path))[0])

    async def units(self, names: Iterable[str]) -> list[Listed]:
        """What systemd knows of these units. It loads them first where it must, and skips an impossible name."""
        rows = (await self.call(MANAGER, "ListUnitsByNames", "as", list(names)))[0]
        return [
            Listed(id=row[0], load_state=row[2], active_state=row[3], sub_state=row[4], path=row[6], job=row[8] or None)
            for row in rows
        ]

    async def unit(self, name: str) -> Listed | None:
        """What systemd knows of one unit; None where no unit can have this name."""
        rows = await self.units([name])
        return rows[0] if rows else None

    async def invocation_id(self, path: str) -> str:
        """Of the unit's present (or else its last) life; empty where it had none since the boot."""
        return bytes(await self.get(path, UNIT, "InvocationID")).hex()

    async def main_pid(self, unit: Listed) -> int:
        """0 where there is none, also for a unit that is no service."""
        return int(await self.get(unit.path, SERVICE, "MainPID")) if unit.id.endswith(".service") else 0


_NOT_FOUND = UnitState("not-found", "inactive", "dead", None, 0, "")


async def read_state(bus: Bus, unit: Listed | None) -> UnitState:
    """The unit's state, in systemd's own words. Several calls, not one moment: `Units` reads again where it changed."""
    if unit is None or not unit.found:
        return _NOT_FOUND
    if not unit.id.endswith(".service"):
        invocation_id = await bus.invocation_id(unit.path)
        return UnitState(unit.load_state, unit.active_state, unit.sub_state, unit.job, 0, invocation_id)
    invocation_id, main_pid, result, n_restarts = await asyncio.gather(
        bus.invocation_id(unit.path),
        bus.main_pid(unit),
        bus.get(unit.path, SERVICE, "Result"),
        bus.get(unit.path, SERVICE, "NRestarts"),
    )
    return UnitState(
        unit.load_state, unit.active_state, unit.sub_state, unit.job, main_pid, invocation_id, result, n_restarts
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    state: UnitState
    path: str
    at: float


class Units:
    """The brain's view of the units it guards: `state` costs a call on the bus only after something has changed.

    `max_age` (seconds) bounds the trust in a state that no signal has touched; `clock` is monotonic.
    """

    def __init__(
        self, *, address: str | None = None, max_age: float = MAX_AGE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = Bus(self._changed, address=address)
        self._opening = asyncio.Lock()
        self._max_age = max_age
        self._clock = clock
        self._readings: dict[str, _Reading] = {}  # by the name asked for
        self._listening: set[str] = set()  # names asked for whose signals we get
        self._matched: set[str] = set()  # paths that we asked the bus for
        self._heard = 0  # signals so far: a reading that one fell into is read again
        self.reads = 0  # how often systemd was really asked; for measuring

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect and subscribe, or see that this still holds. Raises `BusUnavailable`; the next call tries anew."""
        async with self._opening:
            if self._bus.connected:
                return
            await self._forget()
            await self._bus.open()
            try:
                await self._bus.match(sender=SYSTEMD, interface=MANAGER, member="Reloading")
                await self._bus.subscribe()
            except BaseException:
                await self._forget()
                raise

    async def connected(self) -> Bus:
        """The connection, for what is asked of systemd now and then. Raises `BusUnavailable`."""
        await self.connect()
        return self._bus

    async def close(self) -> None:
        """Disconnect and forget every state."""
        async with self._opening:
            await self._forget()

    async def watch(self, unit: str) -> None:
        """Begin to listen for this unit, so that the first `state` has less to do. Raises `BusUnavailable`."""
        await self.state(unit)

    async def state(self, unit: str) -> UnitState:
        """What systemd says of the unit now; load_state is "not-found" where it knows none. Raises `BusUnavailable`."""
        await self.connect()
        reading = self._readings.get(unit)
        if reading is not None and self._clock() - reading.at < self._max_age:
            return reading.state
        try:
            return await self._read(unit)
        except CallError as error:
            raise BusUnavailable(f"systemd refuses to tell of {unit}: {error}") from error
        except BusUnavailable:
            await self.close()  # a reply that comes too late must find nobody, and the next call a fresh connection
            raise

    async def _read(self, unit: str) -> UnitState:
        if unit not in self._listening:
            await self._listen(unit)
        state = _NOT_FOUND
        for _ in range(3):
            self.reads += 1
            heard, at = self._heard, self._clock()
            listed = await self._bus.unit(unit)
            state = await read_state(self._bus, listed)
            if heard == self._heard:
                self._readings[unit] = _Reading(state, listed.path if listed else "", at)
                break
        return state

    async def _listen(self, unit: str) -> None:
        listed = await self._bus.unit(unit)
        if listed is not None and listed.path not in self._matched:
            await self._bus.match(sender=SYSTEMD, interface=PROPERTIES, member="PropertiesChanged", path=listed.path)
            self._matched.add(listed.path)
        self._listening.add(unit)

    def _changed(self, path: str, member: str, _body: list[Any]) -> None:
        self._heard += 1
        if member == "Reloading":  # any unit may differ now, and an alias may name another one
            self._listening.clear()
            self._readings.clear()
            return
        self._readings = {unit: reading for unit, reading in self._readings.items() if reading.path != path}

    async def _forget(self) -> None:
        self._readings.clear()
        self._listening.clear()
        self._matched.clear()
        await self._bus.close()


def unit_main_pid(unit: str, *, address: str | None = None) -> int:
    """The PID of the unit's main process, asked for now. For commands: it runs a loop of its own.

    Raises `NoSuchUnit`, `NotRunning` and `BusUnavailable`.
    """
    return run_on_poll(_main_pid(unit, address))


async def _main_pid(unit: str, address: str | None) -> int:
    async with Bus(address=address) as bus:
        state = await read_state(bus, await bus.unit(unit))
    if state == _NOT_FOUND:
        raise NoSuchUnit(f"systemd knows no unit {unit}")
    if state.main_pid == 0:
        raise NotRunning(f"{unit} has no main process: it is {state.active_state} ({state.sub_state})")
    return state.main_pid
