"""The snmp probe: one GET to an agent, the witness for a service that has gone dark. RFC 3416, RFC 1157, RFC 3414.

`{pid}` in the OID stands for the service's main PID: with hrSWRunStatus (1.3.6.1.2.1.25.4.2.1.7.{pid}, of RFC 2790's
HOST-RESOURCES-MIB; 1 running, 2 runnable) an agent of the host tells of that very process. `pid_oid` is asked in the
same request: an agent that tells of another process, such as the service's last one, is stale and no witness.

Rules of this file: OIDs are numeric, no MIB is read; a fresh connected UDP socket for each probe, so that a port
without an agent is told at once (ICMP, udp(7)); the request is sent again within the deadline, which is never
stretched. An agent that has no such object, or that refuses us, says nothing of the service: *error*. So does a table
that may be older than the process (snmpd reads hrSWRun anew every 30 s): for `TABLE_AGE` it can't say that a process
is not well. How a message is made and read is the business of a `Talk`: `snmp_community` for versions 1 and 2c,
`snmp_engine` for version 3.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from watchdog import target as processes
from watchdog.clock import Clock
from watchdog.model import Epoch, Kind, Observation, Plane, Road, Strength
from watchdog.probes import sockets
from watchdog.probes.attempt import Finding, observe
from watchdog.probes.deadline import Deadline
from watchdog.probes.snmp_settings import Answer as Answer
from watchdog.probes.snmp_settings import Settings as Settings
from watchdog.probes.snmp_settings import Talk
from watchdog.secret import SecretUnreadable
from watchdog.settings import format_duration

HRSWRUN = "1.3.6.1.2.1.25.4"
NOT_SHOWN = ("noSuchObject", "noSuchInstance", "endOfMibView", "noSuchName")
NOT_ALLOWED = ("noAccess", "authorizationError")
TABLE_AGE = 35.0  # s: the 30 s that snmpd keeps a table, and a little for reading it


def road(settings: Settings) -> Road:
    """A witness: of the process where it is named, else of the host; or as strong as the settings say."""
    named = "{pid}" in settings.oid or settings.pid_oid is not None
    strength = settings.strength or (Strength.PROCESS if named else Strength.HOST)
    return Road(Plane.WITNESS, strength=strength)


def warnings(settings: Settings) -> tuple[str, ...]:
    """What an operator should know of these settings."""
    if road(settings).strength is not Strength.HOST:
        return ()
    text = (
        'strength = "host": this agent only tells that the host is up; ask for a process (…25.4.2.1.7.{pid}), '
        'or say strength = "inside" if the guarded process itself is the agent'
    )
    return (text,)


def prepare(settings: Settings) -> None:
    """Load pysnmp; for version 3, also make the user's engine and keys. An unreadable secret is left to `probe`."""
    with suppress(SecretUnreadable):
        _talk(settings, (socket.AF_INET, ("127.0.0.1", 161)), ("1.3.6.1.2.1.1.3.0",))


async def probe(settings: Settings, target: Epoch | None, deadline: Deadline) -> Observation:
    """Ask once."""
    return await observe(_attempt(settings, target, deadline), deadline)


async def _attempt(settings: Settings, target: Epoch | None, deadline: Deadline) -> Finding:
    named = "{pid}" in settings.oid
    if target is None and (named or settings.pid_oid is not None):
        return Kind.ERROR, f"{'the OID has {pid}' if named else 'pid_oid is given'}, and the service has no process"
    oids = _oids(settings, target)
    host, port = sockets.split_address(settings.address)
    place = await sockets.resolve(host, port, settings.preferred_ip_protocol, deadline, socket.SOCK_DGRAM)
    talk = _talk(settings, place, oids)
    sock = sockets.begin(place, deadline, socket.SOCK_DGRAM)
    try:
        deadline.connected = True  # as far as UDP can tell
        secret = "privacy_password" if settings.version == "3" else "community"
        deadline.note = f" (an agent keeps silent to a wrong {secret}, too)"
        answer = await _converse(talk, sock, settings.retries, deadline)
        return _of_process(settings, target, answer) or _of_table(settings, target, judge(settings, oids[0], answer))
    finally:
        sock.close()


def _oids(settings: Settings, target: Epoch | None) -> tuple[str, ...]:
    """What is asked in one request: the value, and the PID where it is wanted."""
    pid = "" if target is None else str(target.pid)
    wanted = (settings.oid.replace("{pid}", pid), settings.pid_oid)
    return tuple(oid.removeprefix(".") for oid in wanted if oid is not None)


