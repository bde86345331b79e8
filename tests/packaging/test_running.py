"""What runs once the package is installed: with which powers, and what systemd makes of its ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.servers import until
from tests.systemd.installed import DAEMON, HELPER, SOCKET
from tests.systemd.machine import Machine

CONFIG = "/etc/epoll-watchdog/config.toml"
SYS_PTRACE, DAC_READ_SEARCH = 1 << 19, 1 << 2
READ_AGAIN = "MESSAGE_ID=780e63eb5200466db75a3692130fb28e"
WEBHOOK = '[channel.ops]\ntype = "webhook"\nurl = {}\n'
HOSTILE = {"PYTHONPATH": "/tmp/hostile", "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "/tmp/hostile/json.py"}


def status(machine: Machine, unit: str) -> dict[str, str]:
    """The /proc/PID/status of a unit's main process."""
    text = machine.run("cat", f"/proc/{machine.show(unit, 'MainPID')}/status").stdout
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def capabilities(machine: Machine, unit: str) -> dict[str, int]:
    told = status(machine, unit)
    return {name: int(told[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")}


@contextmanager
def config(machine: Machine, text: str) -> Iterator[None]:
    """Another config, for as long as the context lasts."""
    before = machine.run("cat", CONFIG).stdout
    machine.write_file(CONFIG, text)
    try:
        yield
    finally:
        machine.write_file(CONFIG, before)


def journal(machine: Machine, unit: str) -> str:
    machine.run("journalctl", "--sync")  # what was logged before this is in it
    return machine.run("journalctl", "--no-pager", "--output=cat", "--boot", f"--unit={unit}").stdout


def ready_again(machine: Machine) -> None:
    machine.systemctl("reset-failed", DAEMON)
    machine.systemctl("start", DAEMON)


def test_the_daemon_has_a_user_of_its_own_and_no_power(installed: Machine) -> None:
    told = status(installed, DAEMON)
    assert installed.run("id", "-nu", told["Uid"].split()[0]).stdout == "epoll-watchdog\n"
    assert len({*told["Uid"].split()}) == len({*told["Gid"].split()}) == 1
    assert set(capabilities(installed, DAEMON).values()) == {0}
    assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")


def test_the_helper_has_two_powers_of_root_and_no_network(installed: Machine) -> None:
    until(lambda: installed.show(HELPER, "ActiveState") == "active", 5, "the helper, whom the daemon has called")
    powers = capabilities(installed, HELPER)
    pid = installed.show(HELPER, "MainPID")
    interfaces = installed.run("nsenter", f"--target={pid}", "--net", "ls", "/sys/class/net").stdout.split()
    routes = installed.run("cat", f"/proc/{pid}/net/dev").stdout
    assert {powers["CapEff"], powers["CapBnd"]} == {SYS_PTRACE | DAC_READ_SEARCH}
    assert powers["CapInh"] == powers["CapAmb"] == 0
    assert [line.split(":")[0].strip() for line in routes.splitlines() if ":" in line] == ["lo"]
    assert interfaces


def test_the_helper_can_thaw_by_hand_and_writes_nowhere_else(installed: Machine) -> None:
    until(lambda: installed.show(HELPER, "ActiveState") == "active", 5, "the helper, whom the daemon has called")
    inside = ("nsenter", f"--target={installed.show(HELPER, 'MainPID')}", "--mount", "sh", "-c")
    thaw = installed.run(*inside, "echo 0 >/sys/fs/cgroup/system.slice/dbus.service/cgroup.freeze", check=False)
    writable = "for place in /usr /etc /var /tmp /run /proc/sys/kernel; do test -w $place && echo $place; done; true"
    places = installed.run(*inside, writable).stdout.split()
    assert (thaw.returncode, thaw.stderr) == (0, "")
    assert places == []


def test_the_socket_is_for_root_and_the_daemon_alone(installed: Machine) -> None:
    told = installed.run("stat", "-c", "%A %U %G", "/run/epoll-watchdog/helper.sock").stdout
    secrets = installed.run("stat", "-c", "%A %U %G", "/etc/epoll-watchdog/credentials").stdout
    assert told == "srw-rw---- root epoll-watchdog\n"
    assert secrets == "drwx------ root root\n"


def test_the_command_and_its_manual_are_there(installed: Machine) -> None:
    assert "epoll-watchdog, version" in installed.run("epoll-watchdog", "--version").stdout
    for page in (("1", "epoll-watchdog"), ("8", "epoll-watchdog"), ("5", "epoll-watchdog.toml")):
        assert "epoll-watchdog" in installed.run("man", "--where", *page).stdout


def test_the_callers_environment_chooses_nothing_that_is_imported(installed: Machine) -> None:
    for module in ("watchdog", "json", "click"):
        installed.write_file(f"/tmp/hostile/{module}.py", "raise SystemExit('hostile')")
    done = installed.run("sh", "-c", "cd /tmp/hostile && exec epoll-watchdog check-config", env=HOSTILE)
    assert "sound" in done.stdout
    arguments = "--config /tmp/hostile/bad.toml"
    run = installed.run(
        "sh", "-c", f"cd /tmp/hostile && exec epoll-watchdog run {arguments}", env=HOSTILE, check=False
    )  # it checks the config in a child
    assert (run.returncode, "hostile'" in run.stderr) == (78, False), run.stderr


def test_the_configuration_as_it_comes_is_sound_and_guards_nothing(installed: Machine) -> None:
    said = installed.run("epoll-watchdog", "check-config").stdout
    assert f"{CONFIG}: sound" in said
    assert "no service is named" in said


def test_the_example_in_it_is_sound_too(installed: Machine) -> None:
    commented = installed.run("cat", CONFIG).stdout
    lines = [line.removeprefix("# ") for line in commented.partition("\n\n")[2].splitlines()]
    installed.write_file("/etc/epoll-watchdog/credentials/snmp-community", "public\n", 0o600)
    installed.write_file("/etc/epoll-watchdog/credentials/hook-url", "http://127.0.0.1:1/\n", 0o600)
    installed.write_file("/tmp/example.toml", "\n".join(lines))
    said = installed.run("epoll-watchdog", "check-config", "/tmp/example.toml").stdout
    installed.run("sh", "-c", "rm /etc/epoll-watchdog/credentials/*")
    assert "service web: nginx.service, mode observe" in said
    assert "channel ops: webhook" in said


def test_a_reload_with_a_bad_config_fails_and_changes_nothing(installed: Machine) -> None:
    pid = installed.show(DAEMON, "MainPID")
    with config(installed, "tripwire = 1\n"):
        reload = installed.run("systemctl", "reload", DAEMON, check=False)
    assert reload.returncode != 0
    assert f"{CONFIG}: tripwire" in journal(installed, DAEMON)
    assert installed.show(DAEMON, "MainPID") == pid
    installed.systemctl("reload", DAEMON)


@pytest.mark.parametrize("place", ["/etc/epoll-watchdog/root's", "/root/secret"])
def test_a_reload_fails_where_only_root_could_read_a_secret(installed: Machine, place: str) -> None:
    installed.write_file(place, "http://127.0.0.1:1/", 0o600 if place.startswith("/etc") else 0o644)
    with config(installed, WEBHOOK.format(f'{{ file = "{place}" }}')):
        as_root = installed.run("epoll-watchdog", "check-config", check=False)
        reload = installed.run("systemctl", "reload", DAEMON, check=False)
    installed.run("rm", place)
    assert (as_root.returncode, reload.returncode != 0) == (0, True)
    assert f"{place}: Permission denied" in journal(installed, DAEMON)


def test_a_reload_works_with_a_credential_and_without_procps(installed: Machine) -> None:
    credential = "/etc/epoll-watchdog/credentials/hook-url"
    installed.write_file(credential, "http://127.0.0.1:1/", 0o600)
    with config(installed, WEBHOOK.format('{ credential = "hook-url" }')):
        installed.systemctl("restart", DAEMON)
        installed.run("mv", "/bin/kill", "/bin/kill.away")
        reload = installed.run("systemctl", "reload", DAEMON, check=False)
        installed.run("mv", "/bin/kill.away", "/bin/kill")
        invocation = f"_SYSTEMD_INVOCATION_ID={installed.show(DAEMON, 'InvocationID')}"
        found = ("journalctl", "--quiet", "--output=cat", READ_AGAIN, invocation)
        until(lambda: bool(installed.run(*found, check=False).stdout), 30, f"the new configuration {reload.stderr}")
    installed.run("rm", credential)
    installed.systemctl("restart", DAEMON)
    assert (reload.returncode, reload.stderr) == (0, "")


def test_a_start_with_a_bad_config_fails_for_good(installed: Machine) -> None:
    with config(installed, "max_sick = 0\n"):
        start = installed.run("systemctl", "restart", DAEMON, check=False)
        state = [installed.show(DAEMON, name) for name in ("ActiveState", "ExecMainStatus", "NRestarts", "SubState")]
    ready_again(installed)
    assert start.returncode != 0
    assert state == ["failed", "78", "0", "failed"]
    assert f"{CONFIG}: max_sick" in journal(installed, DAEMON)


def test_it_comes_back_from_a_crash(installed: Machine) -> None:
    pid = installed.show(DAEMON, "MainPID")
    installed.systemctl("kill", "--signal=SEGV", DAEMON)
    until(lambda: installed.show(DAEMON, "MainPID") not in ("0", pid), 30, "another daemon")
    installed.wait_until(DAEMON, timeout=30)
    assert installed.show(DAEMON, "NRestarts") != "0"


def test_it_can_be_restarted_by_hand_too_often_and_that_is_told(installed: Machine) -> None:
    assert installed.show(DAEMON, "StartLimitIntervalUSec") == "10s"
    # They are not enough for eleven starts on a slow machine.
    drop_in = f"/run/systemd/system/{DAEMON}.d/limit.conf"
    installed.write_file(drop_in, "[Unit]\nStartLimitIntervalSec=10min\n")
    installed.systemctl("daemon-reload")
    refused = ""
    try:
        for _ in range(11):
            installed.systemctl("stop", DAEMON)
            refused = installed.run("systemctl", "start", "--no-block", DAEMON, check=False).stderr
            if installed.show(DAEMON, "Result") == "start-limit-hit":
                break
        until(lambda: installed.show(DAEMON, "Result") == "start-limit-hit", 5, f"the limit {refused}")
    finally:
        installed.run("rm", drop_in)
        installed.systemctl("daemon-reload")
        ready_again(installed)


def test_a_stop_of_the_daemon_leaves_the_helpers_socket(installed: Machine) -> None:
    listening = installed.show(SOCKET, "InvocationID")
    installed.systemctl("stop", DAEMON)
    after = installed.show(SOCKET, "ActiveState"), installed.show(SOCKET, "InvocationID")
    installed.systemctl("start", DAEMON)
    assert after == ("active", listening)


def test_a_helper_that_crashes_at_its_start_leaves_the_socket(installed: Machine) -> None:
    drop_in = f"/run/systemd/system/{HELPER}.d/crash.conf"
    installed.write_file(drop_in, "[Service]\nExecStart=\nExecStart=/bin/false\nRestartSec=0\n")
    installed.systemctl("daemon-reload")
    installed.systemctl("stop", HELPER)
    installed.run("systemctl", "start", "--no-block", HELPER)
    until(
        lambda: int(installed.show(HELPER, "NRestarts")) > 8, 60, "more crashes than systemd's own start limit allows"
    )
    state = installed.show(SOCKET, "ActiveState")
    installed.run("rm", drop_in)
    installed.systemctl("daemon-reload")
    installed.wait_until(HELPER, timeout=30)
    assert state == "active"
