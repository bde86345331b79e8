"""From a table to a dataclass, by pydantic: strict, no unknown key, every error in words and at its place.

The tables go to pydantic as JSON: in strict mode it takes an array for a tuple and a string for an enum only from there
(docs.pydantic.dev, "Conversion table"). A standard dataclass takes the TypeAdapter's config, and so do those nested in
it, but only from within another type: hence the tuple of one.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from watchdog.config.found import Keys, Place, quoted, shown

T = TypeVar("T")


@functools.cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """What checks a tuple of one dataclass."""
    return TypeAdapter(tuple[kind], config=ConfigDict(extra="forbid", strict=True))


def checked(kind: type[T], table: Mapping[str, Any], place: Place, also: Iterable[str] = ()) -> T | None:
    """The table as a `kind`; None where something was found. `also` are keys that may stand beside `kind`'s."""
    try:
        return cast(T, _read(kind, table))
    except ValidationError as error:
        _tell(_by_path(error, table), kind, table, place, also)
        return None


def partly(kind: type[T], table: dict[str, Any], place: Place, also: Iterable[str] = ()) -> tuple[T, set[str]]:
    """The same for a `kind` of which every key has a default and no two contradict each other: what is wrong is told
    and left out, and the keys at the top in which it was are named, so that the rest can be looked at too.
    """
    bad: set[str] = set()
    while True:
        try:
            return cast(T, _read(kind, table)), bad
        except ValidationError as error:
            by_path = _by_path(error, table)
        if not bad:
            _tell(by_path, kind, table, place, also)
        bad |= {str(path[0]) for path in by_path}
        for path in by_path:
            table = _without(table, path)


def _read(kind: Any, table: Mapping[str, Any]) -> Any:
    return adapter(kind).validate_json(json.dumps([table]))[0]


def _without(table: dict[str, Any], path: Keys) -> dict[str, Any]:
    """The table less what stands at a path: less the table, where it is a missing key, or the array it is in."""
    key, inner = str(path[0]), table.get(str(path[0]))
    rest = dict(table)
    if len(path) > 1 and isinstance(inner, dict) and path[1] in inner:
        rest[key] = _without(inner, path[1:])
    else:
        rest.pop(key, None)
    return rest


