"""One bad file an error: bad/NAME.toml (and bad/NAME.d, its conf.d), the whole message expected in bad/NAME.txt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from watchdog.config import ConfigInvalid
from watchdog.config.check import check

BAD = Path(__file__).parent / "bad"


@pytest.mark.parametrize("name", sorted(file.stem for file in BAD.glob("*.toml")))
def test_a_bad_file_is_refused_in_these_words(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    file = tmp_path / "config.toml"
    shutil.copy(BAD / f"{name}.toml", file)
    if (parts := BAD / f"{name}.d").exists():
        shutil.copytree(parts, tmp_path / "conf.d")

    with pytest.raises(ConfigInvalid) as raised:
        check(file)

    told = str(raised.value).replace(f"{tmp_path}/", "")
    assert told == (BAD / f"{name}.txt").read_text().rstrip("\n")
