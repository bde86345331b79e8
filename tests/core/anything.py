"""Any value of a type of the model, for hypothesis: a field gets what it is declared as, one added later too."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
PLAIN = st.recursive(  # what JSON holds
    st.none() | st.booleans() | INTEGERS | FLOATS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    float: FLOATS,
    int: INTEGERS,
    str: st.text(max_size=10),
    bool: st.booleans(),
    Any: PLAIN,
    types.NoneType: st.none(),
    datetime: st.datetimes(timezones=st.just(UTC)),
}


def anything(kind: type[T]) -> st.SearchStrategy[T]:
    """Any value of a dataclass whose fields are of types that the model uses."""
    return _of(kind)


def _of(kind: Any) -> st.SearchStrategy[Any]:
    if kind in LEAVES:
        return LEAVES[kind]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{name: _of(hint) for name, hint in hints.items()})
    return _of_several(typing.get_origin(kind), typing.get_args(kind))


def _of_several(origin: Any, arguments: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    inner = [_of(argument) for argument in arguments if argument is not ...]
    if origin in (types.UnionType, typing.Union):
        return st.one_of(inner)
    if origin is tuple and ... in arguments:
        return st.lists(inner[0], max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(inner[0], inner[1], max_size=2)
    if origin is frozenset:
        return st.frozensets(inner[0], max_size=2)
    if origin in (list, Sequence):
        return st.lists(inner[0], max_size=2)
    return st.tuples(*inner)
