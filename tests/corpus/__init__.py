"""The regression corpus: incidents that the real daemon recorded, and what should be decided about them.

`NAME.json` is a recording, as `epoll-watchdog replay --extract` writes it; `expected/NAME.json` has, entry by entry,
what today's rules should decide. Where the daemon of then was wrong, the expectation says what is right. To add one,
and after a change that should decide otherwise (read the diff before you commit it):

    epoll-watchdog replay STATE.db --incident ID --extract /tmp/incidents
    python -m tests.corpus add NAME /tmp/incidents/SERVICE-ID.json
    python -m tests.corpus expect [NAME...]
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from watchdog.recording import Decision, Recording, dump, load
from watchdog.replay import replay

DIRECTORY = Path(__file__).parent
NAMES = sorted(file.stem for file in DIRECTORY.glob("*.json"))


def recording(name: str) -> Recording:
    """A recording of the corpus."""
    return load((DIRECTORY / f"{name}.json").read_bytes())


def decisions(recorded: Recording) -> list[Decision]:
    """What today's rules decide about it."""
    return [replayed.now for replayed in replay(recorded)]


def expected(name: str) -> list[Decision]:
    """What they should decide."""
    return msgspec.json.decode(_expectation(name).read_bytes(), type=list[Decision])


def add(name: str, recorded: Recording) -> None:
    """Put a recording into the corpus, and expect of it what is decided today."""
    (DIRECTORY / f"{name}.json").write_text(dump(recorded))
    expect(name)


def expect(name: str) -> None:
    """From now on expect what is decided today."""
    rows = [json.dumps(msgspec.to_builtins(decision)) for decision in decisions(recording(name))]
    _expectation(name).write_text("[\n " + ",\n ".join(rows) + "\n]\n")


def _expectation(name: str) -> Path:
    return DIRECTORY / "expected" / f"{name}.json"
