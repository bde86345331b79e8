"""Runs in the lab's machine: programs lose wake-ups, clients wait for their answers, and what came of it is told.

`heal NAME TIMES`: one loss after the other, each of which the daemon is to heal. `dark SECONDS NAME...`: a loss in each
program, which nobody is to heal; then a nudge by hand ends it. `spare NAME SECONDS`: wake-ups are to be lost, and none
is. Each prints a line of JSON for each loss, or for each program. `await SECONDS NAME...`: until all are healthy.

Only the standard library: the interpreter is Debian's.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.kernel_lab.programs import NAMED, Program
from tests.servers import until
from tests.stall import Held, connect, kicker

HOOK = Path("/sys/module/eventpoll/parameters")
API = "http://127.0.0.1:9797/api/v1"
LOST_S = 60.0  # s. node, asked often, waits with a time-out most of the time
PAUSE_S = 0.2  # between two questions
SETTLED_S = 30.0  # s that the daemon may take to see that all is well
HEALED_S = 60.0  # s that an answer may take; far more than any did


@dataclass(frozen=True, slots=True)
class Healed:
    """A wake-up that was lost while the daemon guarded, and the incident that it made of it."""

    lost: int
    answered_s: float | None  # from the loss to the answer; None: the client's connection was lost
    verdict: str
    certainty: str
    remedies: list[str]  # in their order
    methods: list[str]  # of nudges, those that were tried
    reasons: list[str]  # of the diagnosis that opened the incident
    error: str = ""


@dataclass(frozen=True, slots=True)
class Dark:
    """A wake-up that was lost while nobody guarded. The call and where it sleeps are the waiting thread's."""

    program: str
    lost: int
    dark: bool  # nobody was answered, neither who was connected before nor who came then
    for_s: float
    call: str
    wchan: str
    answered_after_nudge: bool
    error: str = ""


# --- losing -----------------------------------------------------------------------------------------------------------


def parameter(name: str) -> int:
    """A number of the kernel's hook."""
    return int((HOOK / name).read_text())


@contextmanager
def losing(comm: str, times: int) -> Iterator[None]:
    """Waits of threads of this name are to lose their wake-ups, so many of them."""
    (HOOK / "lose_comm").write_text(comm)
    (HOOK / "lose_left").write_text(str(times))
    try:
        yield
    finally:
        (HOOK / "lose_left").write_text("0")


def lose(program: Program) -> int:
    """Its loop loses one wake-up: it is asked, answers, and waits on no queue. How many were lost."""
    before = parameter("lost_count")
    kick = kicker(program.address, program.conversation[0])

    def lost() -> bool:
        return parameter("lost_count") > before

    def kicked() -> bool:
        with suppress(OSError):
            kick()
        with suppress(TimeoutError):
            until(lost, PAUSE_S, "a loss after this kick")
        return lost()

    with losing(program.comm, 1):
        until(kicked, LOST_S, f"a lost wake-up of {program.name}")
    return parameter("lost_count") - before


@contextmanager
def waiting(program: Program) -> Iterator[tuple[Held, Callable[[], int], int]]:
    """A client that was connected before the loss and has asked since, its descriptor, and how many were lost."""
    with ExitStack() as stack:
        lost = lose(program) if program.times_clients else 0
        sock = stack.enter_context(closing(connect(program.address)))
        client = Held(sock, *program.conversation)
        if not program.times_clients:
            client.ask()
            client.answer(10)
            lost = lose(program)
        client.ask()
        yield client, sock.fileno, lost


# --- with the daemon --------------------------------------------------------------------------------------------------


def incidents(program: Program) -> list[dict[str, Any]]:
    """What the daemon tells of it, newest first."""
    with urlopen(f"{API}/incidents?service={program.name}", timeout=20) as answer:
        found: list[dict[str, Any]] = json.load(answer)["incidents"]
    return found


def heal(program: Program) -> Healed:
    """One loss, and how it ended."""
    before = {incident["id"] for incident in incidents(program)}
    error, answered = "", None
    with waiting(program) as (client, _, lost):
        began = time.monotonic()
        try:
            client.answer(HEALED_S)
            answered = time.monotonic() - began
        except OSError as failure:
            error = f"{type(failure).__name__}: {failure}"
    incident = ended(program, before)
    records = incident.get("timeline", [])
    return Healed(
        lost=lost,
        answered_s=answered,
        verdict=incident.get("verdict", ""),
        certainty=incident.get("certainty", ""),
        remedies=[record["kind"] for record in records if record["kind"] in ("nudged", "restarted")],
        methods=[each["method"] for record in records for each in record["detail"].get("methods", ())],
        reasons=[text for record in records[:1] for text in record["detail"]["reasons"]],
        error=error,
    )


