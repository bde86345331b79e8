"""What is answered to whom: `/metrics`, `/-/…` as text for machines that look at the status, `/api/v1/…` as JSON; the
status page is in `pages.py`.

Rules of this file: nobody is answered whom the gate does not let in, nor who means another host (`called.py`); every
GET changes nothing; evidence (addresses, commands, what threads do) goes only to whom is known. Times in JSON are
RFC 3339 in UTC; whoever asks the API for something wrong gets JSON too. Names of paths as Prometheus has them
(`/-/healthy`, `/-/ready`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from watchdog.clock import rfc3339
from watchdog.web import orders, pages
from watchdog.web.auth import Gate
from watchdog.web.called import REFUSED, is_called
from watchdog.web.keys import KNOWN, VIEW
from watchdog.web.orders import Operator
from watchdog.web.paced import joined
from watchdog.web.view import IncidentView, ServiceView, Unavailable, View

log = logging.getLogger(__name__)

INCIDENTS = 50  # where no limit is given
MAX_INCIDENTS = 500
KEPT = ("Allow", "Retry-After", "WWW-Authenticate")  # of an error's headers
NEEDS = "evidence goes out only over a private Unix socket, or to whom basic_auth_users or a client's certificate names"
OF_PAGES = ("Cache-Control", "Content-Security-Policy")  # headers that a page and what belongs to it set themselves
HEADERS = {
    "Server": "epoll-watchdog",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(slots=True)
class Gates:
    """The gate in force: a reload puts another one here, which aiohttp would not let be done in a running app."""

    now: Gate


GATE: web.AppKey[Gates] = web.AppKey("gate")
NAMES: web.AppKey[Collection[str] | None] = web.AppKey("names")


def application(
    view: View, gate: Gate, operator: Operator | None = None, names: Collection[str] | None = None
) -> web.Application:
    """The application that shows `view` to whom the gate lets in, and takes their orders where there is an operator.
    `names`: what else it is called than localhost, where only this host reaches it; None: others do.
    """
    app = web.Application(middlewares=[_errors, _gated])
    app[VIEW] = view
    app[GATE] = Gates(gate)
    app[NAMES] = names
    app.on_response_prepare.append(_headers)
    orders.add_to(app, operator)
    pages.add_to(app)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/-/healthy", _healthy)
    app.router.add_get("/-/ready", _ready)
    app.router.add_get("/-/service/{name}", _service)
    app.router.add_get("/api/v1/services", _services)
    app.router.add_get("/api/v1/incidents", _incidents)
    app.router.add_get("/api/v1/incidents/{id}/evidence", _evidence)
    return app


async def _headers(request: web.Request, response: web.StreamResponse) -> None:
    own = {name: response.headers[name] for name in OF_PAGES if name in response.headers}
    response.headers.update(HEADERS | own)
    response.headers.update(request.app[GATE].now.headers)


@web.middleware
async def _gated(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    gate, names = request.app[GATE].now, request.app[NAMES]
    if names is not None and not gate.asks and not is_called(request.headers.get("Host"), names):
        raise web.HTTPMisdirectedRequest(text=REFUSED)
    request[KNOWN] = await gate.admit(request)
    return await handler(request)


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    kept: dict[str, str] = {}
    try:
        return await handler(request)
    except web.HTTPException as error:
        status, text = error.status, error.text or error.reason
        kept = {name: error.headers[name] for name in KEPT if name in error.headers}
    except Unavailable as error:
        status, text = 503, str(error)
    except Exception:
        log.exception("a request failed: %s", request.path)
        status, text = 500, "a fault of ours; the log tells more"
    if request.path.startswith("/api/"):
        response = web.json_response({"error": {"status": status, "message": text}}, status=status)
    else:
        response = _text(status, text)
    response.headers.update(kept)
    return response


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")


async def _metrics(request: web.Request) -> web.Response:
    """Rendered a little at a time: with many services, a scrape would else delay their probes."""
    pieces, content_type = request.app[VIEW].metrics(", ".join(request.headers.getall("Accept", [])))
    return web.Response(body=await joined(pieces), headers={"Content-Type": content_type})


# --- health -----------------------------------------------------------------------------------------------------------


async def _healthy(request: web.Request) -> web.Response:
    return _text(200, "healthy") if request.app[VIEW].healthy() else _text(503, "the daemon's own loop lags")


async def _ready(request: web.Request) -> web.Response:
    return _text(200, "ready") if request.app[VIEW].ready() else _text(503, "not every service had its first round")


async def _service(request: web.Request) -> web.Response:
    """For a load balancer: 200 only to a service that should get traffic."""
    name = request.match_info["name"]
    for service in request.app[VIEW].services():
        if service.name == name:
            return _health_of(service)
    return _text(404, "no such service is guarded")


def _health_of(service: ServiceView) -> web.Response:
    if service.last_round_at is None:
        return _text(503, "no round yet")
    if service.restart_due:
        return _text(503, f"{service.verdict}: a restart is due")
    if not service.healthy:
        return _text(503, ": ".join([f"{service.verdict} ({service.certainty})", *service.reasons[:1]]))
    return _text(200, "healthy")


# --- API --------------------------------------------------------------------------------------------------------------


async def _services(request: web.Request) -> web.Response:
    return web.json_response({"services": [_service_json(service) for service in request.app[VIEW].services()]})


async def _incidents(request: web.Request) -> web.Response:
    limit = _limit(request.query.get("limit", str(INCIDENTS)))
    found = await request.app[VIEW].incidents(request.query.get("service"), limit)
    return web.json_response({"incidents": [_incident_json(incident) for incident in found]})


async def _evidence(request: web.Request) -> web.Response:
    if not request[KNOWN]:
        raise web.HTTPForbidden(text=NEEDS)
    found = await request.app[VIEW].evidence(request.match_info["id"])
    if found is None:
        raise web.HTTPNotFound(text="no such incident is kept")
    return web.Response(body=found, content_type="application/json", charset="utf-8")


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MAX_INCIDENTS):
        raise web.HTTPBadRequest(text=f"limit: must be a number from 1 to {MAX_INCIDENTS}")
    return int(text)


def _service_json(service: ServiceView) -> dict[str, Any]:
    times = {"last_round_at": _rfc3339(service.last_round_at), "pause_until": _rfc3339(service.pause_until)}
    return dataclasses.asdict(service) | times


def _incident_json(incident: IncidentView) -> dict[str, Any]:
    content = dataclasses.asdict(incident)
    for record in content["timeline"]:
        record["at"] = _rfc3339(record["at"])
    return content | {"opened": _rfc3339(incident.opened), "closed": _rfc3339(incident.closed)}


def _rfc3339(wall: float | None) -> str | None:
    return None if wall is None else rfc3339(wall)
