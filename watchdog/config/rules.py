"""What must hold beyond types: bounds, names, and keys that depend on each other. A function a part of the file.

Each takes the place of its table, the value, and `bad`: the keys of which something wrong is told already.
Facts: unit names from systemd.unit(5), label names from the Prometheus data model.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Collection, Mapping
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from watchdog.config.found import Place, quoted
from watchdog.config.typed import near
from watchdog.config.web import Web
from watchdog.model import Budget, Mode, Plane, Policy, Rung
from watchdog.settings import format_duration
from watchdog.target import Match, Target, is_never_touched, untouchable_part
from watchdog.verdicts import VERDICTS, Stance, ladder
from watchdog.window import LONGEST, Window, days_of_month, time_of_day, weekdays

NAME = r"[A-Za-z0-9_.@-]{1,64}"
LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
OWN_LABELS = ("name", "alertname", "instance", "severity")
UNIT = (
    r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?"
    r"\.(service|socket|device|mount|automount|swap|target|path|timer|slice|scope)"
)
USER = r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,255}\$?"  # a uid; or a name as useradd(8), a directory or systemd makes it
MIN_INTERVAL = 0.1  # seconds
MIN_TRIPWIRE = 0.05  # seconds
MIN_PING = 15.0  # seconds; Healthchecks.io takes five pings a minute of one check
MAX_PROBES = 8  # what fits into 30 series a service
DURATIONS = ("interval", "interval_suspect", "timeout", "settle", "dark_for", "start_timeout", "cool_off", "reminder")


def name(place: Place, what: str) -> None:
    """The name of a service, a probe or a channel: a metric's label and a part of URLs."""
    word = str(place.keys[-1])
    if not re.fullmatch(NAME, word):
        place.error(f"{quoted(word)} is no name for a {what}; up to 64 letters, digits, _ . @ and - make one")


def duration(place: Place, seconds: float) -> bool:
    """Whether a duration is one that can be waited for."""
    if seconds > 0:
        return True
    place.error('0s is too short; give a duration above zero, such as "5s"')
    return False


def tripwire(place: Place, seconds: float) -> None:
    """How often all accept queues are read."""
    if seconds < MIN_TRIPWIRE:
        place.error(f'{format_duration(seconds)} is too short; the shortest is "50ms"')


def unit(place: Place, text: str) -> bool:
    """Whether it is a unit's full name."""
    template = re.fullmatch(UNIT, text) and text.rpartition(".")[0].endswith("@")  # "a@..service" is an instance
    if re.fullmatch(UNIT, text) and len(text) <= 255 and not template:
        return True
    if template:
        instance = "@1.".join(text.rsplit("@.", 1))
        place.error(f"{quoted(text)} is a template; name an instance, such as {quoted(instance)}")
    elif re.fullmatch(UNIT, f"{text}.service"):
        place.error(f"{quoted(text)} is no unit name; did you mean {quoted(text + '.service')}?")
    else:
        place.error(f'{quoted(text)} is no unit name; write it as systemctl shows it, such as "ravendb.service"')
    return False


NAMED_BY = {  # what a service can be named by, each with an example
    "unit": 'unit = "NAME.service"',
    "pidfile": 'pidfile = "/run/NAME.pid"',
    "process": 'process = { exe = "/usr/sbin/NAME" }',
    "cgroup": 'cgroup = "/machine.slice/NAME.scope"',
}


def services(place: Place, names: Collection[str], known: Collection[str]) -> None:
    """What is said to be for some services only."""
    for index, service in enumerate(names):
        if service not in known:
            place.at(index).error(f"{quoted(service)} is no service; {near(service, known)}")


def window(place: Place, value: Window) -> None:
    """A recurring maintenance window: each word must be one that `window.py` understands."""
    words: tuple[tuple[Place, str, Callable[[str], object]], ...] = (
        (place.at("start"), value.start, time_of_day),
        *((place.at("weekdays", index), text, weekdays) for index, text in enumerate(value.weekdays)),
        *((place.at("days_of_month", index), text, days_of_month) for index, text in enumerate(value.days_of_month)),
    )
    for at, text, read in words:
        try:
            read(text)
        except ValueError as error:
            at.error(f"{quoted(text)} {error}")
    if duration(place.at("duration"), value.duration) and value.duration > LONGEST:
        place.at("duration").error(f'{format_duration(value.duration)} is too long; the longest is "7d"')
    if value.location is not None:
        try:
            ZoneInfo(value.location)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            what = 'is not in the time zone database (package tzdata); write it as "Europe/Berlin" or "UTC"'
            place.at("location").error(f"{quoted(value.location)} {what}")


def command(place: Place, argv: tuple[str, ...]) -> None:
    """The argv of a command that root runs."""
    if argv and not argv[0].startswith("/"):
        place.at(0).error(f"{quoted(argv[0])} is no absolute path; no shell and no PATH will find it")
    for index, word in enumerate(argv):
        if "\0" in word:
            place.at(index).error("holds a NUL character; no argument can")