def ended(program: Program, before: set[str]) -> dict[str, Any]:
    """The incident that is not among those before, once it is over; empty where there is none."""
    new: list[dict[str, Any]] = []

    def over() -> bool:
        new[:] = [incident for incident in incidents(program) if incident["id"] not in before]
        return bool(new) and new[0]["closed"] is not None

    with suppress(TimeoutError):
        until(over, SETTLED_S, f"the end of the incident of {program.name}")
    return new[0] if new else {}


def well(names: list[str]) -> bool:
    """Whether the daemon calls each of them healthy, and no incident is open. One that is being started knows none."""
    with suppress(OSError), urlopen(f"{API}/services", timeout=20) as answer:
        views = {view["name"]: view for view in json.load(answer)["services"]}
        return all(views[name]["verdict"] == "healthy" and views[name]["incident"] is None for name in names)
    return False


# --- without it -------------------------------------------------------------------------------------------------------


def dark(seconds: float, programs: list[Program]) -> list[Dark]:
    """A loss in each, and nobody's help for so long; then a nudge by hand."""
    with ExitStack() as stack:
        clients = {program.name: stack.enter_context(waiting(program)) for program in programs}
        began = time.monotonic()
        answered: set[int] = set()
        descriptors = {name: fileno() for name, (_, fileno, _) in clients.items()}
        while (left := began + seconds - time.monotonic()) > 0 and len(answered) < len(programs):
            answered |= set(select.select(set(descriptors.values()) - answered, [], [], left)[0])
        return [
            _ended_by_hand(program, client, lost, descriptors[program.name] not in answered, time.monotonic() - began)
            for program, (client, _, lost) in ((program, clients[program.name]) for program in programs)
        ]


def _ended_by_hand(program: Program, client: Held, lost: int, unanswered: bool, for_s: float) -> Dark:
    call, wchan = _sleeper(program)
    error = ""
    with closing(connect(program.address)) as newcomer:
        other = Held(newcomer, *program.conversation)
        other.ask()
        unheard = not select.select([newcomer], [], [], 0.5)[0]
        subprocess.run(["epoll-watchdog", "nudge", program.unit], check=False, capture_output=True)
        try:
            client.answer(10)
            other.answer(10)
        except OSError as failure:
            error = f"{type(failure).__name__}: {failure}"
    return Dark(program.name, lost, unanswered and unheard, for_s, call, wchan, not error, error)


def _sleeper(program: Program) -> tuple[str, str]:
    """The call and the place of its thread that waits in epoll; of several, the first: the main one."""
    procs = f"/sys/fs/cgroup/system.slice/{program.unit}/cgroup.procs"
    for pid in Path(procs).read_text().split():
        for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda each: int(each.name)):
            call = (task / "syscall").read_text().split()
            if (task / "comm").read_text().strip() == program.comm and call[0] in ("232", "281"):
                return " ".join(call[:1] + call[4:5]), (task / "wchan").read_text()
    return "", ""


# --- nothing to lose --------------------------------------------------------------------------------------------------


def spare(program: Program, seconds: float) -> dict[str, Any]:
    """It is asked again and again, while its wake-ups are to be lost."""
    before = parameter("lost_count")
    asked, deadline = 0, time.monotonic() + seconds
    with losing(program.comm, 1):
        while time.monotonic() < deadline:
            with closing(connect(program.address)) as sock:
                client = Held(sock, *program.conversation)
                client.ask()
                client.answer(10)
            asked += 1
        left = parameter("lose_left")
    return {
        "asked": asked,
        "left": left,
        "lost": parameter("lost_count") - before,
        "incidents": len(incidents(program)),
    }


def main() -> None:
    """As the first argument says."""
    match sys.argv[1:]:
        case ["heal", name, times]:
            for _ in range(int(times)):
                print(json.dumps(asdict(heal(NAMED[name]))), flush=True)
        case ["dark", seconds, *names]:
            for each in dark(float(seconds), [NAMED[name] for name in names]):
                print(json.dumps(asdict(each)))
        case ["await", seconds, *names]:
            until(lambda: well(names), float(seconds), f"all healthy: {names}")
        case ["spare", name, seconds]:
            print(json.dumps(spare(NAMED[name], float(seconds))))


if __name__ == "__main__":
    main()
