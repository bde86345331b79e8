"""What was seen of a service that is guarded no more is forgotten, also where its last turn ends after that."""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import closing, suppress
from pathlib import Path

from tests.integration.guarding import ENVIRONMENT, FASTER, Guarding, demo_table, guarding
from tests.servers import until
from watchdog.demo import child

WAITS = FASTER.replace('"400ms"', '"1s"')


def mute_table(service: child.Service, port: int) -> str:
    """A service of the demo's process that is asked at that port."""
    return f"""\
[service.mute]
mode = "observe"
pidfile = "{service.addresses.pidfile}"
{WAITS}
[service.mute.probe.tcp]
type = "tcp"
address = "127.0.0.1:{port}"
send = "ping\\n"
expect = "pong"
"""


def reload(guard: Guarding, config: str) -> None:
    """Let the daemon read this."""
    guard.config.write_text(config)
    os.kill(guard.pid, signal.SIGHUP)


def names(guard: Guarding) -> list[str]:
    """Of the services that are guarded."""
    return [view["name"] for view in guard.daemon.get("/api/v1/services")["services"]]


def strip(guard: Guarding) -> str:
    """What the page says that the probe found in the last hours; empty before the first answer."""
    return "".join(re.findall(r'aria-label="tcp, last 6h: (.*?)"', guard.daemon.text("/services/mute")))


def accept_newest(listener: socket.socket) -> socket.socket:
    """The connection of the turn that begins next; those of former ones are closed."""
    listener.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
    listener.settimeout(10)
    return listener.accept()[0]


def test_a_service_that_comes_back_has_no_past_of_the_former_one(tmp_path: Path) -> None:
    with child.service(tmp_path, "--stubborn", "-1") as service, socket.create_server(("127.0.0.1", 0)) as listener:
        table = mute_table(service, listener.getsockname()[1])
        with guarding(tmp_path, demo_table(service) + table, env=ENVIRONMENT) as guard:
            both = guard.config.read_text()
            until(lambda: "silent" in strip(guard), 10, "what it found")
            with closing(accept_newest(listener)):  # its turn waits for an answer
                reload(guard, both.replace(table, ""))
                until(lambda: names(guard) == ["demo"], 10, "the end of that turn")
            listener.close()
            reload(guard, both)
            until(lambda: "mute" in names(guard), 10, "the service")
            until(lambda: guard.service("mute")["probes"]["tcp"]["kind"] == "refused", 10, "what it found")
            assert re.match(r"refused \dm, not looked at", strip(guard))
