"""(b) CPU of a probe beside prometheus-blackbox-exporter and prometheus-snmp-exporter, scraped for the same target.

Both sides probe the same redis, nginx and snmpd, in turn, as often and as fast; only the time of the prober's own
process counts. Ours is a long-lived process that takes rounds as the daemon does (`prober`). The exporters are scraped
over one kept connection and uncompressed, which is the least that they can be asked for.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import needs, peers
from bench.processes import cpu_seconds
from bench.report import Bar, Section, at_most_a, spread, times
from tests.servers import SYS_UPTIME, Nginx, Redis, Snmpd, nginx, redis, snmpd

ROOT = Path(__file__).parent.parent
WARM_UP = 100
HELD = ("tcp", "http")  # the kinds that have a bar
PART = 3

HOW = (
    "CPU time (user and system) of the prober's own process for one probe: the median of the batches, the worst in "
    "brackets.\nA round of ours has this one probe and the check of the service's process; \"alone\" is the probe's "
    "function without it. Back\nto back is the cheapest that either side can do; at a steady rate each probe begins "
    "from sleep. Blackbox has no prober for\nUnix sockets. What the daemon adds to a round (diagnosis, metrics, API) "
    "is in (c)."
)
COLUMNS = ("probe", "pace", "batches", "our round us", "alone us", "peer", "peer us", "to our round", "to alone")

CONFIG = """\
state_directory = "{directory}/state"
[service.target]
pidfile = "{redis.pidfile}"
[service.target.probe.tcp]
type = "tcp"
address = "{redis.address}"
send = "PING\\n"
expect = "^.PONG"
[service.target.probe.http]
type = "http"
url = "{nginx.url}"
[service.target.probe.unix]
type = "unix"
path = "{redis.path}"
send = "PING\\n"
expect = "^.PONG"
[service.target.probe.snmp]
type = "snmp"
address = "{snmpd.address}"
oid = "{oid}"
community = {{ file = "{directory}/community" }}
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """How the probes follow each other: `batches` of `count`, one every `interval` seconds."""

    name: str
    interval: float
    count: int
    batches: int


BACK_TO_BACK = Pace("back to back", 0.0, 400, 5)
STEADY = Pace("50 a second", 0.02, 250, 4)
QUICK = (Pace("back to back", 0.0, 100, 2), Pace("50 a second", 0.02, 50, 2))


@dataclass(frozen=True, slots=True)
class Side:
    """Who probes, and how it is told to take a number of probes at an interval."""

    name: str
    pid: int
    take: Callable[[int, float], None]

    def cost(self, count: int, interval: float) -> float:
        """Microseconds of its CPU time for each of so many probes."""
        before = cpu_seconds(self.pid)
        self.take(count, interval)
        return (cpu_seconds(self.pid) - before) / count * 1e6


@dataclass(frozen=True, slots=True)
class Sides:
    """Of one kind of probe: our round, our probe alone, and the peer."""

    round: Side
    alone: Side
    peer: Side | None


@dataclass(slots=True)
class Found:
    """What the batches of one kind of probe at one pace came to, in microseconds."""

    kind: str
    pace: Pace
    round: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    peer_name: str = "–"


class NotAlive(Exception):
    """Our probes did not all find the server alive."""


def run(*, quick: bool) -> Section:
    """Measure. Raises `Missing`."""
    needs.programs(
        nginx="nginx-light",
        redis_server="redis-server",
        snmpd="snmpd",
        snmpget="snmp",
        prometheus_blackbox_exporter="prometheus-blackbox-exporter",
        prometheus_snmp_exporter="prometheus-snmp-exporter",
    )
    with tempfile.TemporaryDirectory(prefix="epoll-watchdog-bench-") as name, _sides(Path(name)) as sides:
        found = [_measure(kind, sides[kind], pace) for kind in sides for pace in _paces(quick)]
    return Section("(b) CPU of a probe", HOW, COLUMNS, tuple(map(_row, found)), tuple(_bars(found)))


def _paces(quick: bool) -> tuple[Pace, Pace]:
    return QUICK if quick else (BACK_TO_BACK, STEADY)


