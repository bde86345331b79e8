"""The channel exec with real commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.letters import letter
from tests.servers import runs
from tests.spared import spared
from watchdog.alerts import CHANNELS, webhook
from watchdog.alerts import exec as channel
from watchdog.alerts.delivery import Delivered, Failed


def script(text: str, **settings: Any) -> channel.Exec:
    """A channel that runs this in a shell."""
    return channel.Exec(channel.Settings(command=("/bin/sh", "-c", text), **{"timeout": 10.0, **settings}))


async def result(text: str, **settings: Any) -> Delivered | Failed:
    return await script(text, **settings).send(letter())


async def test_the_event_is_on_its_input(tmp_path: Path) -> None:
    opened = script(f"cat > {tmp_path}/event")

    assert await opened.send(letter()) == Delivered()

    assert (tmp_path / "event").read_bytes() == webhook.body(letter(), opened._host)
    assert json.loads((tmp_path / "event").read_bytes())["service"] == "ravendb"


async def test_an_event_that_nobody_reads_is_no_failure() -> None:
    big = letter(payload={"text": "x" * 1_000_000})

    assert await script("exit 0").send(big) == Delivered()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("exit 75", Failed(retry=True, error="the command ended with 75")),
        ("exit 1", Failed(retry=False, error="the command ended with 1")),
        ("echo first; echo last >&2; exit 2", Failed(retry=False, error='the command ended with 2 ("last")')),
        ("kill -9 $$", Failed(retry=False, error="the command was killed: Killed")),
    ],
)
async def test_the_exit_code_tells_whether_another_attempt_makes_sense(text: str, told: Failed) -> None:
    assert await result(text) == told


async def test_what_it_says_is_one_bounded_line() -> None:
    told = await result(r"head -c 50000 /dev/zero | tr '\0' x; printf 'a\033[31m\tb\rc'; exit 1")

    assert isinstance(told, Failed)
    assert told.error.isprintable()
    assert len(told.error) < 300


async def test_a_flood_of_output_takes_no_memory_and_is_no_failure() -> None:
    assert await result("head -c 100000000 /dev/zero; exit 0") == Delivered()


async def test_a_command_that_is_too_late_is_killed_with_what_it_started(tmp_path: Path) -> None:
    began = asyncio.get_running_loop().time()

    told = await result(f"sleep 1000 & echo $! > {tmp_path}/pid; sleep 1000", timeout=3)

    assert told == Failed(retry=True, error="the command did not end within 3s and was killed")
    assert asyncio.get_running_loop().time() - began < 20.0
    await gone(int((tmp_path / "pid").read_text()))


async def gone(pid: int) -> None:
    """Wait until a process has ended, which is not our child."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        assert await asyncio.to_thread(ended.poll, 5000)
        os.close(descriptor)


async def test_a_daemon_that_stops_leaves_no_command_behind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pid")
    told = os.open(tmp_path / "pid", os.O_RDWR)  # so that nobody waits for the other end
    written = select.poll()
    written.register(told, select.POLLIN)
    sending = asyncio.create_task(script(f"echo $$ > {tmp_path}/pid; sleep 1000").send(letter()))
    assert await asyncio.to_thread(written.poll, 30_000)
    pid = int(os.read(told, 64))
    os.close(told)

    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    assert not runs(pid)


OURS = """
import asyncio, sys, warnings
sys.path.insert(0, sys.argv[2])
warnings.simplefilter("ignore")
from tests.alerts.letters import letter
from watchdog.alerts import exec as channel
root = "import os, time; os.setresuid(0, 0, 0); time.sleep(2)"
command = (sys.argv[1], "-I", "-S", "-c", root)
print(asyncio.run(channel.Exec(channel.Settings(command=command, timeout=1.0)).send(letter())).error)
"""


def test_a_command_that_took_other_rights_is_too_late_and_no_fault() -> None:
    with tempfile.TemporaryDirectory(prefix="setuid", dir="/tmp") as directory:
        python = Path(shutil.copy("/usr/bin/python3", f"{directory}/python"))
        for path, mode in ((python, 0o4710), (Path(directory), 0o710)):  # for nobody else on this machine
            os.chown(path, 0, 65534)
            path.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", OURS, str(python), str(Path(__file__).parents[2])],
            user=65534,
            group=65534,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.stdout.startswith("the command did not end within 1s"), done.stderr


async def test_what_it_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    assert await result(f"sleep 1000 & echo $! > {tmp_path}/pid; exit 0", timeout=5.0) == Delivered()

    pid = int((tmp_path / "pid").read_text())
    assert runs(pid)
    os.kill(pid, signal.SIGKILL)


async def test_it_gets_nothing_of_our_environment_nor_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "SECRET-OF-OURS")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/epoll-watchdog")

    assert await result(f"env > {tmp_path}/env; ls /proc/self/fd > {tmp_path}/fds; pwd > {tmp_path}/at") == Delivered()

    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names <= {"PATH", "LANG", "PWD", "SHLVL", "_", "OLDPWD"}
    assert len((tmp_path / "fds").read_text().split()) == 4  # and the one that ls reads by
    assert (tmp_path / "at").read_text() == "/\n"


RUN = """
import asyncio, sys
from tests.alerts.letters import letter
from watchdog.alerts import exec as channel

command = ("/bin/sh", "-c", "read score </proc/self/oom_score_adj; echo $score; exit 1")
print(asyncio.run(channel.Exec(channel.Settings(command=command)).send(letter())).error)
"""


@pytest.mark.parametrize(("ours", "its"), [(-900, 0), (0, 0), (200, 200)])
def test_where_memory_runs_out_it_is_not_spared_as_the_daemon_is(ours: int, its: int) -> None:
    assert spared(ours, RUN) == f'the command ended with 1 ("{its}")\n'


async def test_signals_are_as_a_shell_would_leave_them() -> None:
    told = await result("grep ^SigIgn: /proc/self/status; exit 1")

    assert isinstance(told, Failed)
    # 32 and 33 are the C library's own: its posix_spawn() leaves them ignored, as make's children have them.
    assert int(re.findall(r"[0-9a-f]{16}", told.error)[0], 16) & ~(1 << 31 | 1 << 32) == 0


@pytest.mark.parametrize(
    ("mode", "told"), [(None, "No such file or directory"), (0o644, "Permission denied"), (0o755, "Exec format error")]
)
async def test_a_command_that_can_not_be_run_is_told(mode: int | None, told: str, tmp_path: Path) -> None:
    program = tmp_path / "alert"
    if mode is not None:
        program.write_bytes(b"no program")
        program.chmod(mode)

    sent = await channel.Exec(channel.Settings(command=(str(program), "ARGUMENT-SECRET"))).send(letter())

    assert sent == Failed(retry=False, error=f"the command cannot be run: {told}")


async def test_no_argument_shows_in_logs_or_errors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    shown = [
        repr(await result(f": ARGUMENT-SECRET; {end}", timeout=0.3)) for end in ("exit 1", "sleep 9", "kill -6 $$")
    ]

    assert all("Failed" in text for text in shown)
    assert "ARGUMENT-SECRET" not in "\n".join([*shown, caplog.text])


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ((), "command: is empty"),
        (("alert",), 'command: "alert" is no absolute path'),
        (("/a", "b\0"), "command: holds"),
    ],
)
def test_wrong_settings_are_refused(command: tuple[str, ...], told: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (its text is looked at)
        CHANNELS["exec"].settings(command=command)
    assert str(refused.value).startswith(told)
