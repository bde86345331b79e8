"""Whom root obeys: a path counts only where nobody but root could have put there what it leads to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helper.nobody import NOBODY
from watchdog.helper.trust import Untrusted, check


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """/etc/epoll-watchdog, as it should be."""
    (tmp_path / "etc/conf.d").mkdir(parents=True)
    (tmp_path / "etc/config.toml").touch()
    return tmp_path / "etc"


def untrusted(path: Path) -> str:
    """Why it is."""
    with pytest.raises(Untrusted) as caught:
        check(str(path))
    return str(caught.value)


def test_what_root_alone_can_write_is_obeyed(etc: Path) -> None:
    check(str(etc / "config.toml"))
    check(str(etc / "conf.d"))
    check(str(etc / "conf.d/missing.toml"))
    check(str(etc / "missing/further/below"))
    check("/")


def test_a_link_of_root_s_to_a_file_of_root_s_is_obeyed(etc: Path) -> None:
    (etc / "up").symlink_to("../etc/./conf.d/..")
    (etc / "absolute").symlink_to(etc / "up/config.toml")
    check(str(etc / "absolute"))


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_not(etc: Path, mode: int) -> None:
    path = etc / "config.toml"
    path.chmod(mode)
    assert untrusted(path) == f"{path} can be written by others than root: chown root {path} && chmod go-w {path}"


def test_a_file_of_somebody_else_s_is_not(etc: Path) -> None:
    os.chown(etc / "config.toml", NOBODY, NOBODY)
    assert untrusted(etc / "config.toml").startswith(f"{etc}/config.toml can be written by others than root")


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_directory_on_the_way_that_others_can_write_is_not(etc: Path, mode: int) -> None:
    etc.chmod(mode)
    assert untrusted(etc / "config.toml").startswith(f"{etc} can be written by others than root")
    assert untrusted(etc / "conf.d").startswith(f"{etc} can be written by others than root")


def test_a_directory_on_the_way_of_somebody_else_s_is_not(etc: Path) -> None:
    os.chown(etc, NOBODY, NOBODY)
    assert untrusted(etc / "config.toml").startswith(f"{etc} can be written by others than root")


def test_in_a_sticky_directory_only_what_is_there_and_is_root_s_is_obeyed(etc: Path) -> None:
    etc.chmod(0o1777)
    check(str(etc / "config.toml"))
    check(str(etc / "conf.d"))
    assert untrusted(etc / "missing.toml").startswith(f"{etc} can be written by others than root")
    assert untrusted(etc).startswith(f"{etc} can be written by others than root")  # as conf.d it would take more files
    os.chown(etc / "config.toml", NOBODY, NOBODY)
    assert untrusted(etc / "config.toml").startswith(f"{etc}/config.toml can be written")


def test_a_link_that_somebody_else_could_exchange_is_not(etc: Path) -> None:
    link = etc / "link.toml"
    link.symlink_to("config.toml")
    os.lchown(link, NOBODY, NOBODY)
    assert untrusted(link) == f"{link} is a symbolic link that uid {NOBODY} can exchange: chown -h root {link}"


def test_what_a_link_leads_to_and_through_must_be_root_s_too(etc: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/config.toml").touch()
    (etc / "link.toml").symlink_to(tmp_path / "theirs/config.toml")
    check(str(etc / "link.toml"))
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    assert untrusted(etc / "link.toml").startswith(f"{tmp_path}/theirs can be written by others than root")


def test_a_link_that_leads_nowhere_is_looked_at_as_far_as_it_leads(etc: Path, tmp_path: Path) -> None:
    (etc / "link.toml").symlink_to(tmp_path / "open/missing.toml")
    check(str(etc / "link.toml"))
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    assert untrusted(etc / "link.toml").startswith(f"{tmp_path}/open can be written by others than root")


def test_a_circle_of_links_is_told(etc: Path) -> None:
    (etc / "a").symlink_to("b")
    (etc / "b").symlink_to("a")
    assert untrusted(etc / "a") == f"{etc}/a leads through more than 40 symbolic links"


def test_a_file_in_place_of_a_directory_is_told(etc: Path) -> None:
    assert untrusted(etc / "config.toml/conf.d") == f"{etc}/config.toml/conf.d: Not a directory"
