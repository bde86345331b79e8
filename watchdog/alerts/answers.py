"""What an HTTP answer's status means for a message: delivered, refused, or worth another attempt."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from watchdog.alerts.delivery import Delivered, Failed
from watchdog.alerts.outgoing import Answer, Undelivered, Unusable
from watchdog.secret import SecretUnreadable

RETRIED = frozenset({408, 425, 429})  # of the 4xx: too slow, too early, too many


async def attempt(post: Awaitable[Answer]) -> Delivered | Failed:
    """What came of a request, also where there was no answer to it."""
    try:
        answer = await post
    except (Undelivered, SecretUnreadable, Unusable) as error:
        return Failed(retry=True, error=str(error))
    except (OSError, ValueError) as error:  # whose text may quote what it was about
        return Failed(retry=True, error=f"the request could not be made ({type(error).__name__})")
    return result(answer)


def result(answer: Answer) -> Delivered | Failed:
    """2xx delivers; 5xx and `RETRIED` are worth another attempt."""
    status = answer.status
    if 200 <= status < 300:
        return Delivered()
    if 300 <= status < 400:
        return Failed(retry=False, error=f"answered {status}, a redirect: configure the URL that it leads to")
    retry = status >= 500 or status in RETRIED
    return Failed(retry=retry, error=f"answered {status}", after=seconds(answer.retry_after))


def seconds(retry_after: str) -> float | None:
    """Of a Retry-After header: seconds or a date (RFC 9110, 10.2.3)."""
    if re.fullmatch(r"[0-9]{1,9}", retry_after):
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):  # no date, or one of a year without end
        return None
    if at.tzinfo is None:  # RFC 5322 writes "-0000" for it
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
