"""Captures, by commands that leave the process stopped as a debugger does that was killed, and by those that don't."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helper.nobody import NOBODY
from tests.helper.victims import state_of, time_out_once_stopped, until
from watchdog.hands import PATIENCE as PATIENCE_OF_THE_BRAIN
from watchdog.helper import command
from watchdog.helper.capture import capture
from watchdog.helper.limits import CONTINUES_WITHIN, DEADLINE, LET_GO_WITHIN, PATIENCE, STOPS_WITHIN
from watchdog.helper.verbs import VERBS
from watchdog.model import Epoch, Outcome
from watchdog.target import Gone, Target, start_time

ROOT = Path(__file__).parents[2]
STOPS = ("sh", "-c", "kill -STOP $1; exec sleep 1000", "capture", "{pid}")
# PTRACE_ATTACH (16), and never waited for: as when a debugger is killed at once.
ATTACHES = (
    sys.executable,
    "-c",
    "import ctypes, sys, time; ctypes.CDLL(None).ptrace(16, int(sys.argv[1]), 0, 0); time.sleep(1000)",
    "{pid}",
)


@contextmanager
def sleeping(user: int | None = None) -> Iterator[Path]:
    """A process in /proc, in a session of its own: within one, everybody may send SIGCONT (kill(2))."""
    with subprocess.Popen(["sleep", "1000"], user=user, start_new_session=True) as process:
        try:
            until(lambda: state_of(Path(f"/proc/{process.pid}")) == "S", "asleep")
            yield Path(f"/proc/{process.pid}")
        finally:
            process.kill()


@pytest.fixture
def sleeper() -> Iterator[Path]:
    with sleeping() as process:
        yield process


def guarded(sleeper: Path, directory: Path, *argv: str) -> tuple[Target, Epoch]:
    """The service of which this is the main process, captured so."""
    pidfile = directory / "service.pid"
    pidfile.write_text(sleeper.name)
    return Target(pidfile=str(pidfile), capture=argv), Epoch(int(sleeper.name), start_time(int(sleeper.name)))


@pytest.mark.parametrize("argv", [STOPS, ATTACHES])
def test_a_capture_that_was_killed_leaves_no_process_stopped(
    sleeper: Path, tmp_path: Path, argv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_wait", time_out_once_stopped(int(sleeper.name)))
    done = capture(*guarded(sleeper, tmp_path, *argv))
    until(lambda: state_of(sleeper) == "S", "it goes on")
    assert done.outcome is Outcome.TIMED_OUT
    assert done.reason.endswith(f"; it left process {sleeper.name} stopped, so it was let go on by SIGCONT")
    assert (done.detail["left_stopped"], done.detail["continued"]) == (True, True)


# --- whose helper was killed ------------------------------------------------------------------------------------------

CAPTURE = """if True:
    import json, sys
    from watchdog.helper.capture import capture
    from watchdog.model import Epoch
    from watchdog.target import Target
    pidfile, command, pid, began, directory = json.loads(sys.argv[1])
    target = Target(pidfile=pidfile, capture=tuple(command))
    capture(target, Epoch(pid, began), service="orphaned", directory=directory)
