"""A real SMTP server on loopback, aiosmtpd's, that answers as it is told and keeps what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import ssl
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "watchdog", "password-that-nobody-may-see"


@dataclass
class MailServer:
    """`answers`, by command ("MAIL", an address for RCPT, "DATA"), are given instead of "250 OK"."""

    port: int = 0
    answers: dict[str, str] = field(default_factory=dict)
    mails: list[EmailMessage] = field(default_factory=list)
    readers: list[list[str]] = field(default_factory=list)  # of each mail
    connections: int = 0
    over_tls: list[bool] = field(default_factory=list)
    users: list[str] = field(default_factory=list)

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        """Whether it is the one user."""
        known = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        if known:
            self.users.append(USER)
        return AuthResult(success=known, handled=False)

    async def handle_MAIL(  # noqa: N802 (aiosmtpd's name)
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if answer := self.answers.get("MAIL"):
            return answer
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if answer := self.answers.get(address):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if answer := self.answers.get("DATA"):
            return answer
        assert isinstance(envelope.content, bytes)
        self.mails.append(email.message_from_bytes(envelope.content, EmailMessage, policy=email.policy.SMTP))
        self.readers.append(list(envelope.rcpt_tos))
        self.over_tls.append(session.ssl is not None)
        return "250 OK"


@contextlib.asynccontextmanager
async def mail_server(
    answers: dict[str, str] | None = None,
    *,
    starttls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    login: bool = False,
) -> AsyncIterator[MailServer]:
    """A server on a free port."""
    place = MailServer(answers=dict(answers or {}))

    served: list[SMTP] = []

    def open_() -> SMTP:
        place.connections += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TLS of the first byte is none to it
            connection = SMTP(
                place,
                hostname="mail.test",
                tls_context=starttls,
                require_starttls=starttls is not None,
                authenticator=place.authenticate if login else None,
                auth_required=login,
                auth_require_tls=tls is None,
                loop=asyncio.get_running_loop(),
            )
        served.append(connection)
        return connection

    server = await asyncio.get_running_loop().create_server(open_, "127.0.0.1", 0, ssl=tls)
    place.port = server.sockets[0].getsockname()[1]
    try:
        yield place
    finally:
        server.close()
        for connection in served:
            if connection.transport is not None:
                connection.transport.close()
        handlers = {one._handler_coroutine for one in served if one._handler_coroutine is not None}
        for handler in handlers:
            handler.cancel()  # it would wait for a handshake that has failed
        await all_ended(handlers)


async def all_ended(tasks: set[asyncio.Task[None]]) -> None:
    """Wait for the ends of connections, and for their sockets to close."""
    if tasks:
        await asyncio.wait(tasks, timeout=5.0)
    for _ in range(3):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def raw_server(*said: bytes) -> AsyncIterator[int]:
    """A port where each line that comes in is answered by the next of `said`; then the connection is closed.

    The first greets. Nothing at all is said for b"hang".
    """

    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError):
            for line in said:
                if line == b"hang":
                    await reader.read()
                    break
                writer.write(line)
                await writer.drain()
                await reader.readline()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await all_ended(tasks)
