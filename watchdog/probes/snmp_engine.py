"""SNMP version 3: users, by pysnmp's engine. RFC 3411 (architecture), RFC 3412 (messages), RFC 3414 (users).

Rules of this file: an engine lives as long as the daemon (it remembers each agent's engine id, boots and time, so that
a request needs no discovery), one for each distinct user with its passwords, for pysnmp knows one password to a name;
services with the same user share it. An engine does no I/O and has no timer of its own here: `Dispatcher` gives each
message to the probe that is being served, and its clock is set right only then.

`cryptography` (10 MiB) is kept out until a user with privacy is asked for: pysnmp imports it wherever it is installed,
and goes on without it.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from watchdog.probes import snmp_value
from watchdog.probes.snmp_settings import Answer, Settings
from watchdog.probes.sockets import Place
from watchdog.secret import reveal


@contextmanager
def without(name: str) -> Iterator[None]:
    """Importing `name` fails in here, unless it was imported before."""
    absent = name not in sys.modules
    if absent:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            del sys.modules[name]


with without("cryptography"):
    from pysnmp.carrier.asyncio.dgram.udp import UdpTransportAddress
    from pysnmp.carrier.base import AbstractTransport, AbstractTransportDispatcher
    from pysnmp.entity import config
    from pysnmp.entity.engine import SnmpEngine
    from pysnmp.entity.rfc3413.cmdgen import GetCommandGenerator
    from pysnmp.proto import errind
    from pysnmp.proto.rfc1902 import Null, ObjectName
    from pysnmp.proto.secmod.eso.priv import des3
    from pysnmp.proto.secmod.rfc3414.priv import des
    from pysnmp.proto.secmod.rfc3826.priv import aes

AUTH = {
    "MD5": config.USM_AUTH_HMAC96_MD5,
    "SHA": config.USM_AUTH_HMAC96_SHA,
    "SHA224": config.USM_AUTH_HMAC128_SHA224,
    "SHA256": config.USM_AUTH_HMAC192_SHA256,
    "SHA384": config.USM_AUTH_HMAC256_SHA384,
    "SHA512": config.USM_AUTH_HMAC384_SHA512,
}
PRIVACY = {
    "DES": config.USM_PRIV_CBC56_DES,
    "AES": config.USM_PRIV_CFB128_AES,
    "AES192": config.USM_PRIV_CFB192_AES_BLUMENTHAL,
    "AES256": config.USM_PRIV_CFB256_AES_BLUMENTHAL,
    "AES192C": config.USM_PRIV_CFB192_AES,
    "AES256C": config.USM_PRIV_CFB256_AES,
}
TICK_S = 1.0
MOST_TICKS = 600
EXPIRY_S = 30.0  # after which an engine forgets a request without an answer: the longest that a probe is waited for
ADDRESS = ("127.0.0.1", 161)  # an engine wants one for each agent; here it is never sent to


class Transport(AbstractTransport):  # type: ignore[misc]
    """What an engine must find at a transport domain: the kind of its addresses."""

    ADDRESS_TYPE = UdpTransportAddress


class Dispatcher(AbstractTransportDispatcher):  # type: ignore[misc]
    """Where an engine's messages go: to whoever is being served right now. And its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.set_timer_resolution(TICK_S)
        self.send: Callable[[bytes], object] = lambda _: None
        self._ticked = time.monotonic()

    def send_message(self, message: bytes, domain: tuple[int, ...], address: Any) -> None:
        """Called by the engine."""
        self.send(message)

    def catch_up(self) -> None:
        """Tick as often as time went by: what an engine keeps for 300 s then goes after 300 s."""
        now = time.monotonic()
        self._ticked = max(self._ticked, now - MOST_TICKS * TICK_S)
        while self._ticked + TICK_S <= now:
            self._ticked += TICK_S
            self.handle_timer_tick(self._ticked)


