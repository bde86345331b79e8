"""A service that is known by its executable, its words and its user, among real processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helper.nobody import NOBODY, become_nobody
from tests.servers import until
from tests.target.sleepers import sleeping
from watchdog.helper import worker
from watchdog.model import Epoch
from watchdog.target import (
    CantLook,
    Gone,
    Match,
    NeverATarget,
    NotOfService,
    SeveralFit,
    Target,
    find,
    match_epoch,
    processes,
    start_time,
)
from watchdog.target.match import _among, check_fits

CHILD = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"


@pytest.fixture
def program() -> Iterator[Path]:
    """An executable that nobody else runs, and everybody may: it sleeps."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(shutil.copy("/bin/sleep", f"{directory}/sleeper"))


def fits(program: Path, *args: str, user: str | None = None) -> Match:
    return Match(exe=str(program), args=args, user=user)


def epoch(pid: int) -> Epoch:
    return Epoch(pid, start_time(pid))


def test_a_process_is_known_by_its_executable(program: Path) -> None:
    with sleeping(program=program) as pid:
        assert match_epoch(fits(program)) == epoch(pid)
    assert match_epoch(fits(program)) is None


def test_an_executable_may_be_named_by_a_link_to_it(program: Path) -> None:
    link = program.with_name("link")
    link.symlink_to(program)
    with sleeping(program=program) as pid:
        assert match_epoch(fits(link)) == epoch(pid)


def test_after_an_upgrade_the_old_program_still_fits(program: Path) -> None:
    with sleeping(program=program) as pid:
        Path(shutil.copy("/bin/true", program.with_name("new"))).rename(program)
        assert match_epoch(fits(program)) == epoch(pid)


def test_words_tell_one_from_another_in_their_order(program: Path) -> None:
    with sleeping("1", "2", program=program) as one, sleeping("2", "1", program=program) as two:
        assert match_epoch(fits(program, "1", "2")) == epoch(one)
        assert match_epoch(fits(program, "2", "1")) == epoch(two)
        assert match_epoch(fits(program, "1", "1")) is None


def test_a_title_that_the_program_wrote_itself_is_read_as_words(program: Path) -> None:
    argv = ["sleeper: 300 -g daemon on;"]  # argv[0] alone, as nginx leaves it
    code = f"import os; os.execv({sys.executable!r}, {[*argv, '-c', 'import time; time.sleep(300)']!r})"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            until(lambda: b"daemon" in Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[0], 10, "exec")
            match = Match(exe=os.path.realpath(sys.executable), args=("sleeper:", "-g", "daemon on;"))
            assert match_epoch(match) == epoch(process.pid)
        finally:
            process.kill()


def test_users_are_told_apart_by_name_and_by_number(program: Path) -> None:
    with sleeping(program=program) as roots, sleeping(program=program, user=NOBODY) as nobodys:
        assert match_epoch(fits(program, user="root")) == epoch(roots)
        assert match_epoch(fits(program, user="nobody")) == epoch(nobodys)
        assert match_epoch(fits(program, user=str(NOBODY))) == epoch(nobodys)
        assert match_epoch(fits(program, user="4242")) is None


def test_a_user_that_nobody_is_is_told(program: Path) -> None:
    with pytest.raises(CantLook, match="nobody here is called 'no-such-user'"):
        match_epoch(fits(program, user="no-such-user"))


def test_where_several_fit_none_is_meant_and_they_are_named_with_what_to_add(program: Path) -> None:
    with sleeping(program=program) as one, sleeping(program=program) as two:
        with pytest.raises(SeveralFit, match=f"2 processes run {program}: {one}, {two}") as raised:
            match_epoch(fits(program))
        assert "args or user" in raised.value.hint
        assert match_epoch(fits(program), never={one}) == epoch(two)


@contextlib.contextmanager
def family(program: Path, *between: str) -> Iterator[tuple[int, int]]:
    """A process of the program, and one that descends from it, with `between` between them."""
    python = program.with_name("python")
    python.symlink_to(sys.executable)
    argv = [str(python), "-c", CHILD, *between, str(python), "-c", "import time; print(flush=True); time.sleep(300)"]
    with subprocess.Popen(argv, process_group=0, stdout=subprocess.PIPE) as first:
        try:
            assert first.stdout is not None
            first.stdout.readline()
            below = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
            yield first.pid, int(below[0])
        finally:
            os.killpg(first.pid, 9)


@pytest.mark.parametrize("between", [(), ("sh", "-c", '"$@"; true', "sh")])
def test_of_those_that_descend_from_each_other_the_first_is_meant(program: Path, between: tuple[str, ...]) -> None:
    with family(program, *between) as (first, _):
        match = Match(exe=os.path.realpath(sys.executable), args=(str(program.with_name("python")),))
        assert match_epoch(match) == epoch(first)


