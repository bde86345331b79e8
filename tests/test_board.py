from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.drive import Story
from tests.simulated import SERVICE, SimulatedHands, SimulatedLook, World
from watchdog import board as board_module
from watchdog.alerts.routing import Routing
from watchdog.board import AT_LEAST, FEW, Board
from watchdog.config import Channel, Config, Http
from watchdog.guard import Guard
from watchdog.history import HOURS
from watchdog.metrics import Metrics
from watchdog.model import (
    Action,
    Certainty,
    Diagnosis,
    Kind,
    Policy,
    Record,
    RecordKind,
    RestartOutlook,
    Rung,
    Severity,
    Verdict,
)
from watchdog.outlook import Outlooks
from watchdog.reading import Advisory, Family, Queue, Queues
from watchdog.store import Store, StoreUnwritable
from watchdog.target import Target
from watchdog.web.view import Unavailable
from watchdog.window import Window


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def store(tmp_path: Path, world: World) -> AsyncIterator[Store]:
    store = Store(tmp_path, world.clock, deadline=30)
    yield store
    await store.close()


@pytest.fixture
def board(tmp_path: Path, world: World, store: Store, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(board_module, "HOLD_FILE", tmp_path / "hold")
    config = Config(
        files=(),
        services={},
        channels={"ops": Channel(name="ops", type="webhook", settings=Routing())},
        http=Http(),
        state_directory=tmp_path,
        max_sick=None,
        warnings=(),
    )
    return Board(config, store, world.clock, Metrics(), lambda: True)


def guard(board: Board, world: World, name: str, story: Story | None = None) -> Guard:
    """A guard in the state that a story led to."""
    service = replace(SERVICE, name=name, labels={"team": "storage"}, annotations={"runbook_url": "r"})
    made = Guard(service, SimulatedLook(world), SimulatedHands(world), board._store, world.clock, board)  # type: ignore[arg-type]
    made.state = story.state if story is not None else made.state
    board.guards[name] = made
    return made


def sick(now: float = 1000.0) -> Story:
    return Story(now=now).healthy().look(Verdict.EPOLL_STALL, times=3)


def test_the_services_sick_at_once_are_counted_this_one_included(board: Board, world: World) -> None:
    for name in ("web", "redis", "mail"):
        guard(board, world, name, sick())
    guard(board, world, "well")
    assert board.host("web").sick == 3


def test_a_service_in_a_maintenance_window_says_nothing_of_the_others(board: Board, world: World) -> None:
    now = time.localtime(world.clock.wall())
    window = Window(start=f"{now.tm_hour:02}:{now.tm_min:02}", duration=3600.0, services=("db",), reason="upgrade")
    guard(board, world, "web", sick())
    guard(board, world, "db", sick())
    assert board.host("web").sick == 2
    board.config = replace(board.config, windows={"night": window})
    assert (board.host("web").sick, board.host("web").window) == (1, "")
    assert board.host("db").window.startswith("maintenance window night until ")
    assert board.host("db").window.endswith(": upgrade")
    assert {view.name: view.window for view in board.services()} == {"web": "", "db": board.host("db").window}


def test_a_service_that_was_given_up_long_ago_says_nothing_of_the_others(board: Board, world: World) -> None:
    guard(board, world, "web", sick())
    guard(board, world, "old", Story().healthy().look(Verdict.NETWORK, times=3))
    assert board.host("web").sick == 2
    world.now += 3600
    assert board.host("web").sick == 1


@pytest.mark.parametrize(("services", "max_sick"), [(1, 2), (8, 2), (12, 3), (100, 25)])
def test_two_or_a_quarter_may_be_sick_at_once(board: Board, world: World, services: int, max_sick: int) -> None:
    for number in range(services):
        guard(board, world, f"s{number}")
    assert board.host("s0").max_sick == max_sick


def test_the_config_may_say_how_many_may_be_sick_at_once(board: Board, world: World) -> None:
    board.config = replace(board.config, max_sick=7)
    assert board.host("web").max_sick == 7


async def test_the_guard_that_looked_longest_ago_counts(board: Board, world: World) -> None:
    web, redis = guard(board, world, "web"), guard(board, world, "redis")
    await web.turn()
    assert board.host("web").others_looked == 0.0
    world.now += 5
    await redis.turn()
    assert board.host("web").others_looked == 1005.0
    assert board.host("redis").others_looked == 1000.0


def test_an_only_service_waits_for_no_other(board: Board, world: World) -> None:
    guard(board, world, "web")
    assert board.host("web").others_looked is None


def test_a_restart_is_claimed_against_the_others_until_it_is_over(board: Board) -> None:
    with board.restarting("web"):
        assert board.host("redis").restarting == "web"
        assert board.host("web").restarting == ""
    assert board.host("redis").restarting == ""


def test_the_pressure_is_read_for_each_service_and_forgotten_with_it(board: Board, world: World) -> None:
    web = guard(board, world, "web").service
    board.pressure(web, None)
    world.now += 5
    pressure = board.pressure(web, None)
    assert (pressure.window, pressure.unit_cpu_some) == (5.0, None)
    del board.guards["web"]
    redis = guard(board, world, "redis").service
    board.pressure(redis, None)
    assert set(board._meters) == {"redis"}


def child(board: Board, world: World, *parents: str) -> Guard:
    """A guard of a service that depends on others."""
    made = guard(board, world, "web")
    made.service = replace(made.service, policy=replace(made.service.policy, depends_on=parents))
    return made


@pytest.mark.parametrize(
    ("verdict", "explains"),
    [
        (Verdict.EPOLL_STALL, True),
        (Verdict.DEAD, True),
        (Verdict.STOPPED, True),
        (Verdict.STARTING, True),
        (Verdict.HEALTHY, False),
        (Verdict.WITNESS_LOST, False),
        (Verdict.BLIND, False),
        (Verdict.UNSETTLED, False),
    ],
)
def test_a_parent_is_sick_by_its_last_verdict(board: Board, world: World, verdict: Verdict, explains: bool) -> None:
    child(board, world, "redis", "mail")
    guard(board, world, "redis").diagnosis = Diagnosis(verdict, Certainty.SUSPECTED, ("because",))
    guard(board, world, "mail")
    assert board.host("web").sick_parents == (("redis",) if explains else ())
    assert board.host("redis").sick_parents == ()


def test_a_parent_is_sick_until_its_incident_ends(board: Board, world: World) -> None:
    child(board, world, "redis")
    redis = guard(board, world, "redis", sick().look(Verdict.HEALTHY))
    redis.diagnosis = Diagnosis(Verdict.HEALTHY, Certainty.SUSPECTED, ("well",))
    assert board.host("web").sick_parents == ("redis",)
    redis.state = sick().healthy().state
    assert board.host("web").sick_parents == ()


async def test_a_parent_that_was_not_looked_at_since_is_not_known_to_be_well(board: Board, world: World) -> None:
    web, redis = child(board, world, "redis"), guard(board, world, "redis")
    await redis.turn()
    web.state = Story(now=world.now + 1).healthy().look(Verdict.HUNG).state
    assert board.host("web").sick_parents == ("redis",)
    world.now += 5
    await redis.turn()
    assert board.host("web").sick_parents == ()


def test_a_parent_that_is_not_guarded_any_more_holds_nothing(board: Board, world: World) -> None:
    child(board, world, "redis")
    assert board.host("web").sick_parents == ()


class Foreseen(Outlooks):
    """Every restart would reach the start limit."""

    def __init__(self) -> None:
        pass

    async def of(self, unit: str, also_restarts: Sequence[str]) -> RestartOutlook:
        return RestartOutlook(starts=1, burst=1, interval=10.0)


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        (Target(unit="web.service"), True),
        (Target(pidfile="/run/web.pid"), False),
        (Target(unit="web.service", restart_command=("/usr/bin/restart-it",)), False),
    ],
)
async def test_only_of_a_unit_that_systemd_restarts_the_outlook_is_asked(
    board: Board, target: Target, asked: bool
) -> None:
    board.outlooks = Foreseen()
    outlook = await board.outlook(replace(SERVICE, target=target))
    assert (outlook is not None) == asked


