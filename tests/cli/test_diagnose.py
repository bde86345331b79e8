"""`epoll-watchdog diagnose`: what it finds on real programs, says and ends with, run as a command."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.core.make import EPOCH, case
from tests.helper.victims import build, running
from tests.integration.guarding import ENVIRONMENT, demo_table, nginx_table
from tests.servers import until
from tests.stall import HTTP, Shim, build_shim, connect, is_dark, kicker, shim_for
from watchdog.cli.findings import listeners_as_probes, of_process, of_service
from watchdog.cli.shown import show
from watchdog.demo import child
from watchdog.model import Kind, Plane
from watchdog.reading import Advisory, Family, Form, Lack, Proof, Queue, Queues, Reading
from watchdog.recording import decode_case

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
PROOF = Proof(Form.ARRIVAL, 100, 5, {"101:5000": 7}, "the accept queue of 127.0.0.1:80 grew (0, 1, 2)", 999.0)
BLOCKED = """
import select, socket, time
listener = socket.create_server(("127.0.0.1", 0))
epoll = select.epoll()
epoll.register(listener, select.EPOLLIN)
print(listener.getsockname()[1], flush=True)
time.sleep(3600)
"""
KEYS = ["service", "pid", "unit", "result", "diagnosis", "ladder", "notes", "case"]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return {**kept, **ENVIRONMENT, "COLUMNS": "80", **more}


def diagnose(*arguments: str | Path, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [*before, sys.executable, "-P", "-m", "watchdog", "diagnose", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What it answered in JSON."""
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def words(text: str) -> str:
    """Without the breaks of the lines."""
    return " ".join(text.split())


@contextmanager
def short_directory() -> Iterator[Path]:
    """For a Unix socket's path has 107 bytes; and everybody may look into it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@contextmanager
def demo() -> Iterator[tuple[child.Service, Path]]:
    """The demo's service, and a config that names it. The state directory that this tells of is never made."""
    with short_directory() as directory, child.service(directory) as service:
        path = directory / "config.toml"
        table = demo_table(service, 'ladder = { epoll_stall = ["nudge", "alert"] }\n')
        path.write_text(f'state_directory = "{directory}/state"\n{table}')
        yield service, path


@pytest.fixture(scope="module")
def stalled() -> Iterator[tuple[child.Service, Path]]:
    """The same, with its wake-up lost. No look ends that, so many may share it."""
    with demo() as (service, config):
        service.lose_wakeup()
        assert service.next_event().name == "lost"
        yield service, config


