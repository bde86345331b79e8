"""Orders over HTTP: who may give them, what is refused, and whom the kernel says that they are from."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.web.test_web import Daemon
from watchdog.web.orders import NotFound, Obeyed
from watchdog.web.server import serve

SOMEBODY = 54321  # a uid without a name
CLIENT = """
import http.client, os, socket, sys
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
line = http.client.HTTPConnection("localhost")
line.sock = socket.socket(socket.AF_UNIX)
line.sock.connect(sys.argv[1])
line.request("POST", "/api/v1/resume", sys.argv[3], {"Content-Type": "application/json"})
print(line.getresponse().read().decode())
"""


@dataclass
class Operator:
    """Takes every order for "web", and knows of no other service."""

    taken: list[tuple[Any, ...]] = field(default_factory=list)

    async def pause(
        self, services: Sequence[str] | None, by: str, reason: str, seconds: float | None
    ) -> Sequence[Obeyed]:
        """Note it."""
        return self._take("pause", services, by, reason, seconds)

    async def resume(self, services: Sequence[str] | None, by: str) -> Sequence[Obeyed]:
        """Note it."""
        return self._take("resume", services, by)

    async def acknowledge(self, incident: str, by: str) -> Obeyed:
        """Note it."""
        self.taken.append(("ack", incident, by))
        return Obeyed("web", changed=True, text="acknowledged")

    def _take(self, order: str, services: Sequence[str] | None, *more: Any) -> Sequence[Obeyed]:
        if services is not None and services != ["web"]:
            raise NotFound(f"no such service is guarded: {services}")
        self.taken.append((order, services, *more))
        return [Obeyed("web", changed=True, text=order, until=1_700_000_000.0 if order == "pause" else None)]


async def post(path: Path | str, where: str, said: object, *, body: bytes | None = None, **headers: str) -> Any:
    """The status and the answer of an order over that socket."""
    local = aiohttp.UnixConnector(str(path)) if isinstance(path, Path) else None
    async with aiohttp.ClientSession(connector=local) as client:
        given = {"Content-Type": "application/json", **headers}
        base = "http://localhost" if local is not None else f"http://{path}"
        data = json.dumps(said).encode() if body is None else body
        async with client.post(f"{base}/api/v1/{where}", data=data, headers=given) as response:
            return response.status, await response.json()


async def test_an_order_is_taken_over_a_private_socket_with_who_gave_it(tmp_path: Path) -> None:
    path, operator = tmp_path / "control.sock", Operator()
    server = await serve(Daemon(), "127.0.0.1:0", operator=operator, control=str(path))
    try:
        said = {"services": ["web"], "reason": "new disk", "for": "1h30m", "asked_by": "alice"}
        status, told = await post(path, "pause", said)
        await post(path, "resume", {"services": None})
        await post(path, "incidents/01J/ack", {})
    finally:
        await server.close()
    assert status == 200
    assert told == {
        "by": "root (for alice, as it says)",
        "services": [
            {
                "service": "web",
                "changed": True,
                "text": "pause",
                "until": "2023-11-14T22:13:20.000+00:00",
                "unsaved": "",
            }
        ],
    }
    assert operator.taken == [
        ("pause", ["web"], "root (for alice, as it says)", "new disk", 5400.0),
        ("resume", None, "root"),
        ("ack", "01J", "root"),
    ]


async def test_the_kernel_says_who_asks_whatever_the_client_claims(tmp_path: Path) -> None:
    path, operator = tmp_path / "control.sock", Operator()
    server = await serve(Daemon(), "127.0.0.1:0", operator=operator, control=str(path))
    try:
        for directory in (tmp_path, *list(tmp_path.parents)[:-2]):
            directory.chmod(directory.stat().st_mode | 0o011)
        os.chown(path, SOMEBODY, SOMEBODY)
        said = json.dumps({"services": None, "asked_by": "root"})
        command = [sys.executable, "-c", CLIENT, str(path), str(SOMEBODY), said]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    finally:
        await server.close()
    assert json.loads(done.stdout)["by"] == f"uid {SOMEBODY}"
    assert operator.taken == [("resume", None, f"uid {SOMEBODY}")]


async def test_over_no_other_socket_is_an_order_taken(tmp_path: Path) -> None:
    """A private one may have a proxy before it, which lets in whom it likes."""
    operator, private = Operator(), tmp_path / "web.sock"
    listen = ["127.0.0.1:0", f"unix:{private}"]
    server = await serve(Daemon(), listen, operator=operator, control=str(tmp_path / "control.sock"))
    try:
        answers = [await post(where, "pause", {"services": None}) for where in (server.address, private)]
    finally:
        await server.close()
    assert operator.taken == []
    for status, told in answers:
        assert (status, told["error"]["message"]) == (
            403,
            "orders are taken over the control socket alone ([http].control)",
        )


@pytest.mark.parametrize(
    ("where", "said", "status", "why"),
    [
        ("pause", {"services": ["web", "db"]}, 404, "no such service is guarded: ['web', 'db']"),
        ("pause", {}, 400, "services: give a list of names, or null for all"),
        ("pause", {"services": []}, 400, "services: give a list of names, or null for all"),
        ("pause", {"services": "web"}, 400, "services: give a list of names, or null for all"),
        ("pause", {"services": None, "for": "1 hour"}, 400, "for: '1 hour' is no duration"),
        ("pause", {"services": None, "for": "0s"}, 400, "for: 0s is too short"),
        ("pause", {"services": None, "for": 3600}, 400, "for: '3600' is no duration"),
        ("pause", {"services": None, "reason": "a\nb"}, 400, "reason: give one line of at most 200 characters"),
        ("pause", {"services": None, "reason": "x" * 201}, 400, "reason: give one line of at most 200 characters"),
        ("pause", {"services": None, "until": "noon"}, 400, "'until': no such key"),
        ("resume", ["web"], 400, "an order is a JSON object"),
        ("resume", None, 400, "an order is a JSON object"),
    ],
)
async def test_what_is_no_order_is_refused(tmp_path: Path, where: str, said: object, status: int, why: str) -> None:
    path, operator = tmp_path / "control.sock", Operator()
    server = await serve(Daemon(), "127.0.0.1:0", operator=operator, control=str(path))
    try:
        found, told = await post(path, where, said)
    finally:
        await server.close()
    assert (found, operator.taken) == (status, [])
    assert told["error"]["message"].startswith(why)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [(b"{", "application/json", 400), (b"[" * 100_000, "application/json", 400), (b"{}", "text/plain", 415)],
    ids=["cut off", "nested", "a form's kind"],
)
async def test_what_is_no_json_is_refused(tmp_path: Path, body: bytes, kind: str, status: int) -> None:
    path, operator = tmp_path / "control.sock", Operator()
    server = await serve(Daemon(), "127.0.0.1:0", operator=operator, control=str(path))
    try:
        found, _ = await post(path, "resume", None, body=body, **{"Content-Type": kind})
    finally:
        await server.close()
    assert (found, operator.taken) == (status, [])