def _by_path(error: ValidationError, table: Mapping[str, Any]) -> dict[Keys, list[ErrorDetails]]:
    by_path: dict[Keys, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_path.setdefault(_path(detail, table), []).append(detail)
    return by_path


def _tell(
    by_path: Mapping[Keys, Sequence[ErrorDetails]],
    kind: Any,
    table: Mapping[str, Any],
    place: Place,
    also: Iterable[str],
) -> None:
    for path, details in by_path.items():
        value = _value(table, path)
        if isinstance(value, dict) and any(len(other) > len(path) and other[: len(path)] == path for other in by_path):
            continue  # it might have been another type altogether, but what is wrong with the table is said further in
        known = [*_keys(kind, path[:-1]), *(also if len(path) == 1 else ())]
        key, sentence = _addressed(_sentence(details, value, known), _keys(kind, path))
        place.at(*path, *key).error(sentence)


def _path(detail: ErrorDetails, table: Any) -> Keys:
    """pydantic's place without what it put in: the tuple's 0, the names of a union's types, "[key]"."""
    path: list[str | int] = []
    value = table
    last = len(detail["loc"]) - 1
    for index, key in enumerate(detail["loc"][1:], start=1):
        if (isinstance(value, dict) and key in value) or (isinstance(value, list) and isinstance(key, int)):
            value = value[key]  # type: ignore[index]
            path.append(key)
        elif index == last and detail["type"] == "missing":
            path.append(key)
    return tuple(path)


def _value(table: Any, path: Keys) -> Any:
    for key in path:
        if isinstance(table, dict) and key not in table:
            return None
        table = table[key]
    return table


def _keys(kind: Any, path: Keys) -> list[str]:
    """The keys of the dataclass (of any of them, where several may stand there) at a path inside `kind`."""
    kinds = _dataclasses(kind)
    for key in path:
        inner: list[Any] = []
        for candidate in kinds:
            hints = typing.get_type_hints(candidate)
            inner.extend(_dataclasses(hints[key]) if isinstance(key, str) and key in hints else [])
        if not isinstance(key, int):
            kinds = inner
    return [field.name for candidate in kinds for field in dataclasses.fields(candidate)]


def _dataclasses(hint: Any) -> list[Any]:
    """The dataclasses a hint speaks of: itself, of a union, of a tuple or a mapping."""
    if dataclasses.is_dataclass(hint):
        return [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType, tuple) or isinstance(hint, types.GenericAlias):
        return [kind for argument in typing.get_args(hint) for kind in _dataclasses(argument)]
    return []


# --- sentences --------------------------------------------------------------------------------------------------------


def near(word: str, words: Iterable[str]) -> str:
    """A hint that names the word that may have been meant, or all there are."""
    words = list(dict.fromkeys(words))
    if close := difflib.get_close_matches(word, words, n=1):
        return f"did you mean {quoted(close[0])}?"
    return f"known here: {', '.join(sorted(words))}"


def _sentence(details: Sequence[ErrorDetails], value: Any, known: Iterable[str]) -> str:
    """One place's errors as a sentence. What may be a secret (any text where none is expected) is never repeated."""
    kinds = {detail["type"] for detail in details}
    first = details[0]
    if any(detail.get("ctx", {}).get("class_name") == "Secret" for detail in details):
        where = '{ credential = "NAME" }, { file = "/PATH" } or { env = "NAME" }'
        text = "a string, or " if "string_type" in kinds else ""
        return f"{_noun(value)} is no {'string' if text else 'secret'}; write {text}where it is kept: {where}"
    if first["type"] == "unexpected_keyword_argument":
        return f"is no key; {near(str(first['loc'][-1]), known)}"
    if first["type"] in ("enum", "literal_error"):
        return _choice(value, first)
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    rule = _SENTENCES.get(first["type"])
    return rule(value) if rule else f"{_noun(value)} does not fit; {first['msg']}"


_SENTENCES: Mapping[str, Callable[[Any], str]] = {
    "missing": lambda _: "is missing; this key has no default",
    "string_type": lambda value: f"{_noun(value)} is no string; put it in quotes",
    "int_type": lambda value: f"{_noun(value)} is no whole number; write it without quotes or a point",
    "float_type": lambda value: f"{_noun(value)} is no number; write it without quotes",
    "bool_type": lambda value: f"{_noun(value)} is no boolean; write true or false",
    "tuple_type": lambda value: f"{_noun(value)} is no array; write [ … ]",
    "list_type": lambda value: f"{_noun(value)} is no array; write [ … ]",
    "dict_type": lambda value: f"{_noun(value)} is no table; write {{ key = value }}",
    "dataclass_type": lambda value: f"{_noun(value)} is no table; write {{ key = value }}",
}


def _addressed(sentence: str, keys: Iterable[str]) -> tuple[Keys, str]:
    """A dataclass that refuses itself may begin with the key it speaks of: "url: must be …"."""
    key, colon, rest = sentence.partition(": ")
    return ((key,), rest) if colon and key in keys else ((), sentence)


def _choice(value: Any, detail: ErrorDetails) -> str:
    """Of a word that is not among those expected. Of a mapping's key, the value is what stands under it."""
    word = detail["loc"][-2] if detail["loc"][-1] == "[key]" else value
    words = [word.strip("'") for word in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")]
    if not isinstance(word, str):
        return f"{_noun(word)} is none of the words here; write {', '.join(map(quoted, words))}"
    return f"{shown(word)} is unknown; {near(word, words)}"


def _noun(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value}" if abs(value) < 1e15 else "this number"
    nouns: dict[type, str] = {str: "a string", list: "an array", dict: "a table"}
    return nouns.get(type(value), "this")