def path(place: Place, text: str) -> bool:
    """Whether it is an absolute path."""
    if not text.startswith("/"):
        place.error(f"{quoted(text)} is no absolute path; begin it with /")
    elif "\0" in text:
        place.error("holds a NUL character; no path does")
    else:
        return True
    return False


def target(place: Place, value: Target, bad: Collection[str]) -> None:
    """Who is guarded, and how restarted and nudged."""
    named = [key for key in NAMED_BY if getattr(value, key) is not None]
    if len(named) > 1:
        place.error(f"{' and '.join(named)} are set; keep the one that tells which process to guard")
    elif not named and not set(NAMED_BY) & set(bad):
        place.error(f"does not say what to guard; give one of {', '.join(NAMED_BY.values())}")
    if value.unit is not None and unit(place.at("unit"), value.unit):
        if not value.unit.endswith(".service"):
            place.at("unit").error(f"{quoted(value.unit)} has no process to guard; name a .service")
        elif is_never_touched(value.unit):
            _untouchable(place.at("unit"), value.unit)
    if value.pidfile is not None:
        path(place.at("pidfile"), value.pidfile)
    if value.process is not None:
        process(place.at("process"), value.process)
    if value.cgroup is not None:
        cgroup(place.at("cgroup"), value.cgroup)
    command(place.at("restart_command"), value.restart_command)
    command(place.at("capture"), value.capture)
    for index, other in enumerate(value.also_restarts):
        unit(place.at("also_restarts", index), other)
    if value.also_restarts and value.unit is None:
        place.at("also_restarts").error("goes with a unit; a restart_command restarts what it restarts")
    stopped(place, value)


def stopped(place: Place, value: Target) -> None:
    """How its threads are stopped, by a nudge or for a drill."""
    methods = value.nudge.methods
    if not methods or len(set(methods)) < len(methods):
        place.at("nudge", "methods").error('names each method once, in the order to try; give ["ptrace", "freeze"]')
    if value.drill_under_seccomp and not value.drill:
        place.at("drill_under_seccomp").error("goes with a drill; add drill = true, or leave it out")


def _untouchable(place: Place, text: str) -> None:
    place.error(f"{quoted(text)} is never touched; the host, or this watchdog, stands on it")


def process(place: Place, value: Match) -> None:
    """What a process is known by."""
    path(place.at("exe"), value.exe)
    if value.exe.endswith("/") or os.path.normpath(value.exe) != value.exe:
        place.at("exe").error(f"{quoted(value.exe)} is no plain path; write it as `readlink /proc/PID/exe` shows it")
    for index, word in enumerate(value.args):
        if not word:
            place.at("args", index).error("is empty; leave it out")
        elif "\0" in word:
            place.at("args", index).error("holds a NUL character; no argument can")
    if value.user is not None and not re.fullmatch(USER, value.user):
        place.at("user").error(f'{quoted(value.user)} is no user; give a name such as "www-data", or a uid')


def cgroup(place: Place, text: str) -> None:
    """A path below the mount point of cgroup v2, as /proc/PID/cgroup shows it."""
    parts = text.split("/")
    if not text.startswith("/") or len(parts) < 2 or not all(parts[1:]) or {".", ".."} & set(parts):
        place.error(f'{quoted(text)} is no cgroup; write it as /proc/PID/cgroup does: "/machine.slice/NAME.scope"')
    elif "\0" in text:
        place.error("holds a NUL character; no path does")
    elif part := untouchable_part(text):
        _untouchable(place, part)


def policy(place: Place, value: Policy, bad: Collection[str]) -> None:
    """How the service is guarded."""
    wrong = set(bad)
    for key in DURATIONS:
        if key not in bad and not duration(place.at(key), getattr(value, key)):
            wrong.add(key)
    for key in ("interval", "interval_suspect"):
        if key not in wrong and getattr(value, key) < MIN_INTERVAL:
            place.at(key).error(f'{format_duration(getattr(value, key))} is too short; the shortest is "100ms"')
            wrong.add(key)
    for key in ("timeout", "interval_suspect"):
        if not wrong & {key, "interval"}:
            within(place.at(key), getattr(value, key), value.interval)
    for key in ("fall", "rise"):
        if getattr(value, key) < 1:
            place.at(key).error(f"{getattr(value, key)} is too few; give 1 or more")
    _budget(place.at("budget", "nudge"), value.budget.nudge)
    _budget(place.at("budget", "restart"), value.budget.restart)
    _budget(place.at("budget", "capture"), value.budget.capture)
    for verdict, rungs in value.ladder.items():
        _ladder(place.at("ladder", verdict.value), VERDICTS[verdict].stance, rungs)


def within(place: Place, seconds: float, interval: float) -> None:
    """A round must be over when the next one begins."""
    if seconds > interval:
        place.error(
            f"{format_duration(seconds)} is longer than the interval; give at most {quoted(format_duration(interval))}"
        )


def _budget(place: Place, value: Budget) -> None:
    if value.burst < 0:
        place.at("burst").error(f"{value.burst} is negative; give 0 to forbid it")
    duration(place.at("interval"), value.interval)


