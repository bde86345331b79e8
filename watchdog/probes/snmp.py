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
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

from watchdog.model import Epoch, Kind, Observation, Plane, Road, Strength
from watchdog.probes import sockets
from watchdog.probes.attempt import Finding, observe
from watchdog.probes.deadline import Deadline
from watchdog.secret import SecretUnreadable
from watchdog.settings import Secret

AuthProtocol = Literal["MD5", "SHA", "SHA224", "SHA256", "SHA384", "SHA512"]
PrivacyProtocol = Literal["DES", "AES", "AES192", "AES256", "AES192C", "AES256C"]

HRSWRUN = "1.3.6.1.2.1.25.4"
NOT_SHOWN = ("noSuchObject", "noSuchInstance", "endOfMibView", "noSuchName")
NOT_ALLOWED = ("noAccess", "authorizationError")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to ask which agent, and which values are expected (none given: any value).

    Version 3 needs `username`; its security level follows from the passwords given. The names of the protocols are
    blackbox's and snmp_exporter's; AES192C and AES256C are Cisco's way to make the longer keys.
    """

    address: str
    oid: str
    version: Literal["1", "2c", "3"] = "2c"
    community: Secret | None = None
    username: str | None = None
    auth_protocol: AuthProtocol = "SHA"
    auth_password: Secret | None = None
    privacy_protocol: PrivacyProtocol = "AES"
    privacy_password: Secret | None = None
    expect: tuple[int | str, ...] = ()
    retries: int = 2
    strength: Strength | None = None
    preferred_ip_protocol: sockets.IpProtocol | None = None

    def __post_init__(self) -> None:
        sockets.split_address(self.address)
        if not re.fullmatch(r"\.?[0-2](\.([0-9]+|\{pid\}))+", self.oid):
            raise ValueError(f'"{self.oid}" is no numeric OID; write digits and dots, such as "1.3.6.1.2.1.1.3.0"')
        if not 0 <= self.retries <= 10:
            raise ValueError(f"retries is {self.retries}; it must be 0 to 10")
        check_credentials(self)


def check_credentials(settings: Settings) -> None:
    """Raise `ValueError` where what is given does not fit the version."""
    if settings.version == "3":
        if not settings.username:
            raise ValueError("version 3 needs username")
        if settings.community is not None:
            raise ValueError("version 3 has no community; give username, auth_password and privacy_password")
        if settings.privacy_password is not None and settings.auth_password is None:
            raise ValueError("privacy_password without auth_password: SNMPv3 has no privacy without authentication")
        return
    if settings.community is None:
        raise ValueError(f"version {settings.version} needs community, as a secret: {{ credential = … }}")
    if settings.username or settings.auth_password or settings.privacy_password:
        raise ValueError(f'version {settings.version} has no user; say version = "3", or leave username and passwords')


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent said: a value, or the name of an error or exception (RFC 3416, 3), or why it would not talk."""

    value: int | str | None = None
    error: str = ""
    refusal: str = ""  # of version 3; by the agent or by our own engine


class Talk(Protocol):
    """How requests are made and answers read, without any I/O: `send` takes each message."""

    def request(self, send: Callable[[bytes], object]) -> None:
        """Send the request, or send it again."""

    def answer(self, data: bytes, send: Callable[[bytes], object]) -> Answer | None:
        """What a message says; None for one that is no answer, or that leads to another request first."""


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