"""


@pytest.fixture
def orphaned(sleeper: Path, tmp_path: Path) -> Path:
    """A process that a capture has stopped whose helper was killed, and the debugger too; the record of it."""
    target, epoch = guarded(sleeper, tmp_path, *STOPS)
    given = json.dumps([target.pidfile, target.capture, epoch.pid, epoch.start_time, str(tmp_path / "capturing")])
    with subprocess.Popen([sys.executable, "-c", CAPTURE, given]) as helper:
        until(lambda: state_of(sleeper) == "T", "stopped")
        children = Path(f"/proc/{helper.pid}/task/{helper.pid}/children").read_text().split()
        helper.kill()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    return tmp_path / "capturing" / f"{epoch.pid}-{epoch.start_time}"


def let_go_on(place: Path, bus: str = "") -> subprocess.CompletedProcess[str]:
    """What systemd runs when the helper has ended; `bus` is where it finds that no unit goes on."""
    words = [sys.executable, "-P", "-m", "watchdog.helper", "--thaw", "--ledger", str(place / "ledger.json")]
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus or "unix:path=/nowhere"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=30)


def test_where_nobody_tells_whether_the_capture_goes_on_its_process_is_not_touched(
    orphaned: Path, sleeper: Path, tmp_path: Path
) -> None:
    done = let_go_on(tmp_path)
    assert done.returncode == 1
    assert f"process {sleeper.name} may be stopped by a capture still: whether the capture goes on" in done.stderr
    assert (state_of(sleeper), orphaned.exists()) == ("T", True)


@pytest.mark.parametrize(
    "told", [{"boot_id": "another"}, {"pid": 1}, {"service": None}, {"start_time": "0"}, {"start_time": True}]
)
def test_by_a_record_that_tells_anything_else_nobody_gets_a_signal(
    orphaned: Path, sleeper: Path, tmp_path: Path, told: dict[str, object]
) -> None:
    orphaned.write_text(json.dumps(json.loads(orphaned.read_text()) | told))
    assert let_go_on(tmp_path).returncode == 0
    assert (state_of(sleeper), orphaned.exists()) == ("T", False)


def test_a_capture_that_came_to_its_end_leaves_no_record(sleeper: Path, tmp_path: Path) -> None:
    records = tmp_path / "capturing"
    seen = tmp_path / "seen"
    argv = ("sh", "-c", "ls $1 >$2", "capture", str(records), str(seen))
    capture(*guarded(sleeper, tmp_path, *argv), service="it", directory=str(records))
    assert (seen.read_text().startswith(f"{sleeper.name}-"), list(records.iterdir())) == (True, [])


def test_a_capture_that_can_t_be_recorded_is_not_begun(sleeper: Path, tmp_path: Path) -> None:
    argv = ("touch", str(tmp_path / "ran"))
    done = capture(*guarded(sleeper, tmp_path, *argv), directory=str(tmp_path / "no" / "such"))
    assert (done.outcome, (tmp_path / "ran").exists()) == (Outcome.REFUSED, False)


def test_a_capture_s_worker_is_given_all_the_time_that_its_steps_may_take() -> None:
    longest = DEADLINE + PATIENCE + LET_GO_WITHIN + STOPS_WITHIN + CONTINUES_WITHIN + PATIENCE
    assert VERBS["capture"].timeout > longest
    asked = {name: verb for name, verb in VERBS.items() if not verb.root}  # of the others, the brain asks for none
    assert all(PATIENCE_OF_THE_BRAIN[name] > verb.timeout for name, verb in asked.items())


def test_a_process_that_was_stopped_before_stays_so(sleeper: Path, tmp_path: Path) -> None:
    os.kill(int(sleeper.name), signal.SIGSTOP)
    until(lambda: state_of(sleeper) == "T", "stopped")
    done = capture(*guarded(sleeper, tmp_path, *STOPS), command_deadline=0.1)
    assert (done.outcome, "left_stopped" in done.detail) == (Outcome.TIMED_OUT, False)
    assert state_of(sleeper) == "T"


def test_a_capture_that_stops_nobody_tells_of_no_stop(sleeper: Path, tmp_path: Path) -> None:
    done = capture(*guarded(sleeper, tmp_path, "sleep", "1000"), command_deadline=0.1)
    assert done.reason == "the capture command did not end within 0.1 s and was killed: it said nothing"


def test_a_process_that_ends_meanwhile_is_nobody_s_fault(sleeper: Path, tmp_path: Path) -> None:
    done = capture(*guarded(sleeper, tmp_path, "sh", "-c", "kill -KILL $1; exit 3", "capture", "{pid}"))
    assert done.reason == "the capture command ended with 3: it said nothing"


def test_where_the_process_may_not_be_let_go_on_that_is_told(tmp_path: Path) -> None:
    """As the helper is, without CAP_KILL, and with the service of another user."""
    code = """if True:
        import dataclasses, json, sys
        from tests.helper.victims import time_out_once_stopped
        from watchdog.helper import command
        from watchdog.helper.capture import capture
        from watchdog.model import Epoch
        from watchdog.target import Target
        pidfile, capture_command, pid, began = json.loads(sys.argv[1])
        target = Target(pidfile=pidfile, capture=tuple(capture_command))
        command._wait = time_out_once_stopped(pid)
        print(json.dumps(dataclasses.asdict(capture(target, Epoch(pid, began)))))
    """
    powers = ("setpriv", "--bounding-set=-kill", "--inh-caps=-all")
    with sleeping(user=NOBODY) as process:
        target, epoch = guarded(process, tmp_path, *ATTACHES)
        given = json.dumps([target.pidfile, target.capture, epoch.pid, epoch.start_time])
        argv = [*powers, sys.executable, "-c", code, given]
        said = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True).stdout
        state = state_of(process)
    done = json.loads(said)
    assert state == "T"
    assert f"left process {epoch.pid} stopped, and to let it go on is not permitted here: `kill" in done["reason"]
    assert done["detail"]["continued"] is False


def test_a_process_that_is_none_of_the_service_is_not_captured(sleeper: Path, tmp_path: Path) -> None:
    target, _ = guarded(sleeper, tmp_path, "touch", str(tmp_path / "ran"))
    with pytest.raises(Gone, match="not"):
        capture(target, Epoch(os.getpid(), start_time(os.getpid())))
    assert not (tmp_path / "ran").exists()


def test_a_service_without_a_capture_command_is_refused(sleeper: Path, tmp_path: Path) -> None:
    assert capture(*guarded(sleeper, tmp_path)).outcome is Outcome.REFUSED
