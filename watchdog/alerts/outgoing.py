"""A POST to a URL that is a secret: what the webhook and the dead-man ping have in common.

Rules of this file: the URL is a credential, and shows up in no error, log, metric or repr; so no error quotes what a
library or the receiver wrote (both repeat URLs). A redirect is not followed: it would carry the message, and its
signature, to somebody whom nobody named. At most `ANSWER` bytes of an answer's body are read.

Importing this imports no HTTP client; sending does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from watchdog import __version__
from watchdog.alerts.aside import Aside
from watchdog.secret import SecretUnreadable, reveal
from watchdog.settings import Secret, format_duration

if TYPE_CHECKING:
    import aiohttp

ANSWER = 16384  # bytes
PROXY = "http://proxy.example.org:3128"
ANSWER_WITHIN = 1.0  # s for the body, once the status has come

Stamp = tuple[int, int, int]  # of a file: inode, size in bytes, changed at, in ns


class Unusable(ValueError):
    """A setting can't be used. The text says which and why, and never its value."""


class Undelivered(Exception):
    """Nobody took it, and another attempt may go better. The text is one line without a secret."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    retry_after: str
    body: bytes


def check_url(url: str, example: str, key: str = "url") -> None:
    """Raises `Unusable`, which names the key and never the value."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise Unusable(f'{key}: must be like "{example}" (the value is not shown, it is a secret)')


def value_of(text: str | Secret) -> str:
    """The text, or what the secret holds. Raises `SecretUnreadable`."""
    return text if isinstance(text, str) else reveal(text)


class Sender:
    """Posts with one HTTP session, which is made at the first `post` and lives until `close`."""

    def __init__(self, timeout: float, ca_file: str | None, proxy: str | Secret | None = None) -> None:
        self._timeout = timeout  # s, from the look-up of the name to the status line
        self._ca_file = ca_file
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None
        self._aside = Aside("channel")
        self._trusted: tuple[Stamp, ssl.SSLContext] | None = None  # of the ca_file as it was then

    async def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        """One attempt. Raises `Undelivered` where no answer came."""
        import aiohttp

        try:
            proxy = None if self._proxy is None else value_of(self._proxy)
            if proxy is not None:
                check_url(proxy, PROXY, "proxy")
        except (SecretUnreadable, Unusable) as error:
            raise Undelivered(str(error)) from None
        try:
            return await self._post(url, content, headers, proxy)
        except TimeoutError:
            raise Undelivered(f"no answer within {format_duration(self._timeout)}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Undelivered(_words(error)) from None

    async def close(self) -> None:
        """Close the session."""
        self._aside.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, url: str, content: bytes, headers: Mapping[str, str], proxy: str | None) -> Answer:
        async with asyncio.timeout(self._timeout):
            tls = True if self._ca_file is None else await self._trust(self._ca_file)
            response = await self._open().post(
                url, data=content, headers=headers, allow_redirects=False, proxy=proxy, ssl=tls
            )
        try:
            body = b""
            with contextlib.suppress(Exception):  # the status has come, and says what counts
                async with asyncio.timeout(ANSWER_WITHIN):
                    body = await response.content.read(ANSWER)
            return Answer(response.status, response.headers.get("Retry-After", ""), body)
        finally:
            response.close()

    async def _trust(self, ca_file: str) -> ssl.SSLContext:
        """Who is trusted, by the file as it is now. Raises `Undelivered`."""
        try:
            stamp = await self._aside.run(_stamp, ca_file)
            if self._trusted is None or self._trusted[0] != stamp:
                self._trusted = stamp, await self._aside.run(ssl.create_default_context, cafile=ca_file)
        except ssl.SSLError:
            raise Undelivered("the ca_file holds no certificate") from None
        except OSError as error:
            raise Undelivered(f"the ca_file cannot be read: {error.strerror}") from None
        return self._trusted[1]

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        from watchdog.alerts.resolver import Resolver

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    force_close=True,  # messages are rare: a kept connection would only go stale
                    resolver=Resolver(self._aside),
                ),
                headers={"User-Agent": f"epoll-watchdog/{__version__}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        return self._session


def _stamp(file: str) -> Stamp:
    found = os.stat(file)  # noqa: PTH116
    return found.st_ino, found.st_size, found.st_mtime_ns


def _words(error: Exception) -> str:
    """What went wrong in our own words: a library's may quote the URL."""
    import aiohttp

    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or "wrong name"
            return f"its certificate is not trusted: {reason}"
        case aiohttp.ClientConnectorDNSError():
            return "the name of its host could not be resolved"
        case aiohttp.ClientSSLError():
            return "the TLS handshake failed"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without an answer"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answered {error.status}"
        case aiohttp.ClientProxyConnectionError():
            return f"connection to the proxy failed: {os.strerror(error.errno) if error.errno else 'unreachable'}"
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return "its answer is no HTTP"
        case OSError():
            return f"connection failed: {os.strerror(error.errno) if error.errno else 'unreachable'}"
        case _:
            return f"the request could not be made ({type(error).__name__})"
