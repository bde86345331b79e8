"""What is wrong is not the loop: the network, the witness, the certificate, the answer, or an operator's will."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import trustme

from tests import servers
from tests.lookalikes.condition import Scene, Stage
from tests.lookalikes.namespace import namespace
from tests.lookalikes.programs import server
from tests.lookalikes.units import UNIT, guarded_unit
from tests.lookalikes.watched import by_snmpd, http_by_unix, https, inside, of_nginx, of_server, tcp, watched


@contextmanager
def dropped(stage: Stage) -> Iterator[Scene]:
    """No packet to the TCP port arrives; the Unix socket answers."""
    with (
        namespace() as net,
        server(stage.server, stage.directory, host=net.address, before=net.inside) as running,
        watched(stage.directory, running.pidfile, *of_server(running)) as daemon,
    ):
        yield Scene(daemon, lambda: net.drop(running.tcp), net.let_in)


@contextmanager
def dropped_without_unix(stage: Stage) -> Iterator[Scene]:
    """The same, of a service that has no Unix socket to tell the difference by."""
    with (
        namespace() as net,
        server(stage.server, stage.directory, host=net.address, before=net.inside) as running,
        watched(stage.directory, running.pidfile, tcp(running.address), inside(running.agent)) as daemon,
    ):
        yield Scene(daemon, lambda: net.drop(running.tcp), net.let_in)


@contextmanager
def agent_gone(stage: Stage) -> Iterator[Scene]:
    """snmpd is killed; nginx is well."""
    with (
        servers.snmpd(stage.directory) as snmpd,
        servers.nginx(stage.directory) as running,
        watched(stage.directory, running.pidfile, *of_nginx(running, snmpd)) as daemon,
    ):
        yield Scene(daemon, snmpd.process.kill)


@contextmanager
def agent_stale(stage: Stage) -> Iterator[Scene]:
    """The agent answers, and tells the PID of another process."""
    with (
        server(stage.server, stage.directory) as running,
        watched(stage.directory, running.pidfile, *of_server(running, pid=True)) as daemon,
    ):
        yield Scene(daemon, lambda: running.order("pid 1"), lambda: running.order(f"pid {running.pid}"))


@contextmanager
def expired(stage: Stage) -> Iterator[Scene]:
    """nginx is reloaded with a certificate of the past."""
    authority = trustme.CA()
    ca_file, certificate = stage.directory / "ca.pem", stage.directory / "server.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    good, bad = authority.issue_cert("127.0.0.1"), authority.issue_cert("127.0.0.1", not_after=past)
    port = servers.free_port()
    tls = f"listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {certificate};"
    good.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with servers.nginx(stage.directory, server_config=tls) as running:

        def present(cert: trustme.LeafCert) -> None:
            cert.private_key_and_cert_chain_pem.write_to_path(str(certificate))
            os.kill(running.pid, signal.SIGHUP)

        probes = https(f"https://127.0.0.1:{port}/", ca_file), http_by_unix(running.path), by_snmpd(stage.snmpd)
        with watched(stage.directory, running.pidfile, *probes) as daemon:
            yield Scene(daemon, lambda: present(bad), lambda: present(good))


@contextmanager
def http_500(stage: Stage) -> Iterator[Scene]:
    """nginx answers 500 on both sockets."""
    flag = stage.directory / "broken"
    with (
        servers.nginx(stage.directory, server_config=f"if (-f {flag}) {{ return 500; }}") as running,
        watched(stage.directory, running.pidfile, *of_nginx(running, stage.snmpd)) as daemon,
    ):
        yield Scene(daemon, flag.touch, flag.unlink)


@contextmanager
def unit_stopped(stage: Stage) -> Iterator[Scene]:
    """systemctl stop."""
    with guarded_unit(stage.directory) as unit:
        yield Scene(unit, lambda: unit.machine.systemctl("stop", UNIT), lambda: unit.machine.systemctl("start", UNIT))


@contextmanager
def unit_restarting(stage: Stage) -> Iterator[Scene]:
    """systemctl restart, of a unit that takes 2 s to start."""
    with guarded_unit(stage.directory) as unit:
        yield Scene(unit, lambda: unit.machine.systemctl("restart", "--no-block", UNIT))
