"""What a hijacked brain could try: everything that its user may ask of the real helper, with the real config."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helper.activated import Activated, activated
from tests.helper.conftest import Start
from tests.helper.nobody import NOBODY, become_nobody
from tests.helper.victims import Victim
from watchdog.helper import worker
from watchdog.model import Epoch
from watchdog.target import start_time

ACTS = ("nudge", "capture", "restart")
BY_SYSTEMD = (  # where in the tree of cgroups the processes live that the host and the watchdog stand on
    *("init.scope", "system.slice/dbus.service", "system.slice/dbus-broker.service"),
    *("system.slice/systemd-journald.service", "system.slice/systemd-udevd.service/udev"),
    *("system.slice/epoll-watchdog.service", "system.slice/epoll-watchdog-helper.service"),
)


@pytest.fixture
def place() -> Iterator[Activated]:
    """The socket, open to the brain's user, who is nobody here."""
    with activated() as made:
        made.path.chmod(0o666)
        yield made


def hijacked(place: Activated, *lines: dict[str, Any] | bytes) -> list[dict[str, Any]]:
    """What the helper replies to the brain's user, line by line."""
    asked = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]

    def ask() -> list[str]:
        become_nobody()
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as replies:
            connection.settimeout(20.0)
            connection.connect(str(place.path))
            said = []
            for line in asked:
                connection.sendall(line + b"\n")
                said.append(replies.readline().decode())
            return said

    ending = worker.run(ask, 60.0)
    assert not ending.error
    return [json.loads(line) for line in ending.value]


def request(verb: str, service: str, epoch: Epoch) -> dict[str, Any]:
    """As the brain would send it."""
    return {"id": 1, "verb": verb, "service": service, "pid": epoch.pid, "start_time": epoch.start_time}


def alive(pid: int) -> Epoch:
    """The life of the process that is there."""
    return Epoch(pid, start_time(pid))


def touched(victim: Victim) -> bool:
    """Whether any of its threads was woken or is traced."""
    return victim.counts().eintrs > 0 or victim.traced()


def test_no_other_process_is_touched_than_the_config_names(place: Activated, start: Start) -> None:
    guarded, other = start("wait:1"), start("wait:1")
    restarted = place.directory / "restarted"
    place.serve_only({"a": guarded.pid}, restart=("/bin/touch", str(restarted)))
    helper = place.start("--peer-user", "nobody")
    reused = Epoch(guarded.pid, guarded.epoch.start_time - 1)
    epochs = [other.epoch, alive(1), alive(helper.pid), alive(os.getpid()), reused, Epoch(2**22 - 1, 1)]
    replies = hijacked(place, *(request(verb, "a", epoch) for epoch in epochs for verb in ("examine", *ACTS)))
    assert {reply["outcome"] for reply in replies} <= {"gone", "refused"}
    assert not any("threads" in reply["detail"] for reply in replies)
    assert not touched(guarded)
    assert not touched(other)
    assert not restarted.exists()


def test_no_service_is_known_by_another_name_than_its_own(place: Activated, start: Start) -> None:
    guarded = start("wait:1")
    place.serve_only({"a": guarded.pid})
    place.start("--peer-user", "nobody")
    names = ["../a", "a/../a", "./a", "a/", "A", "a\0", "a\n", " a", "*", "a" * 3000, "/etc/passwd", "__class__", ""]
    replies = hijacked(place, *(request(verb, name, guarded.epoch) for name in names for verb in ("examine", *ACTS)))
    assert {reply["outcome"] for reply in replies} == {"refused"}
    assert {reply["reason"][:28] for reply in replies} == {"the config names no service "}
    assert not touched(guarded)


def test_neither_a_config_nor_a_budget_nor_a_command_can_be_sent_along(place: Activated, start: Start) -> None:
    guarded = start("wait:1")
    place.serve_only({"a": guarded.pid})
    place.start("--peer-user", "nobody")
    asked = request("restart", "a", guarded.epoch)
    more = {"config": "/tmp/x", "budget": 99, "restart_command": ["id"], "pidfile": "/tmp/x", "unit": "dbus.service"}
    replies = hijacked(place, *({**asked, key: value} for key, value in more.items()))
    assert [reply["reason"] for reply in replies] == [f"not understood: unknown key {key!r}" for key in more]


