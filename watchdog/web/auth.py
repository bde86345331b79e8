"""Who is answered: basic authentication with bcrypt hashes, clients' certificates, a limit on the rate of requests.

Rules of this file. bcrypt is slow on purpose: it runs in a thread, one hash at a time, and what came of it is kept
under a keyed hash of the password, so the loop never waits and a scrape costs one hash in the daemon's life. An unknown
user takes as long as a known one. Of what waits for its turn there is a bound; beyond it the answer is 503 at once.
No name and no password reaches a log.

Facts: RFC 7617 (basic authentication), RFC 9110, 11 (401, WWW-Authenticate); bcrypt counts 72 bytes of a password, as
htpasswd and Go do.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import ssl
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from watchdog.config.web import Rate, Web

COUNTED = 72  # bytes of a password
KEPT = 256  # answers, of each kind
WAITING = 16  # hashes that may be waited for at once
CHALLENGE = {"WWW-Authenticate": 'Basic realm="epoll-watchdog", charset="UTF-8"'}


@dataclass(slots=True)
class Known:
    """What was found out lately, by keyed hash; the one asked for longest ago goes first."""

    entries: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def __contains__(self, key: bytes) -> bool:
        if key not in self.entries:
            return False
        self.entries.move_to_end(key)
        return True

    def add(self, key: bytes) -> None:
        """Keep it."""
        self.entries[key] = None
        if len(self.entries) > KEPT:
            self.entries.popitem(last=False)


class Passwords:
    """Checks names and passwords against `users`, whose values are bcrypt hashes."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = users
        self._key = os.urandom(32)
        self._right, self._wrong = Known(), Known()  # apart: no crowd of wrong ones drives out the right one
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def right(self, name: str, password: bytes) -> bool:
        """Whether it is that user's. Raises `HTTPServiceUnavailable` where too many wait for an answer."""
        known = self._users.get(name)
        hashed = known if known is not None else self._instead(name)
        key = self._hashed(name.encode(), hashed.encode(), password)
        if key in self._right or key in self._wrong:
            return key in self._right
        if self._waiting >= WAITING:
            raise web.HTTPServiceUnavailable(
                text="too many wait for their password's check", headers={"Retry-After": "1"}
            )
        self._waiting += 1
        try:
            async with self._turn:
                if key in self._right or key in self._wrong:  # another connection asked the same meanwhile
                    return key in self._right
                matches = await asyncio.to_thread(_matches, password, hashed)
                is_right = matches and known is not None
                (self._right if is_right else self._wrong).add(key)
                return is_right
        finally:
            self._waiting -= 1

    def _instead(self, name: str) -> str:
        """For a name that nobody has, somebody's hash, always the same one: so it takes as long as a known user."""
        hashes = list(self._users.values())
        return hashes[int.from_bytes(self._hashed(name.encode())[:8]) % len(hashes)]

    def _hashed(self, *parts: bytes) -> bytes:
        words = b"".join(len(part).to_bytes(8) + part for part in parts)
        return hmac.digest(self._key, words, hashlib.sha256)


def _matches(password: bytes, hashed: str) -> bool:
    import bcrypt

    try:
        return bcrypt.checkpw(password[:COUNTED], hashed.encode())
    except ValueError:  # a NUL within, or a hash of a kind that this bcrypt doesn't know
        return False


@dataclass(slots=True)
class Bucket:
    """A token bucket: each request takes one."""

    rate: Rate
    left: float
    filled: float

    def take(self, now: float) -> bool:
        """Whether there was one."""
        self.left = min(float(self.rate.burst), self.left + (now - self.filled) / self.rate.interval)
        self.filled = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Gate:
    """Lets requests in by what the web configuration says. `private`: of a socket whose mode says who may come."""

    def __init__(self, settings: Web, private: bool = False) -> None:
        self.private = private
        self.asks = not private and (settings.tls is not None or bool(settings.users))  # for a secret or a certificate
        self.headers: Mapping[str, str] = settings.headers
        self._sans = settings.tls.client_allowed_sans if settings.tls is not None else None
        self._passwords = Passwords(settings.users) if settings.users else None
        rate = settings.rate
        self._bucket = Bucket(rate, rate.burst, time.monotonic()) if rate is not None else None

    async def admit(self, request: web.Request) -> bool:
        """Whether it is known who asks. Raises the answer to whom is not let in."""
        if self.private:
            return True
        if self._bucket is not None and not self._bucket.take(time.monotonic()):
            raise web.HTTPTooManyRequests(text="more requests than rate_limit allows")
        certificate = _certificate(request)
        if self._sans is not None and not names(certificate) & set(self._sans):
            raise web.HTTPForbidden(text="the client's certificate has none of the names in client_allowed_sans")
        if self._passwords is None:
            return bool(certificate)
        given = credentials(request.headers.get("Authorization", ""))
        if given is None or not await self._passwords.right(*given):
            raise web.HTTPUnauthorized(text="a user and a password are needed", headers=CHALLENGE)
        return True


def credentials(header: str) -> tuple[str, bytes] | None:
    """The user and the password of a header `Authorization: Basic …`; None where it has none."""
    scheme, _, coded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(coded.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


def _certificate(request: web.Request) -> Mapping[str, Any]:
    """What a verified certificate of the client says; empty where there is none."""
    tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    if not isinstance(tls, ssl.SSLObject):
        return {}
    return tls.getpeercert() or {}  # without a context that verifies, it is empty


def names(certificate: Mapping[str, Any]) -> set[str]:
    """Its subject's alternative names: DNS, addresses, e-mail, URI."""
    return {str(name) for _, name in certificate.get("subjectAltName", ())}
