"""The channel `email`: a mail to a server by SMTP (RFC 5321), over TLS unless told otherwise.

Rules of this file. The password is a credential: no error quotes what the server or a library wrote; of an answer its
codes are told (RFC 3463). A mail is delivered once the server has taken it, whatever becomes of the farewell. All mails
of an incident answer one that was never sent, so that a reader sees them as one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING

from watchdog.alerts.aside import Aside, connected
from watchdog.alerts.delivery import Delivered, Failed
from watchdog.alerts.message import Message
from watchdog.alerts.outgoing import Unusable
from watchdog.alerts.routing import Routing
from watchdog.alerts.template import Wording
from watchdog.model import Severity
from watchdog.secret import SecretUnreadable, reveal
from watchdog.settings import Seconds, Secret, format_duration

if TYPE_CHECKING:
    from email.message import EmailMessage

    import aiosmtplib

    from watchdog.store import Letter

log = logging.getLogger(__name__)

ADDRESS = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}"
FAREWELL = 1.0  # s
REMEMBERED = 1000  # messages


class Tls(enum.StrEnum):
    """How the connection is made safe."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


PORTS = {Tls.STARTTLS: 587, Tls.TLS: 465, Tls.NONE: 25}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Routing):
    """A `[channel.NAME]` table with `type = "email"`."""

    host: str
    port: int | None = None
    tls: Tls = Tls.STARTTLS
    username: str | None = None
    password: Secret | None = None
    sender: str
    recipients: tuple[str, ...]
    ca_file: str | None = None
    timeout: Seconds = 30.0
    min_severity: Severity = Severity.CRITICAL
    title: str | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        Routing.__post_init__(self)
        if not re.fullmatch(r"[A-Za-z0-9.:_-]{1,253}", self.host):
            raise Unusable('host: is no name and no address; write one such as "mail.example.org"')
        if self.port is not None and not 0 < self.port < 65536:
            raise Unusable(f"port: {self.port} is no port; give 1 to 65535")
        _check_address("sender", self.sender)
        if not self.recipients:
            raise Unusable("recipients: is empty; give one or more addresses")
        for recipient in self.recipients:
            _check_address("recipients", recipient)
        if (self.username is None) != (self.password is None):
            raise Unusable("username: goes with a password, and a password with it; give both or none")
        if self.password is not None and self.tls is Tls.NONE:
            raise Unusable('tls: "none" would send the password in the clear; write "starttls" or "tls"')
        Wording(self.title, self.body).check()


def _check_address(key: str, address: str) -> None:
    if not re.fullmatch(ADDRESS, address):
        told = "a URL" if "//" in address else repr(address)
        raise Unusable(f'{key}: {told} is no address; write one such as "ops@example.org"')


class Email:
    """One mail server, and those who read."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wording = Wording(settings.title, settings.body)
        self._host = socket.gethostname()
        self._aside = Aside("email")
        self._reached: dict[str, set[str]] = {}  # of messages that not all recipients have yet: who has it

    async def send(self, letter: Letter) -> Delivered | Failed:
        """One attempt. What the server refuses with 4xx is worth another one, with 5xx not; nor what it can't do."""
        settings = self._settings
        said = await self._wording.of(letter, self._host)
        missing = [each for each in settings.recipients if each not in self._reached.get(letter.message_id, ())]
        try:
            refused = await self._transmit(mail(letter, said, settings).as_bytes(), missing)
        except TimeoutError:
            return Failed(retry=True, error=f"no answer within {format_duration(settings.timeout)}")
        except SecretUnreadable as error:
            return Failed(retry=True, error=str(error))
        except Exception as error:  # the libraries have many, whose texts may quote anything
            return _failed(error)
        return self._partly(letter, missing, refused)

    async def close(self) -> None:
        """Ask for no more names."""
        self._aside.close()

    async def _transmit(self, content: bytes, recipients: list[str]) -> Mapping[str, aiosmtplib.SMTPResponse]:
        """Those who were refused, where somebody was not. Raises what `_failed` has words for."""
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(self._settings.timeout):
                client = await self._open(stack)
                refused = await self._handed_over(client, recipients, content)
            # It has the mail: no deadline of the attempt is to make that a failure.
            with contextlib.suppress(Exception):
                await client.quit(timeout=FAREWELL)
            return refused

    async def _open(self, stack: contextlib.AsyncExitStack) -> aiosmtplib.SMTP:
        """A connection that is safe and logged in, until the stack ends."""
        import aiosmtplib

        settings = self._settings
        context = None
        if settings.tls is not Tls.NONE:
            context = await self._aside.run(ssl.create_default_context, cafile=settings.ca_file)
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            sock=await connected(self._aside, settings.host, settings.port or PORTS[settings.tls]),
            timeout=settings.timeout,
            use_tls=settings.tls is Tls.TLS,
            start_tls=False,  # asked for below, so that an error says where it was
            tls_context=context,
            local_hostname=self._host,
        )
        stack.callback(client.close)
        await client.connect()
        if settings.tls is Tls.STARTTLS:
            await _starttls(client)
        if settings.username is not None and settings.password is not None:
            await _login(client, settings.username, reveal(settings.password))
        return client

    async def _handed_over(
        self, client: aiosmtplib.SMTP, recipients: list[str], content: bytes
    ) -> Mapping[str, aiosmtplib.SMTPResponse]:
        """Who was refused. Raises where nobody has the mail, from now or from before."""
        import aiosmtplib

        try:
            return (await client.sendmail(self._settings.sender, recipients, content))[0]
        except aiosmtplib.SMTPRecipientsRefused as error:
            if len(recipients) == len(self._settings.recipients):
                raise
            return {each.recipient: aiosmtplib.SMTPResponse(each.code, each.message) for each in error.recipients}

    def _partly(
        self, letter: Letter, asked: list[str], refused: Mapping[str, aiosmtplib.SMTPResponse]
    ) -> Delivered | Failed:
        """Who has it gets it once; who was put off gets it later; an address that is refused costs others nothing."""
        from watchdog.store import PARTLY

        later = [each for each, answer in refused.items() if answer.code < 500]
        codes = ", ".join(sorted({_codes(answer.code, answer.message) for answer in refused.values()}))
        error = f"it refused {len(refused)} of {len(self._settings.recipients)} recipients: {codes}"
        if later:  # greylisting takes minutes or hours; the courier says loudly when it gives up
            self._reached.setdefault(letter.message_id, set()).update(each for each in asked if each not in later)
            if len(self._reached) > REMEMBERED:  # a message that was merged into another does not come back
                self._reached.pop(next(iter(self._reached)))
            return Failed(retry=True, error=PARTLY + error)
        if refused:
            log.error("channel %s: %s; the others have the mail", letter.channel, error)
        self._reached.pop(letter.message_id, None)
        return Delivered()