def test_the_hold_file_is_seen(board: Board, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    assert board.host("web").hold_file


def test_a_hold_file_that_cannot_be_looked_for_is_none(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "HOLD_FILE", tmp_path / ("x" * 300))  # ENAMETOOLONG, as good as EACCES
    assert not board.host("web").hold_file


def test_an_alert_is_a_letter_to_each_channel_with_what_people_need(board: Board, world: World) -> None:
    opened = next(record for record in sick().records if record.kind is RecordKind.OPENED)
    (letter,) = board.letters(guard(board, world, "web").service, opened)
    assert (letter.channel, letter.service, letter.kind, letter.severity) == ("ops", "web", "opened", "warning")
    assert letter.payload["labels"] == {"team": "storage"}
    assert letter.payload["annotations"] == {"runbook_url": "r"}
    assert letter.payload["reasons"] == ["because"]
    assert letter.payload["since"] == 1e9 + 1001.0


def test_a_letter_says_what_is_known_of_the_kernel(board: Board, world: World) -> None:
    board.kernel = (Advisory(id="lost", text="it loses wake-ups", fixed_in="5.4.226", source="a list"),)
    opened = next(record for record in sick().records if record.kind is RecordKind.OPENED)
    (letter,) = board.letters(guard(board, world, "web").service, opened)
    assert letter.payload["kernel"] == [{"id": "lost", "text": "it loses wake-ups", "fixed_in": "5.4.226"}]


def test_only_channels_that_want_it_get_a_letter_and_all_that_were_told_get_the_end(board: Board, world: World) -> None:
    routings = {
        "all": Routing(),
        "pager": Routing(min_severity=Severity.CRITICAL),
        "mail": Routing(services=("redis",)),
        "no ends": Routing(send_resolved=False),
    }
    channels = {name: Channel(name=name, type="webhook", settings=routing) for name, routing in routings.items()}
    board.config = replace(board.config, channels=channels)
    service, story = guard(board, world, "web").service, sick().healthy()
    opened, resolved = (next(r for r in story.records if r.kind == kind) for kind in ("opened", "resolved"))
    assert [letter.channel for letter in board.letters(service, opened)] == ["all", "no ends"]
    ends = [(letter.channel, letter.only_if_told) for letter in board.letters(service, resolved)]
    assert ends == [("all", False), ("pager", True)]


RAW = {"threads": [{"tid": 7}], "skipped": [{"pid": 9, "refusal": "Gone"}], "output": "password=x"}


async def test_no_raw_evidence_leaves_the_host_but_the_store_keeps_it(board: Board, world: World, store: Store) -> None:
    story = sick()
    told = story.last(RecordKind.NUDGED)
    nudged = replace(told, detail={**told.detail, **RAW, "longest_stop_seconds": 0.1})
    await store.commit("web", story.state, [*story.records[:-1], nudged], None)
    (letter,) = board.letters(guard(board, world, "web").service, nudged)
    (incident,) = await board.incidents("web", 10)
    (stored,) = await store.incidents("web", 10)
    shown, written = incident.timeline[-1].detail, letter.payload["detail"]
    assert (RAW.keys() & shown.keys(), RAW.keys() & written.keys()) == (set(), set())
    assert (shown["longest_stop_seconds"], written["outcome"]) == (0.1, "done")
    assert stored.records[-1].detail.items() >= RAW.items()


def test_a_record_without_a_severity_is_no_letter(board: Board, world: World) -> None:
    told = Record(RecordKind.HELD, world.now, "waits")
    assert board.letters(guard(board, world, "web").service, told) == ()


def test_a_store_that_fails_is_told_once_and_so_is_its_recovery(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    board.store_failed(StoreUnwritable("disk is full"))
    board.store_failed(StoreUnwritable("disk is full"))
    board.store_failed(None)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert b"epoll_watchdog_store_writable 1.0" in b"".join(board.metrics("")[0])


# --- whether the watchdog itself is well ------------------------------------------------------------------------------


def test_a_watchdog_whose_state_can_not_be_written_ails_until_it_can(board: Board) -> None:
    board.store_failed(StoreUnwritable("disk is full"))
    ailing = board.ailing()
    board.store_failed(None)
    assert (ailing, board.ailing()) == ("its state cannot be written: disk is full", "")


def test_a_watchdog_whose_loop_lags_ails(board: Board) -> None:
    board._beating = lambda: False
    assert board.ailing() == "its own loop lags"


async def test_a_service_that_was_not_looked_at_for_long_ails_the_watchdog(board: Board, world: World) -> None:
    web = guard(board, world, "web")
    await web.resume()
    await web.turn()
    world.now += AT_LEAST
    well = board.ailing()
    world.now += 10.0
    ailing = board.ailing()
    await web.turn()
    assert (well, board.ailing()) == ("", "")
    assert ailing.startswith("service web was not looked at for 40")


async def test_a_long_interval_is_waited_for(board: Board, world: World) -> None:
    web = guard(board, world, "web")
    web.service = replace(web.service, policy=Policy(interval=60.0))
    await web.turn()
    world.now += FEW * 60.0
    well = board.ailing()
    world.now += 10.0
    assert (well, board.ailing()) == ("", "service web was not looked at for 4m10s")


def test_a_service_that_was_never_looked_at_ails_the_watchdog_after_as_long(board: Board, world: World) -> None:
    guard(board, world, "web")
    at_first = board.ailing()
    world.now += AT_LEAST + 1.0
    assert (at_first, board.ailing()) == ("", "service web was not looked at for 31s")


def test_a_service_whose_restart_takes_long_is_not_overlooked(board: Board, world: World) -> None:
    web = guard(board, world, "web")
    web.state = replace(web.state, pending=Action(Rung.RESTART, "i", None, world.now))
    world.now += 600.0
    assert board.ailing() == ""


# --- what is shown ----------------------------------------------------------------------------------------------------


async def test_a_service_is_shown_as_it_was_last_seen(board: Board, world: World) -> None:
    web = guard(board, world, "web")
    assert not board.ready()
    await web.resume()
    await web.turn()
    (view,) = board.services()
    assert board.ready()
    assert (view.verdict, view.healthy, view.pid, view.last_round_at) == ("healthy", True, 100, 1e9 + 1000.0)
    assert view.budgets == {"nudge": 5, "restart": 2}


async def test_incidents_of_a_store_that_cannot_be_read_are_unavailable(board: Board, tmp_path: Path) -> None:
    board._store = Store(tmp_path / "missing", board._clock)
    with pytest.raises(Unavailable, match="unable to open"):
        await board.incidents(None, 10)
    await board._store.close()


async def test_an_incident_is_shown_with_its_timeline(board: Board, store: Store) -> None:
    story = sick()
    await store.commit("web", story.state, story.records, None)
    (incident,) = await board.incidents("web", 10)
    assert [told.kind for told in incident.timeline] == ["opened", "acting", "nudged"]
    assert incident.timeline[0].severity == Severity.WARNING


async def test_an_incident_is_found_by_its_id(board: Board, store: Store) -> None:
    story = sick()
    await store.commit("web", story.state, story.records, None)
    (newest,) = await board.incidents("web", 10)
    assert await board.incident(newest.id) == newest
    assert await board.incident("another") is None


async def test_an_incident_of_a_store_that_cannot_be_read_is_unavailable(board: Board, tmp_path: Path) -> None:
    board._store = Store(tmp_path / "missing", board._clock)
    with pytest.raises(Unavailable, match="unable to open"):
        await board.incident("i")
    await board._store.close()


async def test_what_a_round_found_is_remembered(board: Board, world: World) -> None:
    web = guard(board, world, "web")
    await web.turn()
    past = board.past("web", [HOURS])
    assert past.probes.keys() == web.service.probes.keys()
    assert {track[HOURS].kinds()[-1] for track in past.probes.values()} == {Kind.ALIVE}


def test_queues_that_were_read_are_remembered_and_counted(board: Board, world: World) -> None:
    guard(board, world, "web")
    queues = Queues(world.now, (Queue(1, Family.TCP, "*:80", 7, 128),))
    board.queued("web", queues)
    assert board.past("web", [HOURS]).queues == queues
    pieces, _ = board.metrics("text/plain")
    assert b'epoll_watchdog_accept_queue_length{listener="*:80",name="web"} 7.0' in b"".join(pieces)


async def test_the_bell_is_rung_for_what_is_new_and_for_nothing_else(board: Board, world: World) -> None:
    web = guard(board, world, "web")
    await web.resume()
    await web.turn()
    first = board.bell.rung
    world.now += 5
    await web.turn()
    assert (first, board.bell.rung) == (1, 1)
    web.diagnosis = Diagnosis(Verdict.NETWORK, Certainty.SUSPECTED, ())
    board.looked(web)
    assert board.bell.rung == 2


def test_the_bell_is_rung_for_each_record(board: Board, world: World) -> None:
    board.told(guard(board, world, "web").service, [Record(RecordKind.PAUSED, 1.0, "by root")])
    assert board.bell.rung == 1
