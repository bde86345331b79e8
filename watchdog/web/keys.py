"""What a request, and the application it came to, are asked for by name."""

from __future__ import annotations

from aiohttp import web

from watchdog.web.view import View

VIEW: web.AppKey[View] = web.AppKey("view")
KNOWN: web.RequestKey[bool] = web.RequestKey("known")  # whether it is known who asks