# --- the mail ---------------------------------------------------------------------------------------------------------


def mail(letter: Letter, said: Message, settings: Settings) -> EmailMessage:
    """The whole of it, in ASCII on the wire: not every server takes more."""
    from email.message import EmailMessage
    from email.policy import SMTP

    domain = settings.sender.rpartition("@")[2]
    thread = f"<{_token(letter.incident or letter.service)}@{domain}>"
    made = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
    made["From"] = settings.sender
    made["To"] = ", ".join(settings.recipients)
    made["Subject"] = said.title
    made["Date"] = format_datetime(datetime.fromtimestamp(letter.created, UTC))
    made["Message-ID"] = f"<{_token(letter.message_id)}@{domain}>"
    made["In-Reply-To"] = thread
    made["References"] = thread
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no "I'm on holiday" comes back
    made.set_content(said.text)
    return made


def _token(text: str) -> str:
    """The text as the left part of a Message-ID (RFC 5322, 3.6.4)."""
    return re.sub(r"[^A-Za-z0-9_-]+", ".", text).strip(".") or "none"


# --- what went wrong --------------------------------------------------------------------------------------------------


class _Unable(Exception):
    """The server lacks what is asked for. The text says what."""


async def _starttls(client: aiosmtplib.SMTP) -> None:
    await client.ehlo()
    if not client.supports_extension("starttls"):
        raise _Unable('it offers no STARTTLS; with tls = "tls" the connection begins with TLS, mostly at port 465')
    await client.starttls()


async def _login(client: aiosmtplib.SMTP, username: str, password: str) -> None:
    await client.ehlo()
    if not client.supports_extension("auth"):
        raise _Unable("it offers no login")
    await client.login(username, password)


def _failed(error: BaseException) -> Failed:
    """In our own words."""
    import aiosmtplib

    match error:
        case _Unable():
            return Failed(retry=False, error=str(error))
        case aiosmtplib.SMTPRecipientsRefused():
            codes = {_codes(each.code, each.message) for each in error.recipients}
            retry = any(each.code < 500 for each in error.recipients)
            return Failed(retry=retry, error=f"it refused all recipients: {', '.join(sorted(codes))}")
        case aiosmtplib.SMTPResponseException():
            did = {
                aiosmtplib.SMTPAuthenticationError: "refused the login:",
                aiosmtplib.SMTPSenderRefused: "refused the sender:",
                aiosmtplib.SMTPDataError: "refused the mail:",
            }.get(type(error), "answered")
            return Failed(retry=error.code < 500, error=f"it {did} {_codes(error.code, error.message)}")
        case _:
            return Failed(retry=True, error=_cause(error))


def _cause(error: BaseException | None) -> str:
    """Of a connection that failed: the cause that says most, which the library wraps."""
    import aiosmtplib

    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    for each in chain:
        match each:
            case ssl.SSLCertVerificationError():
                return f"its certificate is not trusted: {each.verify_message or 'wrong name'}"
            case ssl.SSLError():
                return "the TLS handshake failed"
            case socket.gaierror():
                return "the name of its host could not be resolved"
            case FileNotFoundError() | PermissionError() | IsADirectoryError():
                return f"the ca_file cannot be read: {each.strerror}"
            case OSError() if each.errno:
                return f"connection failed: {os.strerror(each.errno)}"
    if any(isinstance(each, aiosmtplib.SMTPServerDisconnected) for each in chain):
        return "it closed the connection without an answer"
    if any(isinstance(each, OSError) for each in chain):
        return "connection failed"
    return f"the mail could not be sent ({type(chain[0]).__name__})"


def _codes(code: int, text: str) -> str:
    """The reply's code, and the enhanced one that its text may begin with: "550 5.1.1"."""
    enhanced = re.match(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])", text)
    return f"{code} {enhanced[0]}" if enhanced else str(code)
