from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.cli.asking import Daemon
from watchdog.web.server import serve


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """It listens at its `address`."""
    daemon = Daemon()
    server = await serve(daemon, "127.0.0.1:0")
    daemon.address = server.address
    yield daemon
    await server.close()
