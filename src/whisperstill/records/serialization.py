"""Records as what JSON knows, and back."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


def to_dict(record: Any) -> Any:
    """A record as what JSON knows."""
    return dataclasses.asdict(record)


def from_dict(record_type: type[Record], data: Mapping[str, Any]) -> Record:
    """The record of what `to_dict` gave. Keys it does not know are left out; `ValueError` where one is missing or
    is of another kind."""
    hints = get_type_hints(record_type)
    fields = {name: _parse_value(hints[name], data[name]) for name in hints.keys() & data.keys()}
    try:
        return record_type(**fields)
    except TypeError as error:
        raise ValueError(f"expected {record_type.__name__}, got {', '.join(data)}") from error


def _parse_value(hint: Any, data: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(data, Mapping):
            raise ValueError(f"expected a table of {getattr(hint, '__name__', hint)}, got {data!r}")
        return from_dict(hint, data)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(data, list):
            raise ValueError(f"expected a list, got {data!r}")
        return tuple(_parse_value(arguments[0], item) for item in data)
    if origin in (Union, types.UnionType):
        return None if data is None else _parse_value(arguments[0], data)
    return data