def test_the_descendants_are_the_service_s_too(program: Path) -> None:
    with family(program) as (first, below):
        match = Match(exe=os.path.realpath(sys.executable), args=(str(program.with_name("python")),))
        found = processes(Target(process=match), epoch(first))
    assert [each.pid for each in found] == [first, below]


def test_a_zombie_does_not_fit(program: Path) -> None:
    with subprocess.Popen([program, "300"]) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert match_epoch(fits(program)) is None


def test_a_kernel_thread_never_fits() -> None:
    assert Path("/proc/2/comm").read_text() == "kthreadd\n"
    with pytest.raises(NotOfService):
        check_fits(Match(exe=""), 2)


def test_a_process_that_became_another_program_is_not_the_service_s_any_more(program: Path) -> None:
    become = program.with_name("become")
    with subprocess.Popen([program, "300"]) as process:
        found = epoch(process.pid)
        other = fits(become)
        try:
            with pytest.raises(NotOfService, match=f"process {process.pid} does not run {become}"):
                processes(Target(process=other), found)
        finally:
            process.kill()
    with pytest.raises(Gone):
        processes(Target(process=other), found)


def test_who_may_not_read_what_others_run_does_not_say_that_there_is_none(program: Path) -> None:
    def ask(match: Match) -> str:
        become_nobody()
        try:
            return repr(match_epoch(match))
        except CantLook as refusal:
            return str(refusal)

    with sleeping("41", program=program), sleeping("42", program=program, user=NOBODY) as nobodys:
        hidden = worker.run(lambda: ask(fits(program, "41")), 10).value
        own = worker.run(lambda: ask(fits(program, "42")), 10).value
        nobody_else_s = worker.run(lambda: ask(fits(program, "41", user="nobody")), 10).value
        assert own == repr(epoch(nobodys))
    assert hidden == f"no process is known to run {program} 41; what 1 other runs that might, only root may read"
    assert nobody_else_s == "None"


def test_a_process_in_another_pid_namespace_fits_by_what_it_runs(program: Path) -> None:
    argv = ["unshare", "--pid", "--fork", "--kill-child", str(program), "300"]
    with subprocess.Popen(argv) as process:
        try:
            until(lambda: match_epoch(fits(program)) is not None, 10, "the process")
            found = match_epoch(fits(program))
            assert found is not None
            assert "NSpid:" in (status := Path(f"/proc/{found.pid}/status").read_text())
            assert status.partition("NSpid:")[2].split("\n")[0].split() == [str(found.pid), "1"]
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["dbus.service", "systemd-logind.service", "init.scope", "epoll-watchdog.service"])
def test_what_the_host_stands_on_is_refused_whatever_it_runs(program: Path, cgroup: Path, name: str) -> None:
    with sleeping(program=program) as pid:
        (cgroup / name).mkdir()
        (cgroup / name / "cgroup.procs").write_text(str(pid))
        found = epoch(pid)
        why = f"process {pid} is of {name}, which is never touched"
        with pytest.raises(NeverATarget, match=why):
            find(Target(process=fits(program)))
        with pytest.raises(NeverATarget, match=why):
            processes(Target(process=fits(program)), found)


def test_a_service_that_runs_what_the_watchdog_runs_too_is_found_beside_it(program: Path, cgroup: Path) -> None:
    with sleeping(program=program) as brain, sleeping(program=program) as service:
        (cgroup / "epoll-watchdog.service").mkdir()
        (cgroup / "epoll-watchdog.service" / "cgroup.procs").write_text(str(brain))
        assert match_epoch(fits(program)) == epoch(service)


def test_a_service_with_a_descendant_that_the_host_stands_on_is_refused_as_a_whole(program: Path, cgroup: Path) -> None:
    with family(program) as (first, below):
        (cgroup / "dbus.service").mkdir()
        (cgroup / "dbus.service" / "cgroup.procs").write_text(str(below))
        match = Match(exe=os.path.realpath(sys.executable), args=(str(program.with_name("python")),))
        with pytest.raises(NeverATarget, match=f"process {below} is of dbus.service"):
            processes(Target(process=match), epoch(first))


@given(st.lists(st.binary(max_size=3), max_size=6), st.data())
def test_words_that_were_taken_from_a_line_in_order_are_found_in_it(line: list[bytes], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(line), max_size=len(line)))
    assert _among([word for word, keep in zip(line, kept, strict=True) if keep], line)
    assert not _among([*line, b"more"], line)