@pytest.fixture(scope="module")
def explained(stalled: tuple[child.Service, Path]) -> subprocess.CompletedProcess[str]:
    """What the command says of the stall."""
    return diagnose("demo", "--config", stalled[1])


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The victim."""
    return build(tmp_path_factory.mktemp("victim"))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def shim(library: Path, tmp_path: Path) -> Shim:
    return shim_for(library, tmp_path / "shim")


# --- a service of the config ------------------------------------------------------------------------------------------


def test_a_healthy_service_exits_0_and_its_loop_is_shown() -> None:
    with demo() as (service, config):
        done = diagnose("demo", "--config", config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verdict: healthy" in done.stdout
    assert "tcp tcp alive" in words(done.stdout)
    assert f"{service.pid} {service.pid} python S rt_sigtimedwait" in words(done.stdout)
    assert service.addresses.tcp in done.stdout
    assert "What the daemon would do" not in done.stdout


def test_a_lost_wakeup_exits_1_and_is_explained(
    stalled: tuple[child.Service, Path], explained: subprocess.CompletedProcess[str]
) -> None:
    assert explained.returncode == 1, explained.stdout + explained.stderr
    shown = words(explained.stdout)
    assert "Verdict: epoll_stall, suspected: a wake-up was lost" in shown
    assert "every socket is dark while snmp (inside) answers" in shown
    assert "loop_busy: no thread of a loop burns CPU" in shown
    assert "nudge, alert; after 3 bad rounds" in shown
    assert f"epoll-watchdog nudge {stalled[0].pid}" in shown


def test_it_says_that_one_look_has_no_baseline_where_that_matters(
    explained: subprocess.CompletedProcess[str],
) -> None:
    assert "which watches nothing. If it used to serve another epoll, a wake-up is lost" in words(explained.stdout)


def test_no_line_is_wider_than_the_terminal_and_none_is_coloured_without_one(
    explained: subprocess.CompletedProcess[str],
) -> None:
    assert max(map(len, explained.stdout.splitlines())) <= 80
    assert "\x1b" not in explained.stdout


def test_it_nudges_nobody_and_leaves_no_ledger(
    stalled: tuple[child.Service, Path], explained: subprocess.CompletedProcess[str]
) -> None:
    service, config = stalled
    assert "then copies of its epolls" in explained.stdout
    assert service.events() == []
    assert not [path for path in config.parent.iterdir() if path.name.startswith(("state", "helper"))]
    host, _, port = service.addresses.tcp.rpartition(":")
    assert is_dark((host, int(port)), b"ping\n")


def test_json_tells_all_of_it_under_stable_keys(stalled: tuple[child.Service, Path]) -> None:
    service, config = stalled
    answer = told(diagnose("demo", "--config", config, "--json"))
    assert list(answer) == KEYS
    assert (answer["service"], answer["pid"], answer["result"]) == ("demo", service.pid, "sick")
    assert answer["diagnosis"]["verdict"] == "epoll_stall"
    assert answer["ladder"] == ["nudge", "alert"]
    found = decode_case(json.dumps(answer["case"]).encode())
    kinds = {name: seen.kind for name, seen in found.round.observations.items()}
    assert kinds == {"tcp": Kind.SILENT, "unix": Kind.SILENT, "snmp": Kind.ALIVE}
    assert found.reading is not None
    assert service.addresses.unix in {queue.address for queue in found.reading.queues[-1].queues}
    assert len(found.reading.touched) == 4


def test_a_stalled_nginx_is_diagnosed_with_its_workers(shim: Shim, directory: Path, snmpd: servers.Snmpd) -> None:
    with servers.nginx(directory, workers=2, env=shim.environment) as nginx:
        (directory / "config.toml").write_text(nginx_table(nginx, snmpd))
        address = ("127.0.0.1", nginx.port)
        shim.stall(kicker(address, HTTP[0]), loops=2)
        workers = set(nginx.children())
        answer = told(diagnose("nginx", "--config", directory / "config.toml", "--json"))
        assert is_dark(address, HTTP[0])
    assert answer["diagnosis"]["verdict"] == "epoll_stall"
    assert answer["ladder"] == ["nudge", "nudge", "restart", "alert"]
    assert {thread["pid"] for thread in answer["case"]["reading"]["samples"][-1]["threads"]} >= workers


def test_a_service_without_a_process_is_dead(directory: Path) -> None:
    (directory / "config.toml").write_text(
        f'[service.demo]\npidfile = "{directory}/none.pid"\n'
        '[service.demo.probe.tcp]\ntype = "tcp"\naddress = "127.0.0.1:1"\nsend = "?"\nexpect = "!"\n'
    )
    done = diagnose("demo", "--config", directory / "config.toml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Verdict: dead, confirmed" in done.stdout
    assert "there is no process" in done.stdout


def test_an_ordinary_user_is_told_what_could_not_be_read(stalled: tuple[child.Service, Path]) -> None:
    done = diagnose("demo", "--config", stalled[1], before=AS_NOBODY)
    assert done.returncode == 1, done.stdout + done.stderr
    shown = words(done.stdout)
    assert "Not read: - system calls and descriptors of process" in shown
    assert "run it as root" in shown
    assert "unix unix error" in shown
    assert "Traceback" not in done.stdout + done.stderr


# --- a process --------------------------------------------------------------------------------------------------------


def test_an_idle_process_gives_no_finding(program: Path) -> None:
    with running(program, "wait:2", "read:1") as victim:
        done = diagnose("--pid", str(victim.pid))
        counts = victim.counts()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verdict: nothing found" in done.stdout
    assert done.stdout.count("epoll_wait (") == 2
    assert counts.eintrs == 0


def test_a_process_before_which_connections_wait_is_suspected(stalled: tuple[child.Service, Path]) -> None:
    service, _ = stalled
    with connect(service.addresses.unix):
        done = diagnose("--pid", str(service.pid))
    assert done.returncode == 1, done.stdout + done.stderr
    shown = words(done.stdout)
    assert "Verdict: epoll_stall, suspected" in shown
    assert "slept in epoll_wait while connections waited at" in shown
    assert "by default: nudge, nudge, restart, alert" in shown


def test_the_processes_that_a_nudge_would_help_are_named_not_the_one_that_was_asked_for(
    shim: Shim, directory: Path
) -> None:
    with servers.nginx(directory, workers=2, env=shim.environment) as nginx:
        address = ("127.0.0.1", nginx.port)
        shim.stall(kicker(address, HTTP[0]), loops=2)
        one, other = sorted(nginx.children())
        with connect(address):
            shown = words(diagnose("--pid", str(nginx.pid)).stdout)
    assert f"epoll-watchdog nudge {one}; epoll-watchdog nudge {other}" in shown


def test_a_process_that_does_something_else_while_connections_wait_is_not_to_be_nudged() -> None:
    with subprocess.Popen([sys.executable, "-c", BLOCKED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with connect(("127.0.0.1", int(process.stdout.readline()))):
            answer = told(diagnose("--pid", str(process.pid), "--json"))
        process.kill()
    assert answer["diagnosis"]["verdict"] == "loop_blocked"
    assert answer["ladder"] == ["restart", "alert"]


def test_a_queue_that_is_full_is_looked_at_for_a_second() -> None:
    with demo() as (service, _), ExitStack() as crowd:
        service.lose_wakeup()
        assert service.next_event().name == "lost"
        with suppress(BlockingIOError):
            while True:
                client = crowd.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
                client.connect(service.addresses.unix)
        done = diagnose("--pid", str(service.pid), "--json")
    found = decode_case(json.dumps(told(done)["case"]).encode())
    assert found.reading is not None
    assert found.reading.samples[0].began - found.round.started > 1
    assert {queue.address for queue in found.reading.queues[-1].queues if queue.full} == {service.addresses.unix}


def test_descendants_belong_to_a_process(directory: Path) -> None:
    with servers.nginx(directory, workers=2) as nginx:
        workers = nginx.children()
        answer = told(diagnose("--pid", str(nginx.pid), "--json"))
    assert {thread["pid"] for thread in answer["case"]["reading"]["samples"][-1]["threads"]} == {nginx.pid, *workers}
    assert answer["result"] == "nothing_found"


def test_a_stopped_process_is_told_as_such(program: Path) -> None:
    with running(program, "wait:1") as victim:
        os.kill(victim.pid, signal.SIGSTOP)
        until(lambda: victim.states() == {"T"}, 5, "every thread stopped")
        done = diagnose("--pid", str(victim.pid))
    assert done.returncode == 1
    assert "Verdict: paused_process, confirmed" in done.stdout


def test_a_process_that_may_not_be_read_exits_3_and_says_what_is_missing(program: Path) -> None:
    with running(program, "wait:1") as victim:
        done = diagnose("--pid", str(victim.pid), before=AS_NOBODY)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "run it as root" in words(done.stdout)
    assert "Traceback" not in done.stdout + done.stderr


def test_a_process_that_is_gone_exits_3() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    done = diagnose("--pid", str(process.pid))
    assert (done.returncode, done.stdout) == (3, "")
    assert f"there is no process {process.pid}" in done.stderr


def test_pid_1_is_left_alone() -> None:
    done = diagnose("--pid", "1")
    assert done.returncode == 3
    assert "process 1 is never touched" in done.stderr


# --- usage ------------------------------------------------------------------------------------------------------------


def test_a_service_that_the_config_does_not_name_is_wrong_usage_with_a_guess(
    stalled: tuple[child.Service, Path],
) -> None:
    done = diagnose("dmeo", "--config", stalled[1])
    assert done.returncode == 2
    assert "names no service 'dmeo'; did you mean 'demo'?" in done.stderr


def test_without_a_guess_the_services_are_listed(stalled: tuple[child.Service, Path]) -> None:
    assert "It names: demo." in diagnose("postgres", "--config", stalled[1]).stderr


def test_a_bad_config_exits_3_with_its_errors(directory: Path) -> None:
    path = directory / "config.toml"
    path.write_text("[service.demo]\n")
    done = diagnose("demo", "--config", path)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"{path}: service.demo" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("demo", "--pid", "2"), ("--pid", "0"), ("--pid", "x"), ("a", "b")])
def test_wrong_usage_exits_2(arguments: tuple[str, ...]) -> None:
    done = diagnose(*arguments)
    assert done.returncode == 2
    assert "Usage:" in done.stderr


def test_help_teaches() -> None:
    shown = diagnose("--help").stdout
    assert all(word in shown for word in ("--pid", "Exit status", "Examples", "verdict"))


# --- for people -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_told_otherwise(program: Path, more: dict[str, str], coloured: bool) -> None:
    ours, its = pty.openpty()
    with running(program, "wait:1") as victim, os.fdopen(ours, "rb", buffering=0) as terminal:
        command = [sys.executable, "-P", "-m", "watchdog", "diagnose", "--pid", str(victim.pid)]
        subprocess.run(command, stdout=its, env=environment(TERM="xterm-256color", **more), timeout=60)
        os.close(its)
        shown = terminal.read(1 << 16).decode()
    assert ("\x1b[32m" in shown) is coloured


def test_a_proof_is_told_as_confirmed_with_the_kernel_s_part_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    known = Advisory("ep-poll", "it loses wake-ups", "5.4.226", "https://example.org/fix")
    dark = case(tcp=Kind.SILENT, snmp=Kind.ALIVE)
    sick = replace(dark, proofs=(PROOF,), advisories=(known,), reading=Reading())
    show(of_service("web", "", sick))
    shown = words(capsys.readouterr().out)
    assert "Verdict: epoll_stall, confirmed" in shown
    assert "the accept queue of 127.0.0.1:80 grew (0, 1, 2) (arrival)" in shown
    assert "nudge, nudge, restart, alert; at once" in shown
    assert "it loses wake-ups (ep-poll, mended in 5.4.226; https://example.org/fix)" in shown


def test_what_could_not_be_read_of_many_processes_is_told_once_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    lacks = tuple(Lack(f"descriptors of process {pid}", "no rights") for pid in range(9))
    show(of_service("web", "", replace(case(tcp=Kind.SILENT), reading=Reading(lacks=lacks))))
    shown = words(capsys.readouterr().out)
    assert "- descriptors of process 0, descriptors of process 1 and 7 more: no rights" in shown


def test_names_of_others_cannot_reach_into_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    lacks = (Lack("\x1b]0;root\x07", "\udcff"),)
    show(of_service("web", "", replace(case(tcp=Kind.SILENT), reading=Reading(lacks=lacks))))
    shown = capsys.readouterr().out
    assert "\\x1b]0;root\\x07: \\udcff" in shown


# --- what stands for the probes of a process --------------------------------------------------------------------------


def read(*moments: tuple[int, ...]) -> Reading:
    """A reading whose listeners (all but the first of one address) had these queues, a second apart."""
    return Reading(queues=tuple(Queues(float(at), _queues(lengths)) for at, lengths in enumerate(moments)))


def _queues(lengths: tuple[int, ...]) -> tuple[Queue, ...]:
    addresses = ("127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8001")
    return tuple(Queue(inode, Family.TCP, addresses[inode], length, 128) for inode, length in enumerate(lengths))


@pytest.mark.parametrize(
    ("reading", "found"),
    [
        (read((0,), (0,), (0,)), {}),
        (read((0,), (1,), (2,)), {}),
        (read((1,), (2,), (3,)), {"127.0.0.1:8000": Kind.SILENT}),
        (read((3,), (1,), (2,)), {"127.0.0.1:8000": Kind.ALIVE}),
        (read((0, 1, 2), (0, 1, 0)), {"127.0.0.1:8001 (inode 1)": Kind.SILENT, "127.0.0.1:8001 (inode 2)": Kind.ALIVE}),
    ],
)
def test_a_listener_speaks_by_what_waits_there(reading: Reading, found: dict[str, Kind]) -> None:
    roads, observations = listeners_as_probes(100, reading)
    assert roads.keys() == observations.keys()
    assert {name: seen.kind for name, seen in observations.items() if roads[name].plane is Plane.SOCKET} == found


def test_a_process_whose_threads_nobody_tells_of_is_no_clean_bill() -> None:
    findings = of_process("", replace(case(), reading=Reading()))
    assert findings.result.status == 3
    assert findings.case.epoch == EPOCH
