"""The status page: `/`, `/services/NAME`, `/incidents`, `/incidents/ID` and its evidence.

Rules of this file. It is read-only, and works without JavaScript. Whatever is put out is escaped, and what is no
printable character spelled out (`words.shown`). A page is rendered in pieces, so that no probe waits for all of it; one
page at a time, and what was just rendered is given to whoever asks for the same, so many readers cost what one costs.
Of the pages that wait for their turn there is a bound; beyond it the answer is 503 at once. Evidence goes only to whom
is known, and has a turn of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from watchdog.web import assets, events, evidence
from watchdog.web.cards import ALL, ROWS, Card, card, parted, row
from watchdog.web.keys import KNOWN, VIEW
from watchdog.web.paced import joined
from watchdog.web.stories import chapter, line
from watchdog.web.view import ServiceView, Unavailable, View
from watchdog.web.words import SYMBOLS, Tone, local, many, printable, tone_of

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
FRESH = 1.0  # s for which a rendered page is given out again, where nothing happened meanwhile
KEPT = 4  # rendered pages: a megabyte or two
WAITING = 8  # different pages that may be waited for at once; who asks for one of them anew takes no place
FEW, PAGE = 20, 50  # incidents on the first page, and on each of the list
MOST_OPEN = 50
MOST_PAGES = 100_000
MOST_NAMED = 3
UNSEEN = (Tone.WAIT, "not looked at yet")
SEEN = {Tone.BAD: (Tone.BAD, "not healthy"), Tone.WAIT: (Tone.WAIT, "not settled"), Tone.REST: (Tone.REST, "stopped")}
NOT_HEALTHY = (SEEN[Tone.BAD], SEEN[Tone.WAIT], UNSEEN, SEEN[Tone.REST])  # the worst first
FOR_OTHERS = 1.0  # times as long as rendering takes is the probes'

Values = Mapping[str, Any]
Page = Callable[[web.Request], Awaitable[tuple[str, Values]]]
Key = tuple[str, bool]  # the page's address, and whether it is known who asks


@dataclass(slots=True)
class Rendered:
    """What was rendered lately, and who waits for what."""

    pages: dict[Key, tuple[int, float, bytearray]] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: Counter[Key] = field(default_factory=Counter)

    def fresh(self, key: Key, asked: int) -> bytearray | None:
        """What may be given out to whom asked at that count of the bell: it tells all that had happened by then, and is
        not old.
        """
        then, at, content = self.pages.get(key, (-1, 0.0, None))
        return content if then >= asked and time.monotonic() - at < FRESH else None

    def keep(self, key: Key, rung: int, content: bytearray) -> None:
        """For whoever asks next. What is old is of no use to anybody."""
        now = time.monotonic()
        found = [item for item in self.pages.items() if now - item[1][1] < FRESH and item[0] != key]
        self.pages = {**dict(found[-KEPT + 1 :]), key: (rung, now, content)}

    @contextlib.asynccontextmanager
    async def in_turn(self, key: Key) -> AsyncIterator[None]:
        """Alone. Raises `HTTPServiceUnavailable` where too many wait."""
        if key not in self.waiting and len(self.waiting) >= WAITING:
            raise web.HTTPServiceUnavailable(text="too many pages are waited for", headers={"Retry-After": "1"})
        self.waiting[key] += 1
        try:
            async with self.turn:
                yield
        finally:
            self.waiting[key] -= 1
            self.waiting = +self.waiting  # without those that nobody waits for


RENDERED: web.AppKey[Rendered] = web.AppKey("rendered")
HERE: web.RequestKey[str] = web.RequestKey("here")
EVIDENCE: web.AppKey[Rendered] = web.AppKey("evidence")  # apart: it may be megabytes, and the other pages don't wait


def add_to(app: web.Application) -> None:
    """Let the application show the pages."""
    app[RENDERED], app[EVIDENCE] = Rendered(), Rendered()
    app.router.add_get("/", _page(_overview))
    app.router.add_get("/services/{name}", _page(_service))
    app.router.add_get("/incidents", _page(_incidents, "service", "page"))
    app.router.add_get("/incidents/{id}", _page(_incident))
    app.router.add_get("/incidents/{id}/evidence", _page(_evidence, of=EVIDENCE))
    app.router.add_get("/static/{name}", assets.serve)
    events.add_to(app)


def _page(
    made: Page, *reads: str, of: web.AppKey[Rendered] = RENDERED
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """What answers with the page; `reads` are the parameters of the query that it heeds."""

    async def answer(request: web.Request) -> web.Response:
        status, request[HERE] = 200, _here(request, reads)
        try:
            content = await _rendered(request, made, request.app[of])
        except (web.HTTPNotFound, web.HTTPForbidden) as error:
            status, content = error.status, await _error(request, error.reason, error.text or "")
        except Unavailable as error:
            status, content = 503, await _error(request, "Not to be told now", str(error))
        headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
        response = web.Response(status=status, body=content, content_type="text/html", charset="utf-8", headers=headers)
        response.force_close()  # a browser keeps six connections for minutes, which others could not have then
        response.enable_compression()  # of what a hundred services fill, a tenth is left; in a thread, where it is much
        return response

    return answer


def _here(request: web.Request, reads: Sequence[str]) -> str:
    """The page's address: whatever else is asked for makes no other page of it."""
    asked = {name: request.query[name] for name in reads if name in request.query}
    path = request.rel_url.raw_path
    path = path if path.startswith("/") and not path.startswith("//") else "/"
    return f"{path}?{urlencode(asked)}" if asked else path


