"""The file probe against real files, and on a disk that hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.hung import hung_mount
from tests.probes.asking import ask
from watchdog import probes
from watchdog.model import Kind, Observation, Plane, Strength
from watchdog.probes import file

NOBODY = 65534


async def look(path: Path, within: float = 60.0, within_s: float = 5.0) -> Observation:
    return await ask("file", file.Settings(path=str(path), within=within), within_s)


@pytest.fixture
def beat(tmp_path: Path) -> Path:
    """A file that was just written."""
    path = tmp_path / "beat"
    path.write_text("1")
    return path


def age(path: Path, seconds: float) -> None:
    """Let the file have been written that long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


async def test_a_file_that_was_just_written_is_alive(beat: Path) -> None:
    found = await look(beat)
    assert found.kind is Kind.ALIVE
    assert found.reason.startswith(f"{beat} is ")


async def test_a_file_that_is_too_old_is_silent(beat: Path) -> None:
    age(beat, 300)
    found = await look(beat)
    assert (found.kind, found.reason) == (Kind.SILENT, f"{beat} is 5m old, expected less than 1m")


async def test_a_file_that_is_written_again_is_alive_again(beat: Path) -> None:
    age(beat, 300)
    before = await look(beat)
    beat.write_text("2")
    assert (before.kind, (await look(beat)).kind) == (Kind.SILENT, Kind.ALIVE)


async def test_what_a_link_leads_to_counts(beat: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(beat)
    age(beat, 300)
    assert (await look(link)).kind is Kind.SILENT


@pytest.mark.parametrize("name", ["nothing", "beat/nothing"], ids=["no file", "no directory"])
async def test_a_file_that_does_not_exist_is_silent(beat: Path, name: str) -> None:
    path = beat.parent / name
    found = await look(path)
    assert (found.kind, found.reason) == (Kind.SILENT, f"{path} does not exist")


async def test_a_file_from_the_future_is_our_own_error(beat: Path) -> None:
    age(beat, -3600)
    found = await look(beat)
    assert found.kind is Kind.ERROR
    assert found.reason.endswith("ahead of now: a clock was set")


async def test_a_clock_that_is_a_little_ahead_is_no_error(beat: Path) -> None:
    age(beat, -5)
    assert (await look(beat)).kind is Kind.ALIVE


async def test_a_link_that_leads_to_itself_is_our_own_error(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    path.symlink_to(path)
    found = await look(path)
    assert (found.kind, found.reason) == (Kind.ERROR, f"{path}: Too many levels of symbolic links")


ASK = """
import asyncio, sys
from watchdog.probes import file
from watchdog.probes.deadline import Deadline

async def main():
    deadline = Deadline(asyncio.get_running_loop().time() + float(sys.argv[2]))
    found = await file.probe(file.Settings(path=sys.argv[1], within=60), None, deadline)
    print(found.kind, found.reason)

asyncio.run(main())
"""


def ask_apart(path: str, within_s: float = 5.0, *before: str) -> str:
    """What the probe says in a process of its own; it must end by itself."""
    argv = [*before, sys.executable, "-c", ASK, path, str(within_s)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_directory_that_we_may_not_enter_is_our_own_error_with_the_remedy() -> None:
    # Not in tmp_path, which only its owner may enter.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "beat").write_text("1")
        Path(directory).chmod(0o010)
        said = ask_apart(
            f"{directory}/beat", 5.0, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"
        )
        Path(directory).chmod(0o700)
    assert said.startswith(f"error may not look at {directory}/beat: ")
    assert '"SupplementaryGroups=root" as a drop-in to epoll-watchdog.service' in said


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """A directory to mount something on."""
    path = tmp_path / "disk"
    path.mkdir()
    return path


async def test_a_disk_that_hangs_is_our_own_error_at_the_deadline(mount: Path) -> None:
    with hung_mount(mount):
        found = await look(mount / "beat", within_s=0.2)
    assert found.kind is Kind.ERROR
    assert found.reason.startswith(f"its disk hangs: {mount}/beat was not looked at in ")


async def test_a_disk_that_hangs_holds_up_no_file_on_another_one(mount: Path, beat: Path) -> None:
    with hung_mount(mount):
        await look(mount / "beat", within_s=0.1)
        found = await look(beat)
    assert found.kind is Kind.ALIVE


def waiting() -> int:
    """How many threads look at a file now."""
    return sum(thread.name == "file probe" for thread in threading.enumerate())


async def test_a_disk_that_hangs_costs_one_thread_and_no_more_also_after_a_reload(mount: Path) -> None:
    with hung_mount(mount):
        await look(mount / "beat", within_s=0.1)
        await look(mount / "beat", within_s=0.1)
        await probes.close()
        await look(mount / "beat", within_s=0.1)
        threads = waiting()
    assert threads == 1


async def test_a_disk_that_hung_is_looked_at_again_once_it_answers(mount: Path) -> None:
    with hung_mount(mount) as give_up:
        await look(mount / "beat", within_s=0.1)
        give_up()
        found = await look(mount / "beat")
    assert found.kind is Kind.ERROR
    assert "hangs" not in found.reason


def test_a_disk_that_hangs_keeps_nobody_from_ending(mount: Path) -> None:
    with hung_mount(mount):
        said = ask_apart(f"{mount}/beat", 0.1)
    assert said.startswith("error its disk hangs")


def test_a_witness_is_as_strong_as_the_settings_say() -> None:
    plain = file.road(file.Settings(path="/x", within=1))
    host = file.road(file.Settings(path="/x", within=1, strength=Strength.HOST))
    assert (plain.plane, plain.strength, host.strength) == (Plane.WITNESS, Strength.PROCESS, Strength.HOST)


@pytest.mark.parametrize(
    ("path", "within", "message"),
    [("x", 1, "no absolute path"), ("/x\0", 1, "NUL"), ("/x", 0, "0s is too short")],
)
def test_settings_are_refused_with_what_would_be_right(path: str, within: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        file.Settings(path=path, within=within)