def _ladder(place: Place, stance: Stance, rungs: tuple[Rung, ...]) -> None:
    if stance in (Stance.GOOD, Stance.REST) and rungs:
        place.error("no ladder is climbed for this verdict; leave it out")
    elif stance is Stance.WAIT and set(rungs) - {Rung.ALERT}:
        place.error('this verdict waits, no remedy fits it; give ["alert"] or []')


def capturable(place: Place, target: Target, policy: Policy) -> None:
    """A ladder that names a capture needs a command for it."""
    for verdict, rungs in policy.ladder.items():
        if Rung.CAPTURE in rungs and not target.capture:
            hint = 'give its command, such as capture = ["/usr/bin/gcore", "{pid}"]'
            place.at("ladder", verdict.value).error(f'has "capture", and there is no command for it; {hint}')


def restartable(place: Place, target: Target, policy: Policy) -> None:
    """Warns where a restart that would be due can't be done."""
    wanted = any(Rung.RESTART in ladder(policy, verdict) for verdict in VERDICTS)
    if target.unit or target.restart_command or policy.mode is not Mode.FULL or not policy.budget.restart.burst:
        return
    if wanted:
        place.warn('nothing can restart it; give restart_command, or set mode = "nudge" where that is meant')


def dependencies(place: Place, name: str, parents: Mapping[str, Collection[str]]) -> None:
    """What a service depends on are other services, and none of them depends on it: `parents` are those of each."""
    for index, parent in enumerate(parents[name]):
        if parent == name:
            place.at(index).error("a service can't depend on itself; leave it out")
        elif parent not in parents:
            others = [other for other in parents if other != name]
            hint = near(parent, others) if others else "no other is guarded here"
            place.at(index).error(f"{quoted(parent)} is no service; {hint}")
    circle = _circle(name, parents)
    if len(circle) > 1 and name == min(circle):  # told once, not at each of them
        way = " depends on ".join([*circle, name])
        place.error(f"{way}; break the circle")


def _circle(name: str, parents: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """The shortest way from the service back to itself; empty where there is none."""
    ways: list[tuple[str, ...]] = [(name,)]
    reached = {name}
    for way in ways:
        for parent in parents.get(way[-1], ()):
            if parent == name:
                return way
            if parent not in reached:
                reached.add(parent)
                ways.append((*way, parent))
    return ()


def labels(place: Place, words: Mapping[str, str], reserved: Collection[str] = ()) -> None:
    """Names that Prometheus and Alertmanager take."""
    for key, text in words.items():
        if key in reserved:
            place.at(key).error(f"is set by the watchdog itself; choose another name than {', '.join(reserved)}")
        elif not re.fullmatch(LABEL, key) or key.startswith("__"):
            place.at(key).error("is no label name; letters, digits and _ make one, no digit first, no __ first")
        elif not text:
            place.at(key).error("is empty; leave it out")


def planes(place: Place, planes: Collection[Plane]) -> None:
    """What the probes of a service can tell together."""
    if Plane.SOCKET not in planes:
        place.error("no probe asks one of its sockets; add one of type http, tcp or unix")
    elif Plane.WITNESS not in planes:
        place.warn(
            "no witness; without one (such as a probe of type snmp) a lost wake-up can't be told from a hung process"
        )
    if len(planes) > MAX_PROBES:
        place.warn(f"{len(planes)} probes make over 30 series for Prometheus; {MAX_PROBES} fit")


def dead_man(place: Place, interval: float, timeout: float) -> None:
    """How often a monitor is pinged, and how long one ping may take."""
    if interval < MIN_PING:
        place.at("interval").error(f'{format_duration(interval)} is too short; the shortest is "15s"')
    else:
        within(place.at("timeout"), timeout, interval)


def listen(place: Place, text: str) -> bool:
    """HOST:PORT, an IPv6 address in brackets; a Unix socket; or what systemd passes."""
    if text == "systemd":
        return True
    if text.startswith("unix:"):
        return path(place, text.removeprefix("unix:"))
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+(%\w+)?\]|[A-Za-z0-9._-]+):([0-9]{1,5})", text)
    if match is None:
        place.error(
            f'{quoted(text)} is no HOST:PORT; write for instance "127.0.0.1:9797", "[::1]:9797", '
            '"unix:/run/epoll-watchdog-web/web.sock" or "systemd"'
        )
    elif int(match[3]) > 65535:
        place.error(f"{match[3]} is no port; the highest is 65535")
    else:
        return True
    return False


def exposed(place: Place, address: str, web: Web) -> None:
    """Warns of an address that others than this host's own users may reach. What systemd passes is not known here."""
    if address == "systemd" or address.startswith("unix:") or _is_loopback(address.rpartition(":")[0]):
        return
    if not web.authenticates:
        place.warn(
            f"whoever reaches {address} may read the state of every service; give web_config with basic_auth_users, or "
            "clients' certificates"
        )
    elif web.tls is None:
        place.warn(f"passwords come to {address} unencrypted; give web_config a tls_server_config")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
