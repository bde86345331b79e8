"""Our lines beside a real journald: their fields, and what `journalctl -x` explains of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest

from tests.catalog import FILE
from tests.servers import until
from tests.systemd.machine import PYTHON, REPOSITORY, Machine
from watchdog.messages import MESSAGES, Event
from watchdog.model import RecordKind

PLACE = "/usr/lib/systemd/catalog/epoll-watchdog.catalog"
TELL = """
import atexit, logging, subprocess
from watchdog import log
from watchdog.messages import Event, of_event
from watchdog.model import Record, RecordKind, Severity

# It stays until journald has read whose process it is: of one that is gone nobody knows the unit. The log's own exit
# comes before, for it is registered later.
atexit.register(subprocess.run, ["journalctl", "--sync"], check=True)
log.set_up()
detail = {"verdict": "epoll_stall", "certainty": "confirmed"}
log.record("web", Record(RecordKind.OPENED, 1.0, "it sleeps", "01JINCIDENT", Severity.WARNING, detail))
extra = of_event(Event.LOOP_LATE)
logging.getLogger("watchdog.heart").error("the loop has not run; what each thread does:\\n%s", "a\\nb", extra=extra)
"""


def run_as_unit(machine: Machine, name: str, code: str, *properties: str) -> None:
    """Python code as a service of this name, to its end."""
    options = [f"--property={each}" for each in properties]
    machine.run(
        "systemd-run", "--quiet", "--wait", f"--unit={name}", f"--setenv=PYTHONPATH={REPOSITORY}", *options,
        PYTHON, "-c", code,
    )  # fmt: skip


def entries(machine: Machine, *matches: str) -> list[Mapping[str, str]]:
    """Of the journal, of this boot."""
    said = machine.run("journalctl", "--boot", "--output=json", *matches).stdout
    return [json.loads(line) for line in said.splitlines()]


@pytest.fixture(scope="module")
def told(machine: Machine) -> Iterator[Machine]:
    """A machine that knows our catalog, and in whose journal two lines of ours are."""
    machine.write_file(PLACE, FILE.read_text())
    machine.run("journalctl", "--update-catalog")
    run_as_unit(machine, "teller", TELL)
    last = f"MESSAGE_ID={MESSAGES[Event.LOOP_LATE]}"
    until(lambda: len(entries(machine, last)) == 1, 10, "our last line in the journal")
    yield machine
    machine.run("rm", PLACE)
    machine.run("journalctl", "--update-catalog")


def test_the_catalog_compiles_without_a_complaint(told: Machine) -> None:
    done = told.run("journalctl", "--update-catalog")
    assert (done.stdout, done.stderr) == ("", "")


def test_the_catalog_knows_every_id_of_ours(told: Machine) -> None:
    listed = told.run("journalctl", "--list-catalog").stdout
    ours = [line.split()[0] for line in listed.splitlines() if " epoll-watchdog: " in line]
    assert sorted(ours) == sorted(MESSAGES.values())


def test_a_line_has_its_fields(told: Machine) -> None:
    [entry] = entries(told, "_SYSTEMD_UNIT=teller.service", "WATCHDOG_SERVICE=web")
    assert {name: value for name, value in entry.items() if name.startswith("WATCHDOG_")} == {
        "WATCHDOG_SERVICE": "web",
        "WATCHDOG_KIND": "opened",
        "WATCHDOG_INCIDENT": "01JINCIDENT",
        "WATCHDOG_VERDICT": "epoll_stall",
        "WATCHDOG_CERTAINTY": "confirmed",
        "WATCHDOG_SEVERITY": "warning",
    }
    assert entry["MESSAGE_ID"] == MESSAGES[RecordKind.OPENED]
    assert entry["MESSAGE"] == "web: opened: it sleeps"
    assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == ("4", "epoll-watchdog")


def test_a_line_is_explained_with_its_own_values(told: Machine) -> None:
    said = told.run("journalctl", "--boot", "--catalog", "WATCHDOG_INCIDENT=01JINCIDENT").stdout
    assert "Subject: web is sick: an incident was opened (epoll_stall, confirmed)" in said
    assert "epoll-watchdog diagnose web" in said
    assert "@" not in said


def test_it_is_explained_with_all_fields_shown_too(told: Machine) -> None:
    match = f"MESSAGE_ID={MESSAGES[RecordKind.OPENED]}"
    said = told.run("journalctl", "--boot", "-x", "-o", "verbose", match).stdout
    assert "WATCHDOG_INCIDENT=01JINCIDENT" in said
    assert "Subject: web is sick: an incident was opened (epoll_stall, confirmed)" in said


def test_a_line_of_several_lines_is_one_entry(told: Machine) -> None:
    [entry] = entries(told, "WATCHDOG_KIND=loop_late")
    assert entry["MESSAGE"].splitlines()[1:] == ["a", "b"]
