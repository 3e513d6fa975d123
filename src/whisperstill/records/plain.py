"""Records as what JSON knows, and back."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


def to_plain(record: Any) -> Any:
    """A record as what JSON knows."""
    return dataclasses.asdict(record)


def from_plain(kind: type[Record], plain: Mapping[str, Any]) -> Record:
    """The record of what `to_plain` gave. Keys it does not know are left out; `ValueError` where one is missing or
    is of another kind."""
    hints = get_type_hints(kind)
    known = {name: _value(hints[name], plain[name]) for name in hints.keys() & plain.keys()}
    try:
        return kind(**known)
    except TypeError as error:
        raise ValueError(f"expected {kind.__name__}, got {', '.join(plain)}") from error


def _value(hint: Any, plain: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(plain, Mapping):
            raise ValueError(f"expected a table of {getattr(hint, '__name__', hint)}, got {plain!r}")
        return from_plain(hint, plain)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(plain, list):
            raise ValueError(f"expected a list, got {plain!r}")
        return tuple(_value(arguments[0], one) for one in plain)
    if origin in (Union, types.UnionType):
        return None if plain is None else _value(arguments[0], plain)
    return plain
