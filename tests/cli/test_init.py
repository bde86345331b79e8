"""`epoll-watchdog init`: what it writes where, and what it says where it can't. What it finds: tests/systemd."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from watchdog.cli.init import NotMade, command, write

NO_BUS = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere"}


def init(*arguments: str | Path) -> Result:
    return CliRunner(env=NO_BUS).invoke(command, list(map(str, arguments)))


def test_without_systemd_it_says_so_and_how_else_a_service_is_named() -> None:
    done = init()

    assert done.exit_code == 1
    assert done.stderr.startswith("Error: cannot connect to the system bus")
    assert "name a service by its pidfile or process" in done.stderr


def test_a_file_that_exists_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("mine")
    done = init("--output", file)

    assert (done.exit_code, done.stderr) == (
        1,
        f"Error: {file} exists; --force replaces it, and keeps it as {file.name}~\n",
    )
    assert file.read_text() == "mine"


@pytest.mark.parametrize("arguments", [["--force"], ["--json", "--output", "/tmp/x"], ["--output", "/tmp"]])
def test_what_contradicts_itself_is_wrong_usage(arguments: list[str]) -> None:
    assert init(*arguments).exit_code == 2


def test_a_config_that_can_t_be_read_is_told_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[service.a\n")
    done = init("--config", config)

    assert done.exit_code == 1
    assert f"{config}: line 1" in done.stderr


def test_a_file_is_written_whole_readable_for_the_daemon_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    write(file, "text\n", force=False)

    assert (file.read_text(), file.stat().st_mode & 0o777) == ("text\n", 0o644)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_came_meanwhile_stays(tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    file.write_text("mine")
    with pytest.raises(NotMade, match="exists"):
        write(file, "text\n", force=False)

    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]


def test_with_force_a_file_is_replaced_and_a_link_is_not_followed(tmp_path: Path) -> None:
    target, file = tmp_path / "target", tmp_path / "new.toml"
    target.write_text("mine")
    file.symlink_to(target)
    write(file, "text\n", force=True)

    assert (file.is_symlink(), file.read_text(), target.read_text()) == (False, "text\n", "mine")


def test_with_force_the_file_of_before_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    for text in ("first", "second", "third"):
        write(file, text, force=True)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"new.toml": "third", "new.toml~": "second"}


def test_a_directory_that_can_t_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotMade, match="No such file"):
        write(tmp_path / "none" / "new.toml", "", force=False)
    assert list(tmp_path.iterdir()) == []
