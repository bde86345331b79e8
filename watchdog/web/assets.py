"""The style sheet, the script and the icons: files of ours below `/static/`, and the templates.

Rules of this file: nothing comes from elsewhere, and no step builds anything. An address carries the fingerprint of
what it leads to, so a browser keeps it for ever and still gets the next version's; without one it asks each time, and
an ETag answers (RFC 9110, 8.8.3). jinja2 is loaded with the first page: a daemon whose page nobody opens needs no
memory for it.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from watchdog import __version__
from watchdog.web.words import shown

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
FOR_EVER = "public, max-age=31536000, immutable"
TEMPLATES = ("overview.html", "service.html", "incidents.html", "incident.html", "evidence.html", "error.html")
_loading = asyncio.Lock()


@dataclass(frozen=True, slots=True)
class Asset:
    """A file and its fingerprint."""

    content: bytes
    type: str
    fingerprint: str


@functools.cache
def assets() -> dict[str, Asset]:
    """All of them by name: some 15 KB."""
    found = {}
    for path in sorted((HERE / "static").iterdir()):
        content = path.read_bytes()
        found[path.name] = Asset(content, TYPES[path.suffix[1:]], hashlib.sha256(content).hexdigest()[:16])
    return found


def address(name: str) -> str:
    """Where a page finds it."""
    return f"/static/{name}?v={assets()[name].fingerprint}"


async def serve(request: web.Request) -> web.Response:
    """`GET /static/NAME`."""
    asset = assets().get(request.match_info["name"])
    if asset is None:
        raise web.HTTPNotFound(text="there is no such file")
    tag = f'"{asset.fingerprint}"'
    kept = request.query.get("v") == asset.fingerprint
    headers = {"ETag": tag, "Cache-Control": FOR_EVER if kept else "no-cache"}
    if request.headers.get("If-None-Match") == tag:
        response = web.Response(status=304, headers=headers)
    else:
        response = web.Response(body=asset.content, content_type=asset.type, charset="utf-8", headers=headers)
    response.force_close()  # as after a page
    return response


async def environment() -> Environment:
    """The templates, compiled; the first time in a thread, for that takes a while."""
    async with _loading:
        return await asyncio.to_thread(_environment) if not _environment.cache_info().currsize else _environment()


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader

    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=shown,
    )
    made.globals |= {"asset": address, "version": __version__}
    for name in TEMPLATES:
        made.get_template(name)
    return made