def _talk(settings: Settings, place: sockets.Place, oids: tuple[str, ...]) -> Talk:
    if settings.version == "3":
        from watchdog.probes import snmp_engine

        return snmp_engine.UserTalk(settings, place, oids)
    from watchdog.probes import snmp_community

    return snmp_community.CommunityTalk(settings, oids)


async def _converse(talk: Talk, sock: socket.socket, retries: int, deadline: Deadline) -> Answer:
    """Ask, and ask again, until an answer came. Runs on when all is asked: `observe` ends it at the deadline."""
    loop = asyncio.get_running_loop()
    pause = (deadline.at - loop.time()) / (retries + 1)

    def send(data: bytes) -> None:
        deadline.sent += sock.send(data)

    async def listen() -> Answer:
        while True:
            answer = talk.answer(await sockets.receive(sock), send)
            if answer is not None:
                return answer

    for _ in range(retries):
        talk.request(send)
        try:
            async with asyncio.timeout(pause):
                return await listen()
        except TimeoutError:
            continue
    talk.request(send)
    return await listen()


def _of_process(settings: Settings, target: Epoch | None, answer: Answer) -> Finding | None:
    """What is wrong with the process that the agent tells of; None: nothing, or it was not asked."""
    if settings.pid_oid is None or target is None:
        return None
    lack = answer.pid_error
    if answer.pid is None and not (answer.error or answer.refusal):
        lack = lack or "no variable binding"
    if lack:
        oid = settings.pid_oid.removeprefix(".")
        return Kind.ERROR, f"the agent does not tell its process at {oid} ({lack}); {view(oid)}"
    if answer.pid is not None and str(answer.pid).strip() != str(target.pid):
        return Kind.WRONG, f"the agent tells of process {str(answer.pid)[:20]}, the service is {target.pid}"
    return None


def _of_table(settings: Settings, target: Epoch | None, finding: Finding) -> Finding:
    """The finding, unless it is of a table that may be older than the process."""
    if finding[0] is not Kind.WRONG or target is None or "{pid}" not in settings.oid:
        return finding
    age = processes.age(target, Clock().now())
    if age >= TABLE_AGE:
        return finding
    return Kind.ERROR, f"{finding[1]}; the agent's table may be older than the process ({format_duration(age)})"


def judge(settings: Settings, oid: str, answer: Answer) -> Finding:
    """What an answer says of the service, or of the agent's settings."""
    if answer.refusal:
        return Kind.ERROR, f"the agent refused the user {settings.username}: {answer.refusal}"
    if answer.error in NOT_SHOWN:
        return Kind.ERROR, not_shown(settings, oid, answer.error)
    if answer.error in NOT_ALLOWED:
        level = "does it ask this user for more security (auth_password, privacy_password), or "
        return Kind.ERROR, f"the agent refused {oid} ({answer.error}); {level if settings.username else ''}{view(oid)}"
    if answer.error:
        return Kind.WRONG, f"the agent answered {answer.error} for {oid}"
    if settings.expect and str(answer.value) not in map(str, settings.expect):
        wanted = " or ".join(f'"{value}"' for value in settings.expect)
        return Kind.WRONG, f'expected {wanted}, got "{str(answer.value)[:60]}"'
    return Kind.ALIVE, f'answered "{str(answer.value)[:60]}"'


def not_shown(settings: Settings, oid: str, error: str) -> str:
    """Why an agent shows nothing at an OID, and what to do."""
    if error == "noSuchInstance":
        hint = "snmpd reads its table anew every 30 s" if "{pid}" in settings.oid else "the OID of a scalar ends in .0"
        return f"the agent has no {oid} ({error}): {hint}"
    if "{pid}" in settings.oid and error == "noSuchName":
        return f"the agent shows no {oid} ({error}): no such process in its table, which is 30 s old, or {view(oid)}"
    return f"the agent shows no {oid} ({error}); {view(oid)}"


def view(oid: str) -> str:
    """The line of snmpd.conf(5) that would show an OID (Debian's default view hides hrSWRun)."""
    subtree = HRSWRUN if oid.startswith(f"{HRSWRUN}.") else oid.rsplit(".", 2)[0]
    return f'does its view include it? In snmpd.conf: "view systemonly included .{subtree}"'
