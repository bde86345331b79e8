"""The life of an installation: a newer version, what its administrator has stopped, removal, purge, a bad config."""

from __future__ import annotations

from tests.servers import until
from tests.systemd.installed import DAEMON, HELPER, SOCKET, dpkg, newer_package, package
from tests.systemd.machine import Machine

CONFIG = "/etc/epoll-watchdog/config.toml"


def version(machine: Machine) -> str:
    """Of what is installed; empty where dpkg knows of nothing."""
    asked = machine.run("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "epoll-watchdog", check=False)
    return asked.stdout.removeprefix("installed ") if asked.returncode == 0 else ""


def leftovers(machine: Machine) -> list[str]:
    """All files whose names are ours, in what a package may touch."""
    where = ("/etc", "/usr", "/lib", "/var", "/run")
    names = ("-name", "*epoll-watchdog*", "-not", "-path", "*/tests/*")
    found = machine.run("find", *where, "-xdev", *names, check=False).stdout.split()
    return [path for path in found if not path.startswith("/run/host")]


def byte_code(machine: Machine) -> int:
    return len(machine.run("find", "/usr/lib/epoll-watchdog", "-name", "*.pyc", check=False).stdout.split())


def test_an_upgrade_restarts_what_runs_and_leaves_the_socket(changing: Machine) -> None:
    until(lambda: changing.show(HELPER, "ActiveState") == "active", 5, "the helper, whom the daemon has called")
    before = {unit: changing.show(unit, "InvocationID") for unit in (DAEMON, HELPER, SOCKET)}
    stamp = changing.run("stat", "-c", "%Y", "/var/lib/epoll-watchdog/state.db").stdout
    dpkg(changing, "--install", newer_package())
    changing.wait_until(DAEMON)
    after = {unit: changing.show(unit, "InvocationID") for unit in (DAEMON, HELPER, SOCKET)}
    assert version(changing).endswith("-2")
    assert before[DAEMON] != after[DAEMON]
    assert before[HELPER] != after[HELPER]
    assert before[SOCKET] == after[SOCKET]
    assert stamp
    assert byte_code(changing) > 500


def test_what_its_administrator_has_stopped_or_disabled_stays_so(changing: Machine) -> None:
    changing.systemctl("stop", DAEMON)
    changing.systemctl("disable", SOCKET)
    dpkg(changing, "--install", package())
    stopped = changing.show(DAEMON, "ActiveState")
    disabled = changing.run("systemctl", "is-enabled", SOCKET, check=False).stdout.strip()
    changing.systemctl("enable", SOCKET)
    changing.systemctl("start", DAEMON)
    assert (stopped, disabled) == ("inactive", "disabled")


def test_it_runs_again_after_a_removal_that_failed(changing: Machine) -> None:
    prerm = "/var/lib/dpkg/info/epoll-watchdog.prerm"
    changing.run("sed", "-i.before", "$a exit 1", prerm)
    removal = dpkg(changing, "--remove", "epoll-watchdog", check=False)
    states = [changing.show(unit, "ActiveState") for unit in (DAEMON, SOCKET)]
    changing.run("mv", f"{prerm}.before", prerm)
    assert removal.returncode != 0
    assert states == ["active", "active"]


def test_removed_it_runs_no_more_and_keeps_what_is_its_administrators(changing: Machine) -> None:
    changing.write_file("/etc/epoll-watchdog/credentials/kept", "secret\n", 0o600)
    dpkg(changing, "--remove", "epoll-watchdog")
    units = [changing.show(unit, "ActiveState") for unit in (DAEMON, HELPER, SOCKET)]
    processes = changing.run("pgrep", "-fc", "/usr/lib/epoll-watchdog", check=False).stdout.strip()
    kept = changing.run("ls", CONFIG, "/etc/epoll-watchdog/credentials/kept", "/var/lib/epoll-watchdog/state.db")
    gone = changing.run("ls", "/usr/lib/epoll-watchdog", "/run/epoll-watchdog", check=False)
    dpkg(changing, "--install", package())
    assert units == ["inactive"] * 3
    assert processes == "0"
    assert kept.returncode == 0
    assert gone.stdout == ""
    assert changing.show(DAEMON, "ActiveState") == "active"


def test_purged_nothing_of_it_is_left_and_a_bad_config_of_old_keeps_it_from_starting(changing: Machine) -> None:
    changing.write_file("/etc/epoll-watchdog/conf.d/more.toml", "")
    changing.run("rm", "-r", "/usr/lib/epoll-watchdog/lib")  # half removed: no reason to keep the rest
    purge = dpkg(changing, "--purge", "epoll-watchdog")
    left = leftovers(changing)
    assert left == [], purge.stderr
    assert "warning" not in purge.stderr
    changing.write_file(CONFIG, "max_sick = 0\n")
    install = dpkg(changing, "--install", package())
    state = [changing.show(DAEMON, name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")]
    assert state == ["failed", "78", "0"]
    assert f"{CONFIG}: max_sick" in install.stderr
    assert "epoll-watchdog does not run" in install.stderr

    changing.write_file(CONFIG, "")
    changing.run("/var/lib/dpkg/info/epoll-watchdog.postinst", "configure", version(changing))  # as at an upgrade
    assert changing.show(DAEMON, "ActiveState") == "active"