def _measure(kind: str, sides: Sides, pace: Pace) -> Found:
    """Batch by batch, in turn."""
    found = Found(kind, pace)
    taking = [(sides.round, found.round), (sides.alone, found.alone)]
    if sides.peer is not None:
        found.peer_name = sides.peer.name
        taking.append((sides.peer, found.peer))
    for side, _ in taking:
        side.take(WARM_UP, 0.0)
    for _ in range(pace.batches):
        for side, costs in taking:
            costs.append(side.cost(pace.count, pace.interval))
    return found


# --- the two sides ----------------------------------------------------------------------------------------------------


@contextmanager
def _sides(directory: Path) -> Iterator[dict[str, Sides]]:
    """For each kind of probe, us and the peer."""
    with ExitStack() as servers:
        to = (
            servers.enter_context(redis(directory)),
            servers.enter_context(nginx(directory)),
            servers.enter_context(snmpd(directory)),
        )
        blackbox = servers.enter_context(peers.exporter(peers.BLACKBOX, peers.BLACKBOX_CONFIG, directory))
        snmp = servers.enter_context(peers.exporter(peers.SNMP, peers.SNMP_CONFIG, directory))
        prober = servers.enter_context(_prober(directory, *to))
        tcp = _scraping(peers.BLACKBOX, blackbox, peers.probe_path("ping", to[0].address), b"\nprobe_success 1\n")
        http = _scraping(peers.BLACKBOX, blackbox, peers.probe_path("http", to[1].url), b"\nprobe_success 1\n")
        uptime = _scraping(peers.SNMP, snmp, peers.snmp_path(to[2].address), b"\nsysUpTime ")
        theirs: dict[str, Side | None] = {"tcp": tcp, "http": http, "unix": None, "snmp": uptime}
        yield {
            kind: Sides(_ordering(prober, kind, "round"), _ordering(prober, kind, "alone"), peer)
            for kind, peer in theirs.items()
        }


def _scraping(name: str, peer: peers.Peer, path: str, success: bytes) -> Side:
    return Side(name, peer.pid, lambda count, interval: peer.take(path, success, count, interval))


def _ordering(prober: subprocess.Popen[str], kind: str, how: str) -> Side:
    def take(count: int, interval: float) -> None:
        assert prober.stdin is not None
        assert prober.stdout is not None
        prober.stdin.write(f"{kind} {how} {count} {interval}\n")
        prober.stdin.flush()
        if (alive := int(prober.stdout.readline())) != count:
            raise NotAlive(f"{kind}: {alive} of {count} probes found the server alive")

    return Side("epoll-watchdog", prober.pid, take)


@contextmanager
def _prober(directory: Path, redis: Redis, nginx: Nginx, snmpd: Snmpd) -> Iterator[subprocess.Popen[str]]:
    """Our prober, ready. It ends with its standard input, so also when this process is killed."""
    (directory / "community").write_text(snmpd.community)
    config = directory / "prober.toml"
    config.write_text(CONFIG.format(directory=directory, redis=redis, nginx=nginx, snmpd=snmpd, oid=SYS_UPTIME))
    argv = [sys.executable, "-m", "bench.prober", str(config)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise NotAlive("our prober did not start")
            yield process
        finally:
            process.kill()


# --- the table --------------------------------------------------------------------------------------------------------


def _row(found: Found) -> tuple[str, ...]:
    pace = found.pace
    ours = (spread(found.round, ".0f"), spread(found.alone, ".0f"))
    row = (found.kind, pace.name, f"{pace.batches} x {pace.count}", *ours, found.peer_name)
    if not found.peer:
        return (*row, "–", "–", "–")
    peer = statistics.median(found.peer)
    beside = (times(peer, statistics.median(found.round)), times(peer, statistics.median(found.alone)))
    return (*row, spread(found.peer, ".0f"), *beside)


def _bars(found: list[Found]) -> Iterator[Bar]:
    for of_kind in found:
        if of_kind.kind in HELD and of_kind.pace.interval == 0:  # the bars are of work done back to back
            what = f"CPU of a round with one {of_kind.kind} probe beside blackbox_exporter's probe, {of_kind.pace.name}"
            yield at_most_a(what, statistics.median(of_kind.round), statistics.median(of_kind.peer), PART)