async def _rendered(request: web.Request, made: Page, rendered: Rendered) -> bytearray:
    bell, key = request.app[VIEW].bell, (request[HERE], request[KNOWN])
    asked = bell.rung  # not what it is when his turn has come: in an incident it rings while he waits
    async with rendered.in_turn(key):
        if (kept := rendered.fresh(key, asked)) is not None:
            return kept
        if request.transport is None:
            raise web.HTTPServiceUnavailable(text="whoever asked for it is gone")
        rung = bell.rung
        template, values = await made(request)
        content = await _render(request, template, values)
        rendered.keep(key, rung, content)
        return content


async def _render(request: web.Request, template: str, values: Values) -> bytearray:
    now = time.time()
    common = {
        "now": local(now),
        "now_iso": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "at": request.path,
        "here": request[HERE],
        "known": request[KNOWN],
        "icon": "good.svg",
        "live": False,
    }
    found = (await assets.environment()).get_template(template)
    return await joined((piece.encode() for piece in found.generate({**common, **values})), FOR_OTHERS)


async def _error(request: web.Request, title: str, text: str) -> bytearray:
    return await _render(request, "error.html", {"title": title, "text": text})


# --- pages ------------------------------------------------------------------------------------------------------------


async def _overview(request: web.Request) -> tuple[str, Values]:
    view, now = request.app[VIEW], time.time()
    services = view.services()
    first, others = parted(services)
    tone, summary = _summary(services)
    values: dict[str, Any] = {
        "title": f"{SYMBOLS[tone]} {summary} · epoll-watchdog",
        "live": True,
        "icon": f"{'bad' if tone is Tone.BAD else 'good'}.svg",
        "tone": tone,
        "symbol": SYMBOLS[tone],
        "summary": summary,
        "cards": (card(each, view.past(each.name, ALL), time.time()) for each in first),
        "others": _rows(view, others, now),
        "others_heading": ("The others" if first else "Services") if others else "",
        "fault": "",
    }
    try:
        still_open = await view.incidents(None, MOST_OPEN, only_open=True)
        newest = await view.incidents(None, FEW + len(still_open))
    except Unavailable as error:
        return "overview.html", {**values, "fault": str(error)}
    values["open"] = [line(each, now) for each in still_open]
    values["past"] = [line(each, now) for each in newest if each.closed is not None][:FEW]
    return "overview.html", values


def _rows(view: View, services: list[ServiceView], now: float) -> Iterator[Card]:
    return (row(each, view.past(each.name, ROWS), now) for each in services)


