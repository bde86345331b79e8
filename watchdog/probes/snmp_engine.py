"""SNMP version 3: users, by pysnmp's engine. RFC 3411 (architecture), RFC 3412 (messages), RFC 3414 (users).

Rules of this file: an engine lives as long as the daemon (it remembers each agent's engine id, boots and time, so that
a request needs no discovery), one for each distinct user with its passwords, for pysnmp knows one password to a name;
services with the same user share it. An engine does no I/O and has no timer of its own here: `Dispatcher` gives each
message to the probe that is being served, and ticks only then.

`cryptography` (10 MiB) is kept out until a user with privacy is asked for: pysnmp imports it wherever it is installed,
and goes on without it.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from watchdog.probes import snmp_value
from watchdog.probes.snmp import Answer, Settings
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
TICK_S = 1.0  # at the least, between two ticks
EXPIRY_S = 60.0  # after which, at the least, an engine forgets a request without an answer: longer than any deadline


class Transport(AbstractTransport):  # type: ignore[misc]
    """What an engine must find at a transport domain: the kind of its addresses."""

    ADDRESS_TYPE = UdpTransportAddress


class Dispatcher(AbstractTransportDispatcher):  # type: ignore[misc]
    """Where an engine's messages go: to whoever is being served right now."""

    def __init__(self) -> None:
        super().__init__()
        self.set_timer_resolution(TICK_S)
        self.send: Callable[[bytes], object] = lambda _: None

    def send_message(self, message: bytes, domain: tuple[int, ...], address: Any) -> None:
        """Called by the engine."""
        self.send(message)


class User:
    """One user with its passwords, and the engine that knows it."""

    def __init__(self, settings: Settings) -> None:
        self.engine = SnmpEngine()
        self.dispatcher = Dispatcher()
        self.engine.register_transport_dispatcher(self.dispatcher)
        self._targets: dict[Place, tuple[str, tuple[int, ...]]] = {}
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

    def target(self, place: Place) -> tuple[str, tuple[int, ...]]:
        """The name that the engine knows an agent by, and its transport domain."""
        if place not in self._targets:
            _, address = place
            name = f"agent{len(self._targets)}"
            # The domain is only a name here, one for each agent; the address is never used to send.
            domain = (*config.SNMP_UDP_DOMAIN, len(self._targets))
            self.dispatcher.register_transport(domain, Transport())
            config.add_target_address(
                self.engine, name, domain, ("127.0.0.1", address[1]), "user", EXPIRY_S * 100, retryCount=0
            )
            self._targets[place] = name, domain
        return self._targets[place]


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

    def __init__(self, settings: Settings, place: Place, oid: str) -> None:
        self._user = user(settings)
        self._target, self._domain = self._user.target(place)
        self._address = UdpTransportAddress(("127.0.0.1", place[1][1]))
        self._oid = oid
        self._answer: Answer | None = None

    def request(self, send: Callable[[bytes], object]) -> None:
        """A new request each time: an engine that heard nothing knows no other way."""
        self._user.dispatcher.send = send
        self._user.dispatcher.handle_timer_tick(time.time())
        GetCommandGenerator().send_varbinds(
            self._user.engine, self._target, None, "", ((ObjectName(self._oid), Null("")),), self._done
        )

    def answer(self, data: bytes, send: Callable[[bytes], object]) -> Answer | None:
        """What the engine made of a message."""
        self._user.dispatcher.send = send
        engine = self._user.engine
        engine.message_dispatcher.receive_message(engine, self._domain, self._address, data)
        return self._answer

    def _done(
        self, engine: Any, handle: Any, indication: Any, status: Any, index: Any, values: Any, context: Any
    ) -> None:
        """Called by the engine, also for a request that it gave up."""
        if indication is None:
            self._answer = snmp_value.answer(status, values)
        elif not isinstance(indication, errind.RequestTimedOut):
            self._answer = Answer(refusal=str(indication))
