"""From a table of a recipe to a settings dataclass, strictly.

An unknown key, a missing key and a value of another type are problems; all of them are collected, so that one
error names everything there is to mend. Paths are relative to the folder of the recipe.
"""

import dataclasses
import os
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Settings = TypeVar("Settings")

_ENV_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>[^}]*))?\}")
PATH_FIELDS = (
    *("ablations", "assistant", "audio", "card", "filter_summary", "manifest", "model", "noise_sources"),
    *("second_opinion", "student", "teacher", "validation"),
)
"""Fields whose strings may be paths; other strings (`language`, names of datasets) never are."""
_TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path in quotes",
}


class TypeMismatch(Exception):
    """A value that is not what its field asks for; the message says what was expected and what was found."""


def build_settings(
    settings: type[Settings], table: Mapping[str, Any], table_name: str, base_dir: Path, problems: list[str]
) -> Settings | None:
    """Settings with the values of `table`.

    `table_name` names the table in messages (`[train]`), `base_dir` is the folder that paths are relative to. What is
    wrong is added to `problems`, and then None is given.
    """
    problems_before = len(problems)
    fields = {field.name: field for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    hints = get_type_hints(settings)
    problems += [
        f"{table_name} knows no key {key!r} (it knows {', '.join(sorted(fields))})"
        for key in table
        if key not in fields
    ]
    problems += [
        f"{table_name} needs {name} ({type_name(hints[name])})"
        for name, field in fields.items()
        if name not in table and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    values: dict[str, Any] = {}
    for name in fields.keys() & table.keys():
        if dataclasses.is_dataclass(hints[name]) and isinstance(table[name], Mapping):
            values[name] = build_settings(hints[name], table[name], f"{table_name[:-1]}.{name}]", base_dir, problems)
            continue
        try:
            values[name] = convert_value(table[name], hints[name], base_dir, name in PATH_FIELDS)
        except TypeMismatch as mismatch:
            problems.append(f"{table_name} {name}: {mismatch}")
    if len(problems) > problems_before:
        return None
    return settings(**values)


def convert_value(value: Any, hint: Any, base_dir: Path, may_be_path: bool = False) -> Any:
    """`value` as `hint` wants it; raises `TypeMismatch` where it is something else.

    `may_be_path`: strings may be paths.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return match_union(value, arguments, hint, base_dir, may_be_path)
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        raise TypeMismatch(f"expected {type_name(hint)}, got {value!r}")
    if origin is tuple:
        return convert_tuple(value, arguments, hint, base_dir, may_be_path)
    if hint is None or hint is types.NoneType:
        raise TypeMismatch(f"expected nothing, got {value!r}")
    if hint is Any:
        return value
    if hint in (Path, str) and isinstance(value, Path):
        return hint(value)
    if hint is Path and isinstance(value, str):
        return resolve_path(expand_env(value), base_dir)
    if hint is str and isinstance(value, str):
        text = expand_env(value)
        return str(resolve_path(text, base_dir)) if may_be_path and looks_like_path(text, base_dir) else text
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, bool) and type(value) is hint:
        return value
    raise TypeMismatch(f"expected {type_name(hint)}, got {value!r}")


def match_union(value: Any, members: tuple[Any, ...], hint: Any, base_dir: Path, may_be_path: bool) -> Any:
    """The first arm of a union that takes the value."""
    for member in members:
        try:
            return convert_value(value, member, base_dir, may_be_path)
        except TypeMismatch:
            continue
    raise TypeMismatch(f"expected {type_name(hint)}, got {value!r}")


def convert_tuple(
    value: Any, arguments: tuple[Any, ...], hint: Any, base_dir: Path, may_be_path: bool
) -> tuple[Any, ...]:
    """A list of a recipe as a tuple."""
    if not isinstance(value, list | tuple):
        raise TypeMismatch(f"expected {type_name(hint)}, got {value!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(convert_value(element, arguments[0], base_dir, may_be_path) for element in value)
    if len(value) != len(arguments):
        raise TypeMismatch(f"expected {type_name(hint)}, got {len(value)} values")
    return tuple(
        convert_value(element, element_hint, base_dir, may_be_path)
        for element, element_hint in zip(value, arguments, strict=True)
    )


def type_name(hint: Any) -> str:
    """A type in the words of a recipe."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(member) for member in arguments if member is not types.NoneType)
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if origin is tuple:
        inner = arguments[0] if arguments else Any
        return f"a list, each {type_name(inner)}"
    if dataclasses.is_dataclass(hint):
        return "a table"
    return _TYPE_NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def expand_env(text: str) -> str:
    """`text` with `${NAME}` and `${NAME:-otherwise}` replaced from the environment.

    Raises `TypeMismatch` for a variable that is not set and has no `:-otherwise`.
    """

    def substitute(match: re.Match[str]) -> str:
        replacement = os.environ.get(match["name"]) or match["default"]
        if replacement is None:
            raise TypeMismatch(
                f"the environment variable {match['name']} is not set: set it, or write ${{{match['name']}:-otherwise}}"
            )
        return replacement

    return _ENV_VARIABLE.sub(substitute, text)


def resolve_path(text: str, base_dir: Path) -> Path:
    """A path of a recipe as seen from the working directory; an absolute path and `~` stay what they are."""
    return Path(os.path.normpath(base_dir / Path(text).expanduser()))


def looks_like_path(text: str, base_dir: Path) -> bool:
    """Whether a string that may be a name or a path is a path beside the recipe."""
    return text.startswith(("./", "../")) or (bool(text) and (base_dir / text).exists())
