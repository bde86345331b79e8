"""A service that is named by its cgroup, among real cgroups."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helper.nobody import become_nobody
from tests.target.sleepers import UNIFIED, inside
from watchdog.helper import worker
from watchdog.model import Epoch
from watchdog.target import CantLook, NeverATarget, NotOfService, SeveralCgroups, Target, find, processes, start_time
from watchdog.target import cgroup as cgroup_room

PARENT = "import subprocess, sys; p = subprocess.Popen(['sleep', '300']); print(p.pid, flush=True); p.wait()"


def target(cgroup: Path, below: str = "") -> Target:
    return Target(cgroup=f"/{cgroup.relative_to(UNIFIED)}{below}")


def epoch(pid: int) -> Epoch:
    return Epoch(pid, start_time(pid))


def test_the_processes_are_all_in_it_and_below(cgroup: Path) -> None:
    with inside(cgroup / "web.scope") as one, inside(cgroup / "web.scope/workers") as two, inside(cgroup / "other"):
        found = processes(target(cgroup, "/web.scope"), epoch(two))
    assert [each.pid for each in found] == [two, one]


@pytest.mark.parametrize("path", ["/web-*.scope", "/web-?1.scope", "/*/", "/web-[0-9a-f][0-9a-f]*"])
def test_a_path_may_leave_open_what_changes(cgroup: Path, path: str) -> None:
    with inside(cgroup / "web-a1.scope") as pid:
        (cgroup / "web-b1.scope").mkdir()  # left behind, with nobody in it
        assert find(target(cgroup, path.rstrip("/"))) == epoch(pid)


def test_nothing_that_is_left_open_reaches_over_a_slash(cgroup: Path) -> None:
    with inside(cgroup / "a/b.scope"):
        assert find(target(cgroup, "/*.scope")) is None


def test_no_such_cgroup_and_an_empty_one_have_no_process(cgroup: Path) -> None:
    assert find(target(cgroup, "/none")) is None
    (cgroup / "empty").mkdir()
    assert find(target(cgroup, "/empty")) is None


def test_where_several_fit_none_is_meant_and_they_are_named(cgroup: Path) -> None:
    with inside(cgroup / "web-1.scope") as one, inside(cgroup / "web-2.scope"):
        named = f"/{cgroup.name}/web-1.scope, /{cgroup.name}/web-2.scope"
        with pytest.raises(SeveralCgroups, match=f"2 cgroups fit /{cgroup.name}/web-.*: {named}"):
            find(target(cgroup, "/web-*.scope"))
        with pytest.raises(SeveralCgroups):
            processes(target(cgroup, "/web-*.scope"), epoch(one))


def test_the_main_process_is_the_oldest_whose_parent_is_outside(cgroup: Path) -> None:
    """As `docker exec` adds a younger one, and a process may be moved in that is older than its parent's move."""
    web = cgroup / "web.scope"
    web.mkdir()
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as main:
        try:
            assert main.stdout is not None
            child = main.stdout.readline().strip()
            for pid in (child, str(main.pid)):
                (web / "cgroup.procs").write_text(pid)
            with inside(web):
                assert find(target(cgroup, "/web.scope")) == epoch(main.pid)
        finally:
            subprocess.run(["kill", "-9", child], check=False)
            main.kill()


def test_a_process_of_another_cgroup_is_not_the_service_s(cgroup: Path) -> None:
    with inside(cgroup / "web.scope"), inside(cgroup / "other.scope") as other:
        shown = f"process {other} is not in cgroup /{cgroup.name}/web.scope: its own is /{cgroup.name}/other.scope"
        with pytest.raises(NotOfService, match=shown):
            processes(target(cgroup, "/web.scope"), epoch(other))


def test_it_is_found_without_any_right(cgroup: Path) -> None:
    def ask() -> str:
        become_nobody()
        return repr(find(target(cgroup, "/web.scope")))

    with inside(cgroup / "web.scope") as pid:
        assert worker.run(ask, 10).value == repr(epoch(pid))


def test_without_cgroup_v2_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup_room, "cgroup_mounts", lambda: iter([("name=systemd", "/", "/sys/fs/cgroup/systemd")]))
    with pytest.raises(CantLook, match="no cgroup v2 is mounted here"):
        find(Target(cgroup="/web.scope"))


@pytest.mark.parametrize("mounted", ["", "/part"])
def test_the_path_is_the_kernel_s_wherever_the_tree_is_mounted(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch, mounted: str
) -> None:
    """Of a mount of a part of the tree, as in some containers, the fourth field of mountinfo tells which it is."""
    root = f"/{cgroup.name}{mounted}"
    monkeypatch.setattr(cgroup_room, "cgroup_mounts", lambda: iter([("", root, f"{cgroup}{mounted}")]))
    with inside(cgroup / "part/web.scope") as pid:
        assert find(target(cgroup, "/part/web.scope")) == epoch(pid)
        assert find(Target(cgroup="/part/web.scope")) is None


# --- what is never touched --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dbus.service", "init.scope", "systemd-journald.service", "epoll-watchdog.service"])
def test_a_cgroup_that_holds_what_the_host_stands_on_is_refused_as_a_whole(cgroup: Path, name: str) -> None:
    with inside(cgroup / "web.service") as pid:
        (cgroup / name).mkdir()  # also while nobody is in it
        main = epoch(pid)
        with pytest.raises(NeverATarget, match=f"{name}, which is never touched"):
            find(target(cgroup))
        with pytest.raises(NeverATarget, match=f"{name}, which is never touched"):
            processes(target(cgroup), main)
        assert find(target(cgroup, "/web.service")) == epoch(pid)


@pytest.mark.parametrize("path", ["/dbus.service", "/*.service", "/*/udev"])
def test_a_path_through_what_the_host_stands_on_is_refused(cgroup: Path, path: str) -> None:
    with inside(cgroup / "dbus.service/udev"), pytest.raises(NeverATarget, match=r"dbus\.service"):
        find(target(cgroup, path))


@pytest.mark.parametrize("own", [".", "below/us"])
def test_a_cgroup_that_the_watchdog_is_in_is_refused(cgroup: Path, own: str) -> None:
    (cgroup / own).mkdir(parents=True, exist_ok=True)

    def ask() -> str:
        (cgroup / own / "cgroup.procs").write_text("0")  # 0: who writes
        try:
            return repr(find(target(cgroup)))
        except NeverATarget as refusal:
            return str(refusal)

    with inside(cgroup / "web.scope") as pid:
        assert worker.run(ask, 10).value == f"the watchdog itself is in cgroup /{cgroup.name}"
        assert find(target(cgroup)) == epoch(pid)


def test_the_container_of_a_neighbour_s_systemd_is_refused_but_not_the_service_in_it(cgroup: Path) -> None:
    machine = cgroup / "systemd-nspawn@web.service/payload"
    with inside(machine / "init.scope"), inside(machine / "system.slice/web.service") as pid:
        with pytest.raises(NeverATarget, match=r"init\.scope"):
            find(target(machine))
        assert find(target(machine, "/system.slice/web.service")) == epoch(pid)
