"""Records to JSON and back, strictly (cattrs)."""

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, ClassVar, Literal, Protocol, TypeVar, Union, get_args, get_origin, runtime_checkable

from cattrs import BaseValidationError, ClassValidationError, Converter, ForbiddenExtraKeysError
from cattrs.dispatch import StructureHook
from cattrs.gen import make_dict_structure_fn, override

from whisperstill.atomic_io import atomic_write
from whisperstill.records.json_value import JsonObject, JsonValue

Record = TypeVar("Record")

_TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path in quotes",
}


@runtime_checkable
class DataclassInstance(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, "dataclasses.Field[Any]"]]


class ValueMismatch(ValueError):
    """A value of another type than its field; the message says what was expected."""


def from_dict(record_type: type[Record], data: JsonValue) -> Record:
    """The record that `dataclasses.asdict` turned into `data`.

    Unknown keys are ignored, so that files of later versions can be read. Raises `ValueError` that lists every missing
    key and every value of another type.
    """
    try:
        return strict_converter().structure(data, record_type)
    except (BaseValidationError, ValueMismatch) as error:
        raise ValueError("; ".join(list_problems(error, record_type.__name__))) from error


def to_jsonable(record: DataclassInstance, relative_to: Path | None = None) -> JsonObject:
    """A record as JSON object, with NaN and infinity as null and paths as strings.

    With `relative_to`, paths are relative to that folder.
    """
    return {name: _to_json(value, relative_to) for name, value in dataclasses.asdict(record).items()}


def read_json(path: Path) -> JsonObject:
    """The JSON object in a file; empty if the file does not exist or is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_record(path: Path, record_type: type[Record]) -> Record | None:
    """The record in a JSON file; None if the file does not exist, is damaged, or lacks fields of the record."""
    try:
        return from_dict(record_type, read_json(path))
    except ValueError:
        return None


def write_json(path: Path, content: Mapping[str, JsonValue]) -> None:
    """Writes JSON atomically."""
    atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def strict_converter(*, forbid_extra_keys: bool = False) -> Converter:
    """A converter from parsed JSON or TOML that changes no value's type: `"3"` is no number, and `"abc"` no list."""
    converter = Converter(forbid_extra_keys=forbid_extra_keys)
    for scalar, accepted in ((bool, bool), (int, int), (float, (int, float)), (str, str)):
        converter.register_structure_hook(scalar, scalar_hook(scalar, accepted))
    converter.register_structure_hook_func(lambda hint: hint == JsonValue, lambda value, _: value)
    converter.register_structure_hook_func(_is_literal, _structure_choice)
    converter.register_structure_hook_func(_is_tuple, lambda value, hint: _structure_tuple(value, hint, converter))
    converter.register_structure_hook_factory(
        dataclasses.is_dataclass, lambda record_type: dataclass_hook(record_type, converter, forbid_extra_keys)
    )
    return converter


def dataclass_hook(
    record_type: type,
    converter: Converter,
    forbid_extra_keys: bool,
    field_hooks: Mapping[str, StructureHook] = MappingProxyType({}),
) -> StructureHook:
    """Hook for a dataclass; `field_hooks` replace the converter's for single fields."""
    overrides: Any = {name: override(struct_hook=hook) for name, hook in field_hooks.items()}
    structure_fields: StructureHook = make_dict_structure_fn(
        record_type, converter, _cattrs_forbid_extra_keys=forbid_extra_keys, **overrides
    )

    def structure(value: Any, hint: type) -> Any:
        if not isinstance(value, Mapping):
            raise ValueMismatch(f"expected a table, got {value!r}")
        return structure_fields(value, hint)

    return structure


def scalar_hook(scalar: type, accepted: type | tuple[type, ...]) -> StructureHook:
    """Hook that returns a value of the `accepted` types unchanged; a boolean is only accepted as boolean."""

    def structure(value: Any, _: type) -> Any:
        if not isinstance(value, accepted) or (isinstance(value, bool) and scalar is not bool):
            raise ValueMismatch(f"expected {_type_name(scalar)}, got {value!r}")
        return value

    return structure


def _is_literal(hint: Any) -> bool:
    return get_origin(hint) is Literal


def _is_tuple(hint: Any) -> bool:
    return get_origin(hint) is tuple


def _structure_choice(value: Any, hint: Any) -> Any:
    if value not in get_args(hint):
        raise ValueMismatch(f"expected {_type_name(hint)}, got {value!r}")
    return value


def _structure_tuple(value: Any, hint: Any, converter: Converter) -> tuple[Any, ...]:
    arguments = get_args(hint)
    if not isinstance(value, list | tuple):
        raise ValueMismatch(f"expected {_type_name(hint)}, got {value!r}")
    if arguments[-1] is not Ellipsis and len(value) != len(arguments):
        raise ValueMismatch(f"expected {_type_name(hint)}, got {len(value)} values")
    element_types = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
    return tuple(converter.structure(element, hint) for element, hint in zip(value, element_types, strict=True))


def list_problems(error: Exception, table: str) -> Iterator[str]:
    """One line for each problem that cattrs found, such as `[train] seed: expected a whole number, got '1'`.

    `table` names what was read; a nested dataclass is `table.field`.
    """
    if not isinstance(error, ClassValidationError):
        yield f"[{table}] {error}"
        return
    field_errors, class_errors = error.group_exceptions()
    for class_error in class_errors:
        if isinstance(class_error, ForbiddenExtraKeysError):
            known = ", ".join(sorted(field.name for field in dataclasses.fields(error.cl)))
            for key in sorted(class_error.extra_fields):
                yield f"[{table}] has an unknown key {key!r} (its keys: {known})"
        else:
            yield f"[{table}] {class_error}"
    for field_error, note in field_errors:
        if isinstance(field_error, ClassValidationError):
            yield from list_problems(field_error, f"{table}.{note.name}")
        elif isinstance(field_error, KeyError):
            yield f"[{table}] needs {note.name} ({_type_name(note.type)})"
        else:
            yield f"[{table}] {note.name}: {field_error}"


def _type_name(hint: Any) -> str:
    """A type in words: `a list, each a whole number`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_type_name(member) for member in arguments if member is not NoneType)
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if origin is tuple:
        return f"a list, each {_type_name(arguments[0])}"
    if dataclasses.is_dataclass(hint):
        return "a table"
    return _TYPE_NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def _to_json(value: Any, relative_to: Path | None) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_json(element, relative_to) for key, element in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_to_json(element, relative_to) for element in value]
    if isinstance(value, Path):
        return str(value) if relative_to is None else relative_path(value, relative_to)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def relative_path(path: Path, folder: Path) -> str:
    """A path relative to `folder`, with links resolved."""
    return os.path.relpath(path.resolve(), folder.resolve())
