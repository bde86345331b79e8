"""The helper's own account: what counts, and what is made of a file that can't be trusted."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from watchdog.helper import ledger
from watchdog.helper.ledger import Ledger, LedgerUnreadable, Use
from watchdog.model import Budget, Rung

THREE_AN_HOUR = Budget(burst=3, interval=3600.0)
WALL = "2026-01-31T12:00:00Z"


def at(boottime: float, boot_id: str = "this") -> Use:
    """A moment."""
    return Use(boot_id, boottime, WALL)


def spent(*uses: Use) -> Ledger:
    """A ledger with these nudges of one service."""
    account = Ledger({})
    for use in uses:
        account.spend("redis", Rung.NUDGE, THREE_AN_HOUR, use)
    return account


def left(account: Ledger, now: Use, service: str = "redis", rung: Rung = Rung.NUDGE) -> int:
    """How many uses are left."""
    return account.left(service, rung, THREE_AN_HOUR, now)


def test_each_use_counts_for_the_interval_and_no_longer() -> None:
    account = spent(at(100.0), at(200.0))
    assert left(account, at(3699.0)) == 1
    assert left(account, at(3701.0)) == 2
    assert left(account, at(3801.0)) == 3


def test_services_and_rungs_are_counted_apart() -> None:
    account = spent(at(100.0))
    assert left(account, at(101.0), rung=Rung.RESTART) == 3
    assert left(account, at(101.0), service="nginx") == 3


def test_a_use_before_a_reboot_counts_as_made_at_the_boot() -> None:
    """Its true age can't be less, whatever the wall clock says."""
    account = spent(at(99_999.0, boot_id="before"))
    assert left(account, at(60.0)) == 2
    assert left(account, at(3601.0)) == 3


def test_a_use_in_the_future_counts() -> None:
    assert left(spent(at(500.0)), at(100.0)) == 2


def test_a_use_taken_back_does_not_count() -> None:
    account = spent(at(100.0), at(101.0))
    account.refund("redis", Rung.NUDGE, at(101.0))
    assert left(account, at(102.0)) == 2


def test_the_ledger_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger.write(str(path), spent(at(100.0), at(50.0, boot_id="before")).text())
    assert left(Ledger.read(str(path)), at(200.0)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_no_longer_counts_is_forgotten() -> None:
    assert len(spent(*(at(4000.0 * number) for number in range(100))).text()) < 200


def test_no_file_is_an_empty_ledger(tmp_path: Path) -> None:
    assert left(Ledger.read(str(tmp_path / "ledger.json")), at(1.0)) == 3


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0" * 64,
        b"[]",
        b"{}",
        b'{"version": 2, "uses": {}}',
        b'{"version": 1, "uses": []}',
        b'{"version": 1, "uses": {"redis": {"nudge": [{"boot_id": "a", "boottime": "soon", "wall": ""}]}}}',
        b'{"version": 1, "uses": {"redis": {"drill": []}}}',
    ],
)
def test_a_ledger_that_is_not_understood_is_never_an_empty_one(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "ledger.json"
    path.write_bytes(text)
    with pytest.raises(LedgerUnreadable, match="can't be understood"):
        Ledger.read(str(path))


def test_a_ledger_that_can_t_be_read_is_never_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnreadable, match="Is a directory"):
        Ledger.read(str(tmp_path))


def test_a_link_in_place_of_the_draft_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "ledger.json.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        ledger.write(str(tmp_path / "ledger.json"), b"{}")
    assert victim.read_text() == "precious"


def test_a_write_that_fails_leaves_the_old_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    path.write_bytes(b"old")
    (tmp_path / "ledger.json.new").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        ledger.write(str(path), b"new")
    assert path.read_bytes() == b"old"
