"""The snmp probe: one GET to an agent, the witness for a service that has gone dark. RFC 3416, RFC 1157, RFC 3414.

`{pid}` in the OID stands for the service's main PID: with hrSWRunStatus (1.3.6.1.2.1.25.4.2.1.7.{pid}, of RFC 2790's
HOST-RESOURCES-MIB; 1 running, 2 runnable) an agent of the host tells of that very process.

Rules of this file: OIDs are numeric, no MIB is read; a fresh connected UDP socket for each probe, so that a port
without an agent is told at once (ICMP, udp(7)); the request is sent again within the deadline, which is never
stretched. An agent that has no such object, or that refuses us, says nothing of the service: *error*. How a message is
made and read is the business of a `Talk`: `snmp_community` for versions 1 and 2c, `snmp_engine` for version 3.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from watchdog.model import Epoch, Kind, Observation, Plane, Road, Strength
from watchdog.probes import sockets
from watchdog.probes.attempt import Finding, observe
from watchdog.probes.deadline import Deadline
from watchdog.probes.snmp_settings import Answer as Answer
from watchdog.probes.snmp_settings import Settings as Settings
from watchdog.probes.snmp_settings import Talk
from watchdog.secret import SecretUnreadable

HRSWRUN = "1.3.6.1.2.1.25.4"
NOT_SHOWN = ("noSuchObject", "noSuchInstance", "endOfMibView", "noSuchName")
NOT_ALLOWED = ("noAccess", "authorizationError")


def road(settings: Settings) -> Road:
    """A witness: of the process where the OID names it, else of the host; or as strong as the settings say."""
    strength = settings.strength or (Strength.PROCESS if "{pid}" in settings.oid else Strength.HOST)
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
        _talk(settings, (socket.AF_INET, ("127.0.0.1", 161)), "1.3.6.1.2.1.1.3.0")


async def probe(settings: Settings, target: Epoch | None, deadline: Deadline) -> Observation:
    """Ask once."""
    return await observe(_attempt(settings, target, deadline), deadline)


async def _attempt(settings: Settings, target: Epoch | None, deadline: Deadline) -> Finding:
    oid = settings.oid.removeprefix(".")
    if "{pid}" in oid:
        if target is None:
            return Kind.ERROR, "the OID has {pid}, and the service has no process"
        oid = oid.replace("{pid}", str(target.pid))
    host, port = sockets.split_address(settings.address)
    place = await sockets.resolve(host, port, settings.preferred_ip_protocol, deadline, socket.SOCK_DGRAM)
    talk = _talk(settings, place, oid)
    sock = sockets.begin(place, deadline, socket.SOCK_DGRAM)
    try:
        deadline.connected = True  # as far as UDP can tell
        secret = "privacy_password" if settings.version == "3" else "community"
        deadline.note = f" (an agent keeps silent to a wrong {secret}, too)"
        return judge(settings, oid, await _converse(talk, sock, settings.retries, deadline))
    finally:
        sock.close()


def _talk(settings: Settings, place: sockets.Place, oid: str) -> Talk:
    if settings.version == "3":
        from watchdog.probes import snmp_engine

        return snmp_engine.UserTalk(settings, place, oid)
    from watchdog.probes import snmp_community

    return snmp_community.CommunityTalk(settings, oid)


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
