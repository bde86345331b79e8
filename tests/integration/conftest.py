"""The shim, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stall import Shim, build_shim, shim_for


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def shim(shim_library: Path, tmp_path: Path) -> Shim:
    return shim_for(shim_library, tmp_path / "shim")
