"""The package as a file: what it says of itself, what is in it, and what lintian thinks of it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.systemd.installed import NEVER_CHANGES
from tests.systemd.machine import REPOSITORY
from watchdog import __version__

SITE = "usr/lib/epoll-watchdog/lib/python{}.{}/site-packages".format(*sys.version_info[:2])
ONLY_IN_THE_DEB = {
    "usr/share/doc/epoll-watchdog/changelog.Debian.gz",
    "usr/share/lintian",
    "usr/share/lintian/overrides",
    "usr/share/lintian/overrides/epoll-watchdog",
}


def field(deb: Path, name: str) -> str:
    return subprocess.run(["dpkg-deb", "--field", deb, name], check=True, capture_output=True, text=True).stdout.strip()


def contents(root: Path) -> dict[str, str]:
    """Each path below with what it is: a mode, and a link's target or a file's hash."""
    found = {}
    for path in root.rglob("*"):
        mode = stat.filemode(path.lstat().st_mode)
        what = ""
        if path.is_symlink():
            what = str(path.readlink())
        elif path.is_file():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(root))] = f"{mode} {what}"
    return found


def test_lintian_has_no_complaint(deb: Path) -> None:
    command = ["lintian", "--allow-root", "--fail-on=error,warning", str(deb)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_is_bound_to_the_python_that_its_venv_was_made_for(deb: Path) -> None:
    major, minor = sys.version_info[:2]
    depends = field(deb, "Depends").split(", ")
    assert {f"python3 (>= {major}.{minor})", f"python3 (<< {major}.{minor + 1})"} <= set(depends)


def test_it_asks_for_the_libraries_that_its_compiled_parts_are_linked_to(deb: Path, tree: Path) -> None:
    linked = subprocess.run(
        ["ldd", *(tree / SITE / "systemd").glob("_reader*.so")], check=True, capture_output=True, text=True
    ).stdout
    assert "libsystemd.so.0" in linked
    assert "libsystemd0 (>= " in field(deb, "Depends")


def test_its_configuration_is_for_the_administrator_to_change(deb: Path) -> None:
    conffiles = subprocess.run(["dpkg-deb", "--info", deb, "conffiles"], check=True, capture_output=True, text=True)
    assert conffiles.stdout.split() == ["/etc/epoll-watchdog/config.toml"]


def test_it_says_which_version_is_in_it(deb: Path, tree: Path) -> None:
    command = [str(tree / "usr/lib/epoll-watchdog/bin/python3"), "-I", "-B", "-m", "watchdog", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split()[-1] == __version__
    assert field(deb, "Version").startswith(__version__)


def test_nothing_of_the_machine_that_built_it_is_in_it(tree: Path) -> None:
    traces = [path for path in tree.rglob("*") if path.name in ("__pycache__", "direct_url.json", "RECORD", "pip")]
    inside = [path for path in (tree / SITE).rglob("*") if path.suffix != ".so" and path.is_file()]
    assert traces == []
    assert [path for path in inside if str(REPOSITORY).encode() in path.read_bytes()] == []


def test_each_library_in_it_has_its_licence_named(tree: Path) -> None:
    told = (tree / "usr/share/doc/epoll-watchdog/copyright").read_text()
    libraries = [path.name for path in (tree / SITE).glob("*.dist-info") if not path.name.startswith("epoll_watchdog")]
    assert len(libraries) > 20
    assert [library for library in libraries if library not in told] == []
    unnamed = re.findall(r"License: see-its-files\n The full text is in /(.*)\.\n", told)
    assert [folder for folder in unnamed if not [*tree.glob(f"{folder}/**/LICEN*")]] == []


def test_what_others_read_is_in_it(tree: Path) -> None:
    for source in ("prometheus", "grafana"):
        ours = {path.name for path in (REPOSITORY / "packaging" / source).rglob("*") if path.is_file()}
        assert {path.name for path in (tree / "usr/share/epoll-watchdog" / source).rglob("*")} >= ours
    assert (tree / "usr/lib/systemd/catalog/epoll-watchdog.catalog").is_file()
    assert {path.name for path in (tree / "usr/share/doc/epoll-watchdog/docs").glob("*.md")} == {
        path.name for path in (REPOSITORY / "docs").glob("*.md")
    }


@pytest.mark.timeout(300)
def test_make_install_puts_the_very_same_files_there(tree: Path, tmp_path: Path) -> None:
    command = ["make", "--no-print-directory", "install", f"DESTDIR={tmp_path}/here"]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, env=os.environ | NEVER_CHANGES)
    by_make, by_deb = contents(tmp_path / "here"), contents(tree)
    assert by_deb.keys() - by_make.keys() == ONLY_IN_THE_DEB
    assert {path: what for path, what in by_make.items() if by_deb.get(path) != what} == {}


def test_an_administrators_config_outlives_make_install(tmp_path: Path) -> None:
    script = (REPOSITORY / "packaging/install").read_text()
    config = tmp_path / "etc/epoll-watchdog/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("# mine\n")
    steps, _, _ = script.partition("\nour_wheel\n")
    only = tmp_path / "packaging/install"
    only.parent.mkdir()
    only.write_text(f"{steps}\nconfiguration\n")
    subprocess.run(["bash", only, tmp_path], check=True, env=os.environ | NEVER_CHANGES)
    assert config.read_text() == "# mine\n"