def _summary(services: Sequence[ServiceView]) -> tuple[Tone, str]:
    """What is not healthy, the worst first, and its tone. One that its operator stopped is no fault."""
    if not services:
        return Tone.REST, "No service is guarded"
    groups: dict[tuple[Tone, str], list[str]] = {group: [] for group in NOT_HEALTHY}
    for each in services:
        group = UNSEEN if each.last_round_at is None else SEEN.get(tone_of(each.verdict))
        if group is not None:
            groups[group].append(printable(each.name))
    found = [(tone, word, names) for (tone, word), names in groups.items() if names]
    if not found:
        all_of_them = "The service is" if len(services) == 1 else f"All {len(services)} services are"
        return Tone.GOOD, f"{all_of_them} healthy"
    numbers = [f"{len(found[0][2])} of {many(len(services), 'service')}", *(str(len(names)) for *_, names in found[1:])]
    told = (f"{number} {word}: {_first(names)}" for number, (_, word, names) in zip(numbers, found, strict=True))
    return found[0][0], "; ".join(told)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


async def _service(request: web.Request) -> tuple[str, Values]:
    view, now, name = request.app[VIEW], time.time(), request.match_info["name"]
    service = next((each for each in view.services() if each.name == name), None)
    if service is None:
        raise web.HTTPNotFound(text="No such service is guarded.")
    made = card(service, view.past(name, ALL), now)
    values: dict[str, Any] = {
        "title": f"{made.symbol} {name}: {made.verdict} · epoll-watchdog",
        "live": True,
        "icon": f"{'bad' if made.tone is Tone.BAD.value else 'good'}.svg",
        "service": made,
        "against": () if service.healthy else service.against,
        "fault": "",
        "more": "",
    }
    try:
        found = await view.incidents(name, FEW + 1)
    except Unavailable as error:
        return "service.html", {**values, "fault": str(error)}
    values["lines"] = [line(each, now) for each in found[:FEW]]
    if len(found) > FEW:
        values["more"] = f"/incidents?{urlencode({'service': name})}"
    return "service.html", values


async def _incidents(request: web.Request) -> tuple[str, Values]:
    view, now = request.app[VIEW], time.time()
    service, number = request.query.get("service"), _number(request.query.get("page", "1"))
    found = await view.incidents(service, PAGE + 1, skip=(number - 1) * PAGE)
    heading = f"Incidents of {service}" if service is not None else "Incidents"
    return "incidents.html", {
        "title": f"{heading} · epoll-watchdog",
        "heading": f"{heading}, page {number}" if number > 1 else heading,
        "whose": service,
        "lines": [line(each, now) for each in found[:PAGE]],
        "newer": _turned(service, number - 1) if number > 1 else "",
        "older": _turned(service, number + 1) if len(found) > PAGE else "",
    }


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 7 and 1 <= int(text) <= MOST_PAGES):
        raise web.HTTPNotFound(text="There is no such page.")
    return int(text)


def _turned(service: str | None, number: int) -> str:
    asked = ({"service": service} if service is not None else {}) | ({"page": str(number)} if number > 1 else {})
    return f"/incidents?{urlencode(asked)}" if asked else "/incidents"


async def _incident(request: web.Request) -> tuple[str, Values]:
    view, now, wanted = request.app[VIEW], time.time(), request.match_info["id"]
    found = await view.incident(wanted)
    if found is None:
        raise web.HTTPNotFound(text="No such incident is kept.")
    told = chapter(found, now)
    return "incident.html", {
        "title": f"{told.line.symbol} {found.service}: {told.line.verdict} · epoll-watchdog",
        "live": found.closed is None,
        "chapter": told,
    }


async def _evidence(request: web.Request) -> tuple[str, Values]:
    view, wanted = request.app[VIEW], request.match_info["id"]
    if not request[KNOWN]:
        raise web.HTTPForbidden(text="Evidence is shown only to whom is known.")
    found, kept = await view.incident(wanted), await view.evidence(wanted)
    if found is None or kept is None:
        raise web.HTTPNotFound(text="No such incident is kept.")
    looks, more = await evidence.looks(kept, found.opened)
    return "evidence.html", {
        "title": f"Evidence of {found.service} · epoll-watchdog",
        "incident": found,
        "looks": looks,
        "more": more,
    }