class Agent:
    """What an engine calls an agent: a name, and a transport domain that is nobody else's."""

    def __init__(self, engine: SnmpEngine, number: int) -> None:
        self.name = f"agent{number}"
        self.domain = (*config.SNMP_UDP_DOMAIN, number)
        self.known = False  # the engine has learnt its id
        engine.transport_dispatcher.register_transport(self.domain, Transport())
        config.add_target_address(engine, self.name, self.domain, ADDRESS, "user", EXPIRY_S * 100, retryCount=0)


class User:
    """One user with its passwords, the engine that knows it, and the agents that the engine knows."""

    def __init__(self, settings: Settings) -> None:
        self.engine = SnmpEngine()
        self.dispatcher = Dispatcher()
        self.engine.register_transport_dispatcher(self.dispatcher)
        self._agents: dict[Place, Agent] = {}
        self._numbers = count()
        level = "noAuthNoPriv"
        keys: list[Any] = [config.USM_AUTH_NONE, None, config.USM_PRIV_NONE, None]
        if settings.auth_password is not None:
            level = "authNoPriv"
            keys[:2] = AUTH[settings.auth_protocol], reveal(settings.auth_password)
        if settings.privacy_password is not None:
            level = "authPriv"
            keys[2:] = PRIVACY[settings.privacy_protocol], reveal(settings.privacy_password)
            _load_cryptography()
        config.add_v3_user(self.engine, settings.username, *keys)
        config.add_target_parameters(self.engine, "user", settings.username, level)

    def agent(self, place: Place) -> Agent:
        """The agent at an address."""
        if place not in self._agents:
            self._agents[place] = Agent(self.engine, next(self._numbers))
        return self._agents[place]

    def forget(self, place: Place) -> None:
        """An agent that keeps silent may be another one by now (reinstalled): an engine never finds that out itself."""
        agent = self._agents.pop(place)
        config.delete_target_address(self.engine, agent.name)
        self.dispatcher.unregister_transport(agent.domain)


_users: dict[tuple[Any, ...], User] = {}


def user(settings: Settings) -> User:
    """The one for these settings. Raises `SecretUnreadable`."""
    auth, privacy = settings.auth_password, settings.privacy_password
    key = (
        settings.username,
        settings.auth_protocol,
        auth and reveal(auth),
        settings.privacy_protocol,
        privacy and reveal(privacy),
    )
    if key not in _users:
        _users[key] = User(settings)
    return _users[key]


def _load_cryptography() -> None:
    """Let pysnmp's ciphers find what they were imported without."""
    for module in (aes, des, des3):
        if module.PysnmpCryptoError:
            importlib.reload(module)


class UserTalk:
    """One question to an agent; the engine may have to ask for the agent's id and time first."""

    def __init__(self, settings: Settings, place: Place, oids: tuple[str, ...]) -> None:
        self._user = user(settings)
        self._place = place
        self._agent: Agent | None = None
        self._oids = oids
        self._answer: Answer | None = None

    def request(self, send: Callable[[bytes], object]) -> None:
        """A new request each time; the second begins anew with an agent that did not answer the first."""
        if self._agent is not None and self._agent.known and self._agent is self._user.agent(self._place):
            self._user.forget(self._place)
        self._agent = self._user.agent(self._place)
        self._user.dispatcher.send = send
        self._user.dispatcher.catch_up()
        asked = tuple((ObjectName(oid), Null("")) for oid in self._oids)
        GetCommandGenerator().send_varbinds(self._user.engine, self._agent.name, None, "", asked, self._done)

    def answer(self, data: bytes, send: Callable[[bytes], object]) -> Answer | None:
        """What the engine made of a message."""
        assert self._agent is not None
        self._user.dispatcher.send = send
        engine = self._user.engine
        engine.message_dispatcher.receive_message(engine, self._agent.domain, UdpTransportAddress(ADDRESS), data)
        return self._answer

    def _done(
        self, engine: Any, handle: Any, indication: Any, status: Any, index: Any, values: Any, context: Any
    ) -> None:
        """Called by the engine, also for a request that it gave up."""
        assert self._agent is not None
        if indication is None:
            self._agent.known = True
            self._answer = snmp_value.answer(status, index, values)
        elif not isinstance(indication, errind.RequestTimedOut):
            self._answer = Answer(refusal=str(indication))