def test_no_more_is_done_than_the_budget_allows_whatever_it_does_in_between(place: Activated, start: Start) -> None:
    """Two at a time, another connection for each, and an idle exit between."""
    guarded = start("wait:1")
    place.serve_only({"a": guarded.pid}, burst=3)
    outcomes = []
    for _ in range(3):
        helper = place.start("--peer-user", "nobody", "--idle", "0.1")
        with place.peer():  # else the helper might leave between the two
            outcomes += [hijacked(place, request("nudge", "a", guarded.epoch))[0]["outcome"] for _ in range(2)]
        assert helper.wait(20) == 0
    assert outcomes == ["done"] * 3 + ["refused"] * 3


@pytest.mark.parametrize("pid", ["1", "the helper"])
def test_a_pidfile_that_names_what_is_never_touched_changes_nothing(place: Activated, pid: str) -> None:
    helper = place.start("--peer-user", "nobody")
    epoch = alive({"1": 1, "the helper": helper.pid}[pid])
    place.serve_only({"a": epoch.pid})
    examined, nudged, captured = hijacked(place, *(request(verb, "a", epoch) for verb in ("examine", *ACTS[:2])))
    skipped, *_ = nudged["detail"].get("skipped", [nudged["detail"]])
    assert [examined["detail"]["refusal"], skipped["refusal"]] == ["NeverATarget", "NeverATarget"]
    assert captured["outcome"] == "refused"


@contextlib.contextmanager
def in_cgroup(path: str) -> Iterator[int]:
    """A process in a cgroup of this path, below one of the test's own, as in a container."""
    mount = Path("/sys/fs/cgroup")
    unified = mount if (mount / "cgroup.procs").exists() else mount / "unified"
    top = unified / f"power-{uuid.uuid4().hex[:8]}"
    (top / path).mkdir(parents=True)
    try:
        with subprocess.Popen(["sleep", "1000"]) as process:
            try:
                (top / path / "cgroup.procs").write_text(str(process.pid))
                yield process.pid
            finally:
                process.kill()
    finally:
        for directory, _, _ in os.walk(top, topdown=False):
            Path(directory).rmdir()


@pytest.mark.parametrize("cgroup", BY_SYSTEMD)
def test_a_pidfile_is_no_way_to_the_bus_nor_to_systemd_nor_to_ourselves(place: Activated, cgroup: str) -> None:
    restarted = place.directory / "restarted"
    with in_cgroup(cgroup) as pid:
        place.serve_only({"a": pid}, restart=("/bin/touch", str(restarted)))
        place.start("--peer-user", "nobody")
        replies = hijacked(place, *(request(verb, "a", alive(pid)) for verb in ("examine", "nudge", "restart")))
    assert [(reply["outcome"], reply["detail"].get("refusal")) for reply in replies] == [
        ("refused", "NeverATarget"),
    ] * 3
    assert not restarted.exists()


# --- the config ------------------------------------------------------------------------------------------------------


def refused(place: Activated, victim: Victim) -> str:
    """Why a service is not touched that only this config names."""
    place.start("--peer-user", "nobody")
    [reply] = hijacked(place, request("nudge", "a", victim.epoch))
    assert reply["outcome"] == "refused"
    assert not touched(victim)
    return str(reply["reason"])


def test_a_config_that_a_group_can_write_is_not_obeyed(place: Activated, start: Start) -> None:
    victim = start("wait:1")
    place.serve_only({"a": victim.pid})
    place.config.chmod(0o664)
    assert f"{place.config} can be written by others than root" in refused(place, victim)


@pytest.mark.parametrize("mode", [0o775, 0o1777])
def test_a_directory_of_configs_that_others_can_write_is_not_obeyed(place: Activated, start: Start, mode: int) -> None:
    victim = start("wait:1")
    place.serve_only({"a": victim.pid})
    (place.directory / "conf.d").mkdir()
    shutil.move(place.config, place.directory / "conf.d/a.toml")
    place.config.touch()
    (place.directory / "conf.d").chmod(mode)
    assert f"{place.directory}/conf.d can be written by others than root" in refused(place, victim)


def test_a_config_behind_a_link_of_somebody_else_s_is_not_obeyed(place: Activated, start: Start) -> None:
    victim = start("wait:1")
    place.serve_only({"a": victim.pid})
    place.config.rename(place.directory / "real.toml")
    place.config.symlink_to("real.toml")
    os.lchown(place.config, NOBODY, NOBODY)
    assert f"{place.config} is a symbolic link that uid {NOBODY} can exchange" in refused(place, victim)


def test_a_config_in_a_directory_of_somebody_else_s_is_not_obeyed(place: Activated, start: Start) -> None:
    victim = start("wait:1")
    place.serve_only({"a": victim.pid})
    os.chown(place.directory, NOBODY, NOBODY)
    assert f"{place.directory} can be written by others than root" in refused(place, victim)
