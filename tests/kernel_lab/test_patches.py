"""A kernel source that the patches were not written for is refused, with the place that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel_lab import patches


def _tree(base: Path) -> Path:
    """A source that has nothing but the places to patch, as often as they should be there."""
    for patch in patches.PATCHES:
        file = base / patch.file
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as text:
            text.write(patch.old * patch.times)
    return base


def test_every_place_is_changed(tmp_path: Path) -> None:
    tree = _tree(tmp_path)
    patches.apply(tree)
    assert "lost_count++" in (tree / "fs/eventpoll.c").read_text()
    assert "CONFIG_HAVE_ARCH_TRACEHOOK" not in (tree / "fs/proc/base.c").read_text()


def test_a_place_that_is_missing_is_named(tmp_path: Path) -> None:
    tree = _tree(tmp_path)
    (tree / "lib/Makefile").write_text("obj-y += syscall.o\n")
    with pytest.raises(patches.PlaceNotFound, match=r"lib/Makefile has .* 0 times, not 1"):
        patches.apply(tree)
