"""`python -m tests.corpus`: adds recordings, and expects what is decided today."""

from __future__ import annotations

import sys
from pathlib import Path

from tests import corpus
from watchdog.recording import load

match sys.argv[1:]:
    case ["add", name, file]:
        corpus.add(name, load(Path(file).read_bytes()))
    case ["expect", *names]:
        for name in names or corpus.NAMES:
            corpus.expect(name)
    case _:
        sys.exit("usage: python -m tests.corpus add NAME FILE | expect [NAME...]")
