"""Joins the parts, and answers systemd: ready, reload, stop.

SIGHUP reads the config again: a bad one is told and the old one stays in force; a good one replaces the guards of the
services it changed, which take up the state where it was. SIGTERM and SIGINT end within a second, also with HTTP
clients connected; a remedy under way is taken up by the next start. The loop runs on poll(2): the watchdog of an epoll
bug must not itself wait on epoll.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchdog import config as configuration
from watchdog import garbage, probes, secret
from watchdog.alerts import CHANNELS
from watchdog.alerts.delivery import Channel as Road
from watchdog.alerts.delivery import Courier
from watchdog.alerts.routing import Routing
from watchdog.alerts.standing import Kept, Standing
from watchdog.board import Board
from watchdog.clock import Clock
from watchdog.config import Channel, Config, ConfigInvalid, Service
from watchdog.config.web import TlsUnusable
from watchdog.deadman import DeadMan, Ping
from watchdog.evidence import kernel
from watchdog.evidence.sockdiag import SockDiag
from watchdog.examiner import Examiner
from watchdog.guard import Guard
from watchdog.hands import Hands
from watchdog.heart import Heart, notify
from watchdog.link import LEDGER
from watchdog.look import Look, listeners
from watchdog.messages import Event, of_event
from watchdog.metrics import Metrics
from watchdog.model import State
from watchdog.orders import Orders
from watchdog.outlook import Outlooks
from watchdog.probes import PROBES
from watchdog.store import Squeezed, Store, StoreUnwritable
from watchdog.systemd import Units
from watchdog.tripwire import Tripwire
from watchdog.web.server import Server, serve

HELPER_WITHIN = 10.0  # s that the start waits for the helper to have read the config; it takes half of one
APART = 0.005  # s between the first rounds of two services
SWEEP = 3600.0  # s between two looks for old letters to channels that there are no more
STOP_TIMEOUT = 0.3  # s for all tasks to end
CONTROL = "control.sock"  # in systemd's runtime directory
LAST_RESORT = 0.6  # s more for everything to be closed; what matters is committed already
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Post:
    """A guard and the task it runs in."""

    guard: Guard
    task: asyncio.Task[None]


class Daemon:
    """One run of the daemon, from a valid config to SIGTERM."""

    def __init__(self, path: Path, config: Config, helper: Path | None = None) -> None:
        self._path = path
        self._helper = helper
        self._config = config
        self._clock = Clock()
        self._metrics = Metrics()
        self._heart = Heart(self._ticked, self._metrics.loop_late)
        self._store = Store(config.state_directory, self._clock)
        self._store.squeezed = self._squeezed
        self._board = Board(config, self._store, self._clock, self._metrics, lambda: self._heart.beating)
        self._board.lag = lambda: self._heart.lag
        self._board.wake_couriers = self._wake_couriers
        self._orders = Orders(lambda: self._board.guards, lambda: self._config.services, self._store, self._clock)
        self._units = Units()
        self._board.outlooks = Outlooks(self._units)
        self._diag = SockDiag()
        self._learners = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        self._tripwire = Tripwire(self._board.guards, self._diag, self._clock, self._board.queued)
        self._posts: dict[str, Post] = {}
        self._couriers: dict[str, tuple[Courier, asyncio.Task[None]]] = {}
        self._dead_man: tuple[DeadMan, asyncio.Task[None]] | None = None
        self._exit_code = 0
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._hands: Hands
        self._server: Server

    async def run(self) -> None:
        """Guard until told to stop. Raises `CannotListen` and what else keeps it from starting."""
        loop = asyncio.get_running_loop()
        _make(self._config.state_directory)
        http = self._config.http
        control = http.control or _control_socket()
        self._server = await serve(
            self._board, http.addresses, self._config.web, operator=self._orders, control=control
        )
        ledger = self._config.state_directory / LEDGER
        withheld = secret.variables(self._config)
        self._hands = await (
            Hands.connect(self._helper) if self._helper else Hands.spawn(self._path, ledger, withheld=withheld)
        )
        with contextlib.suppress(TimeoutError):  # else the first healthy rounds could not read their baselines
            async with asyncio.timeout(HELPER_WITHIN):
                await self._hands.ready()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        self._know_the_kernel()
        self._start(self._heart.beat(), "heart")
        self._start(self._reloads(), "reloads")
        self._start(self._sweep(), "letters to former channels")
        self._start(self._tripwire.watch(lambda: self._config.tripwire), "tripwire")
        self._arrange(self._config)
        self._start(garbage.spare(self._board.ready), "garbage")
        self._metrics.config_reloaded(True, time.time())
        text = "guarding %d services; metrics at %s/metrics"
        log.info(text, len(self._config.services), self._server.url, extra=of_event(Event.STARTED))
        notify("READY=1")
        try:
            await self._stop.wait()
        finally:
            notify("STOPPING=1")
            await self._end()
        if self._exit_code:
            raise SystemExit(self._exit_code)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _ticked(self, lag: float) -> None:
        self._metrics.loop_lag(lag)
        self._board.meter.sample()  # so that whenever a round asks, it hears of the last seconds

    def _know_the_kernel(self) -> None:
        self._board.kernel = kernel.running()
        self._metrics.kernel(self._board.kernel)
        for advisory in self._board.kernel:
            log.warning(
                "this kernel is known to lose wake-ups (%s): %s; fixed in %s (%s)",
                advisory.id,
                advisory.text,
                advisory.fixed_in,
                advisory.source,
                extra=of_event(Event.KERNEL_ADVISORY, ADVISORY=advisory.id),
            )

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a task for as long as the daemon; a fault of ours in it ends the daemon, for systemd to see."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            text = "%s ended by a fault in the watchdog itself"
            log.critical(text, task.get_name(), exc_info=error, extra=of_event(Event.FAULT))
            self._exit_code = 1
            self._stop.set()

    def _arrange(self, config: Config) -> None:
        """Let guards and couriers be those of `config`; one whose settings did not change goes on."""
        self._config = self._board.config = config
        for name, post in list(self._posts.items()):
            if config.services.get(name) != post.guard.service:
                self._posts.pop(name)
                self._start(self._succeed(post, config.services.get(name)), f"succession of {name}")
        for name, service in config.services.items():
            if name not in self._posts and name not in self._board.guards:
                self._guard(service, None)
        for name, (courier, task) in list(self._couriers.items()):
            channel = config.channels.get(name)
            if channel is None or channel.settings != courier.routing:
                self._couriers.pop(name)
                task.cancel()
        for name, channel in config.channels.items():
            if name not in self._couriers:
                self._open_channel(channel)
        self._start(self._count_outbox(), "outbox length")
        self._forget_the_past()
        self._ping()

    def _forget_the_past(self) -> None:
        """Of what is guarded no more."""
        self._board.history.keep_only({name: service.probes for name, service in self._config.services.items()})

    def _guard(self, service: Service, found: State | None) -> None:
        asked = listeners(service)
        examiner = Examiner(service.name, asked, self._hands, self._diag, self._clock, learners=self._learners)
        look = Look(service, self._units, examiner, self._clock, self._hands.find)
        guard = Guard(service, look, self._hands, self._store, self._clock, self._board, found)
        self._metrics.guarded(service.name, service.policy.mode, service.probes)
        self._board.guards[service.name] = guard
        after = self._turn_of(service)
        self._posts[service.name] = Post(guard, self._start(guard.run(after), f"guard of {service.name}"))

    def _turn_of(self, service: Service) -> float:
        """Its first round, in seconds from now. A thousand services that all begin at once would go on to take all
        their rounds at once, and keep the loop for seconds each time [M]; so each begins a little after the one before.
        """
        services = self._config.services
        return list(services).index(service.name) * min(APART, service.policy.interval / len(services))

    async def _succeed(self, post: Post, service: Service | None) -> None:
        """A guard ends after its turn, a remedy of it included; the next one takes up its state."""
        post.guard.end()
        await asyncio.wait({post.task})
        self._board.guards.pop(post.guard.service.name, None)
        self._forget_the_past()  # again: that turn has told what it found
        latest = self._config.services.get(post.guard.service.name, service)
        if latest is None or latest.name not in self._config.services:
            self._metrics.forget(post.guard.service.name)
        else:
            self._guard(latest, post.guard.state)

    def _open_channel(self, channel: Channel) -> None:
        self._metrics.channel(channel.name)
        courier = Courier(
            name=channel.name,
            channel=self._kept(channel),
            routing=channel.settings,
            outbox=self._store,
            notified=self._notified,
            gave_up=self._metrics.gave_up,
        )
        self._couriers[channel.name] = (courier, self._start(courier.run(), f"channel {channel.name}"))

    def _kept(self, channel: Channel) -> Road:
        """The channel; where its receiver forgets, in what tells it again."""
        road, services = CHANNELS[channel.type].open(channel.settings), channel.settings.services
        if not isinstance(road, Standing):
            return road

        def guarded(service: str) -> bool:
            return service in self._config.services and (not services or service in services)

        return Kept(
            name=channel.name,
            channel=road,
            ledger=self._store,
            guarded=guarded,
            notified=self._metrics.notified,
        )

    def _ping(self) -> None:
        """Let the dead-man ping be that of the config."""
        settings = self._config.dead_man
        if self._dead_man is not None:
            if self._dead_man[0].settings == settings:
                return
            self._dead_man[1].cancel()
            self._dead_man = None
        if settings is not None:
            self._metrics.dead_man(Ping)
            ping = DeadMan(settings, self._board.ailing, lambda: len(self._config.services), self._metrics.pinged)
            self._dead_man = ping, self._start(ping.run(), "dead-man ping")

    def _wake_couriers(self) -> None:
        for courier, _ in self._couriers.values():
            courier.wake()
        self._start(self._count_outbox(), "outbox length")

    def _notified(self, channel: str, ok: bool) -> None:
        self._metrics.notified(channel, ok)
        self._start(self._count_outbox(), "outbox length")

    def _squeezed(self, letters: Squeezed) -> None:
        if letters.merged:
            self._metrics.merged(letters.channel, letters.merged)
        if letters.dropped:
            self._lost(letters.channel, letters.dropped, "too many wait for it, and their incidents are over")

    def _lost(self, channel: str, letters: int, why: str) -> None:
        self._metrics.gave_up(channel, letters)
        log.critical("channel %s: GAVE UP %d messages: %s", channel, letters, why, extra=of_event(Event.LETTERS_LOST))

    async def _sweep(self) -> None:
        while True:
            await self._abandon()
            await self._count_outbox()
            await asyncio.sleep(SWEEP)

    async def _abandon(self) -> None:
        """Letters to a channel that was taken out of the config wait for it as long as to one that fails."""
        before = time.time() - Routing().give_up_after
        with contextlib.suppress(StoreUnwritable):
            for channel, letters in await self._store.abandon(self._config.channels, before):
                self._lost(channel, letters, "it is configured no more")

    async def _count_outbox(self) -> None:
        with contextlib.suppress(StoreUnwritable):
            self._metrics.outbox_length(await self._store.outbox_length(self._config.channels))

    # --- reload and end -----------------------------------------------------------------------------------------------

    async def _reloads(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                await self._read_again()
            except Exception:  # the old config is in force still
                self._metrics.config_reloaded(False, time.time())
                text = "the config could not be read again: a fault in the watchdog itself"
                log.exception(text, extra=of_event(Event.CONFIG_REFUSED))
            notify("READY=1")

    async def _read_again(self) -> None:
        try:
            config = await configuration.load_async(self._path)
        except ConfigInvalid as error:
            self._metrics.config_reloaded(False, time.time())
            refused = of_event(Event.CONFIG_REFUSED)
            log.error("the new config is not valid, the old one stays in force:", extra=refused)
            for line in str(error).splitlines():
                log.error("%s", line)
            return
        for key in ("state_directory", "http"):
            if getattr(config, key) != getattr(self._config, key):
                log.warning("%s was changed: that takes a restart of the daemon", key)
        try:
            await self._server.reconfigure(config.web)
        except (TlsUnusable, OSError) as error:  # it was sound a moment ago, when the config was checked
            log.error("the web server goes on with its former certificate: %s", error)
        secret.forget()
        await probes.close()  # the files behind its settings may have changed
        await asyncio.to_thread(_prepare, config)
        self._arrange(config)
        self._start(garbage.spare(self._board.ready), "garbage")
        self._metrics.config_reloaded(True, time.time())
        for warning in config.warnings:
            log.warning("%s", warning)
        text = "the config was read again: guarding %d services"
        log.info(text, len(config.services), extra=of_event(Event.CONFIG_READ))

    async def _end(self) -> None:
        tasks = {task for task in self._tasks if task is not asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_TIMEOUT)
        # A look-up of a name that hangs in a thread of the loop's executor would keep the interpreter from ending.
        last_resort = threading.Timer(LAST_RESORT, os._exit, (self._exit_code,))
        last_resort.daemon = True
        last_resort.start()
        self._diag.close()
        closing = (self._server.close(), self._hands.close(), probes.close(), self._units.close(), self._store.close())
        await asyncio.gather(*closing, return_exceptions=True)


def _control_socket() -> str | None:
    """The socket for orders, where systemd made a directory for it: of RuntimeDirectory= the one of that name."""
    made = os.environ.get("RUNTIME_DIRECTORY", "").split(":")
    return next((f"{directory}/{CONTROL}" for directory in made if directory.endswith("/control")), None)


def _make(directory: Path) -> None:
    """The state directory, if nobody made it. Where that fails the store says so, and guarding goes on."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        log.error("%s cannot be made: %s", directory, error.strerror)


def _prepare(config: Config) -> None:
    """Load what the probes need before the loop has to wait for it."""
    for service in config.services.values():
        for probe in service.probes.values():
            PROBES[probe.type].prepare(probe.settings)


def run(path: Path, config: Config, helper: Path | None = None) -> None:
    """Run the daemon with a checked config until SIGTERM; with the helper at that socket, or with one of its own."""
    _prepare(config)
    for warning in config.warnings:
        log.warning("%s", warning)

    async def main() -> None:
        await Daemon(path, config, helper).run()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.PollSelector())) as runner:
        runner.run(main())
