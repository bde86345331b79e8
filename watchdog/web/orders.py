"""Orders over HTTP: POST below `/api/v1/`, over the control socket alone, whose mode says who may give them.

Who asks is what the kernel says of the peer (SO_PEERCRED, unix(7)). Where the unit has PrivateUsers=, the kernel names
root and the daemon's own user only; of another member of the socket's group it says that it is somebody. What a client
of root's or of somebody's claims beside (whom sudo ran it for, who it is) is noted as a claim.
"""

from __future__ import annotations

import asyncio
import functools
import json
import pwd
import re
import socket
import struct
from collections.abc import Awaitable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from watchdog.clock import rfc3339
from watchdog.settings import parse_duration

BODY_WITHIN = 5.0  # s
NAMED_WITHIN = 1.0  # s for the name of a user: where it is asked of a directory, that may hang
MAX_REASON = 200  # characters
USER = r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,31}"
UCRED = struct.Struct("iII")  # pid, uid, gid


class NotFound(Exception):
    """There is no such service or incident; the text says what there is."""


@dataclass(frozen=True, slots=True)
class Obeyed:
    """What came of an order, for one service. `until` is of the wall clock, `unsaved` tells why it may not be kept."""

    service: str
    changed: bool
    text: str
    until: float | None = None
    unsaved: str = ""

    def but(self, unsaved: str) -> Obeyed:
        """The same, with what is amiss with keeping it."""
        return replace(self, unsaved=unsaved)


class Operator(Protocol):
    """Who takes the orders: the daemon."""

    async def pause(
        self, services: Sequence[str] | None, by: str, reason: str, seconds: float | None
    ) -> Sequence[Obeyed]:
        """Stop every remedy of these services, or of all (None). Raises `NotFound`."""

    async def resume(self, services: Sequence[str] | None, by: str) -> Sequence[Obeyed]:
        """Let them be healed again. Raises `NotFound`."""

    async def acknowledge(self, incident: str, by: str) -> Obeyed:
        """Let no reminder of this incident come. Raises `NotFound`."""


OPERATOR: web.AppKey[Operator] = web.AppKey("operator")


def add_to(app: web.Application, operator: Operator | None) -> None:
    """Let the orders of this application's clients be taken by `operator`, or be refused: None."""
    if operator is not None:
        app[OPERATOR] = operator
    for path, handler in PATHS.items():
        app.router.add_post(path, handler if operator is not None else _refuse)


async def _refuse(_request: web.Request) -> web.Response:
    raise web.HTTPForbidden(text="orders are taken over the control socket alone ([http].control)")


async def _pause(request: web.Request) -> web.Response:
    said = await _said(request, {"services", "reason", "for", "asked_by"})
    reason = _words(said, "reason", MAX_REASON)
    seconds = _seconds(said.get("for"))
    by = await _by(request, said)
    return await _answer(request.app[OPERATOR].pause(_services(said), by, reason, seconds), by)


async def _resume(request: web.Request) -> web.Response:
    said = await _said(request, {"services", "asked_by"})
    by = await _by(request, said)
    return await _answer(request.app[OPERATOR].resume(_services(said), by), by)


async def _acknowledge(request: web.Request) -> web.Response:
    said = await _said(request, {"asked_by"})
    by = await _by(request, said)

    async def one() -> list[Obeyed]:
        return [await request.app[OPERATOR].acknowledge(request.match_info["id"], by)]

    return await _answer(one(), by)


PATHS = {
    "/api/v1/pause": _pause,
    "/api/v1/resume": _resume,
    "/api/v1/incidents/{id}/ack": _acknowledge,
}


async def _answer(obeying: Awaitable[Sequence[Obeyed]], by: str) -> web.Response:
    try:
        obeyed = await obeying
    except NotFound as error:
        raise web.HTTPNotFound(text=str(error)) from None
    told = [asdict(each) | {"until": None if each.until is None else rfc3339(each.until)} for each in obeyed]
    return web.json_response({"by": by, "services": told})


# --- what is said -----------------------------------------------------------------------------------------------------


async def _said(request: web.Request, known: set[str]) -> dict[str, Any]:
    """The body. A browser that is lured here can send no JSON of its own accord: so it must say that it is."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="an order is JSON: say so with Content-Type: application/json")
    try:
        async with asyncio.timeout(BODY_WITHIN):
            said = json.loads(await request.read())  # 1 MiB at most: aiohttp's client_max_size
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the order did not come to its end") from None
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest(text="an order is a JSON object; this is no JSON") from None
    if not isinstance(said, dict):
        raise web.HTTPBadRequest(text="an order is a JSON object")
    if unknown := sorted(said.keys() - known):
        raise web.HTTPBadRequest(text=f"{unknown[0]!r}: no such key; there are: {', '.join(sorted(known))}")
    return said


def _services(said: dict[str, Any]) -> list[str] | None:
    """Named ones; None for all, which must be said: `{"services": null}`."""
    services = said.get("services", ())
    if services is None:
        return None
    if not isinstance(services, list) or not services or not all(isinstance(name, str) for name in services):
        raise web.HTTPBadRequest(text="services: give a list of names, or null for all")
    return services


def _seconds(text: Any) -> float | None:
    try:
        seconds = None if text is None else parse_duration(str(text))
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"for: {error}") from None
    if seconds == 0:
        raise web.HTTPBadRequest(text='for: 0s is too short; give a duration such as "1h"')
    return seconds


def _words(said: dict[str, Any], key: str, most: int) -> str:
    text = said.get(key, "")
    if not isinstance(text, str) or len(text) > most or not (text.isprintable() or not text):
        raise web.HTTPBadRequest(text=f"{key}: give one line of at most {most} characters")
    return text


# --- who says it ------------------------------------------------------------------------------------------------------


async def _by(request: web.Request, said: dict[str, Any]) -> str:
    """The peer's user, by name where that can be known soon, and whom it claims to be or to ask for."""
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    if sock is None:  # it has hung up
        raise web.HTTPBadRequest(text="nobody is there any more")
    _, uid, _ = UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    claimed = said.get("asked_by")
    if not isinstance(claimed, str) or not re.fullmatch(USER, claimed):
        claimed = ""
    if uid == _overflow():
        return (
            f"somebody of the socket's group ({claimed}, as it says)" if claimed else "somebody of the socket's group"
        )
    name = await _name(uid)
    return f"{name} (for {claimed}, as it says)" if uid == 0 and claimed not in ("", name) else name


@functools.cache
def _overflow() -> int:
    """Whom the kernel names where a user is none of this user namespace (user_namespaces(7))."""
    return int(Path("/proc/sys/kernel/overflowuid").read_text())


async def _name(uid: int) -> str:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(NAMED_WITHIN):
            return (await loop.run_in_executor(None, pwd.getpwuid, uid)).pw_name
    except (KeyError, TimeoutError):
        return f"uid {uid}"
