"""The keys of an `snmp` probe, what is refused of them, and what its two ways of talking have in common."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from watchdog.model import Strength
from watchdog.probes import sockets
from watchdog.settings import Secret

AuthProtocol = Literal["MD5", "SHA", "SHA224", "SHA256", "SHA384", "SHA512"]
PrivacyProtocol = Literal["DES", "AES", "AES192", "AES256", "AES192C", "AES256C"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to ask which agent, and which values are expected (none given: any value).

    At `pid_oid` the agent tells which process it speaks of, or is: another one than the service's makes it stale.
    Version 3 needs `username`; its security level follows from the passwords given. The names of the protocols are
    blackbox's and snmp_exporter's; AES192C and AES256C are Cisco's way to make the longer keys.
    """

    address: str
    oid: str
    pid_oid: str | None = None
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
        if self.pid_oid is not None and not re.fullmatch(r"\.?[0-2](\.[0-9]+)+", self.pid_oid):
            raise ValueError(f'pid_oid: "{self.pid_oid}" is no numeric OID; write digits and dots')
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
    """What an agent said: a value, or the name of an error or exception (RFC 3416, 3), or why it would not talk.

    The same of the PID, where it was asked for. Version 1 tells one error for the whole request.
    """

    value: int | str | None = None
    error: str = ""
    pid: int | str | None = None
    pid_error: str = ""
    refusal: str = ""  # of version 3; by the agent or by our own engine


class Talk(Protocol):
    """How requests are made and answers read, without any I/O: `send` takes each message."""

    def request(self, send: Callable[[bytes], object]) -> None:
        """Send the request, or send it again."""

    def answer(self, data: bytes, send: Callable[[bytes], object]) -> Answer | None:
        """What a message says; None for one that is no answer, or that leads to another request first."""
