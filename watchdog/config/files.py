"""From files to tables: FILE and the `conf.d/*.toml` beside it, merged by name.

A name (a service, a channel, any other key at the top) stands in one file; a second one is an error that names both.
What TOML can say and no key of ours can hold (dates, inf, nan, arrays hundreds deep) is refused here, so that the
tables are JSON.
"""

from __future__ import annotations

import datetime
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchdog.config.found import Findings, Keys, Place

NAMED = ("service", "channel", "window")  # tables of tables: what is in them is merged by name
MAX_DEPTH = 16
MAX_SIZE = 4 * 1024 * 1024  # bytes of one file


@dataclass(frozen=True, slots=True)
class Entry:
    """The value of one name at the top, and the file that says so."""

    value: Any
    file: Path


@dataclass(frozen=True, slots=True)
class Tables:
    """All files merged. `entries` has keys such as ("service", "ravendb") and ("http",)."""

    files: tuple[Path, ...]
    directory: Path  # conf.d, whether it exists or not
    entries: Mapping[Keys, Entry]


def read(main: Path, found: Findings) -> Tables:
    """Read all files. What cannot be read or parsed is found, and the rest goes on."""
    directory = main.parent / "conf.d"
    files = (main, *_parts(Place(found, directory)))
    entries: dict[Keys, Entry] = {}
    for file in files:
        place = Place(found, file)
        for keys, value in _named(_parsed(place)):
            if keys in entries:
                place.at(*keys).error(f"is defined already in {entries[keys].file}; remove or rename one of the two")
                continue
            entries[keys] = Entry(_plain(value, place.at(*keys)), file)
    return Tables(files, directory, entries)


def _parts(place: Place) -> list[Path]:
    """The files of conf.d by name. Hidden ones are left alone: editors and package managers keep theirs so."""
    try:
        found = [file for file in place.file.iterdir() if file.suffix == ".toml" and not file.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        place.error(f"cannot be read: {error.strerror}")
        return []
    return sorted(found)


def _parsed(place: Place) -> dict[str, Any]:
    try:
        if place.file.exists() and not place.file.is_file():
            place.error("is no file; give the path of a TOML file")
            return {}
        with place.file.open("rb") as stream:
            data = stream.read(MAX_SIZE + 1)
        if len(data) > MAX_SIZE:
            place.error(f"is longer than {MAX_SIZE // 1024**2} MiB")
            return {}
        return tomllib.loads(data.decode())
    except OSError as error:
        place.error(f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        place.error(f"line {line}: byte 0x{data[error.start]:02x} is no UTF-8; TOML files are UTF-8")
    except tomllib.TOMLDecodeError as error:
        place.error(_located(str(error)))
    except RecursionError:
        place.error("is nested too deeply")
    except ValueError:  # of int(), see sys.set_int_max_str_digits
        place.error("holds a number of more than 4,300 digits")
    return {}


def _located(message: str) -> str:
    """tomllib says "Invalid value (at line 3, column 9)"; ours begins with the place, as a compiler's does."""
    match = re.fullmatch(r"(.*) \(at (line \d+, column \d+|end of document)\)", message, re.DOTALL)
    if match is None:
        return message
    what, where = match.groups()
    return f"{where}: {what[:1].lower()}{what[1:]}"


def _named(document: dict[str, Any]) -> list[tuple[Keys, Any]]:
    entries: list[tuple[Keys, Any]] = []
    for key, value in document.items():
        if key in NAMED and isinstance(value, dict):
            entries.extend(((key, name), inner) for name, inner in value.items())
        else:
            entries.append(((key,), value))
    return entries


def _plain(value: Any, place: Place) -> Any:
    """The value as JSON has it; None stands where something was refused."""
    if isinstance(value, datetime.date | datetime.time):
        place.spoil("is a date or a time, and no key takes one; put it in quotes if text is meant")
        return None
    if isinstance(value, float) and not math.isfinite(value):
        place.spoil(f"{value} is no value here; give a finite number")
        return None
    if isinstance(value, dict | list) and len(place.keys) > MAX_DEPTH:
        place.spoil("is nested too deeply")
        return None
    if isinstance(value, dict):
        return {key: _plain(inner, place.at(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, place.at(index)) for index, inner in enumerate(value)]
    return value
