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

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>[^}]*))?\}")
PLACES = (
    *("ablations", "assistant", "audio", "card", "filtered", "manifest", "model", "noises", "proxy", "student"),
    *("teacher", "validation"),
)
"""Fields whose strings may be paths; other strings (`language`, names of sets) never are."""
_PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", Path: "a path in quotes"}


class Mismatch(Exception):
    """A value that is not what its field asks for; the message says what was expected and what was found."""


def fill(
    settings: type[Settings], table: Mapping[str, Any], where: str, base: Path, problems: list[str]
) -> Settings | None:
    """Settings with the values of `table`.

    `where` names the table in messages (`[train]`), `base` is the folder that paths are relative to. What is wrong is
    added to `problems`, and then None is given.
    """
    found = len(problems)
    fields = {field.name: field for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    hints = get_type_hints(settings)
    problems += [
        f"{where} knows no key {key!r} (it knows {', '.join(sorted(fields))})" for key in table if key not in fields
    ]
    problems += [
        f"{where} needs {name} ({described(hints[name])})"
        for name, field in fields.items()
        if name not in table and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    values: dict[str, Any] = {}
    for name in fields.keys() & table.keys():
        if dataclasses.is_dataclass(hints[name]) and isinstance(table[name], Mapping):
            values[name] = fill(hints[name], table[name], f"{where[:-1]}.{name}]", base, problems)
            continue
        try:
            values[name] = converted(table[name], hints[name], base, name in PLACES)
        except Mismatch as mismatch:
            problems.append(f"{where} {name}: {mismatch}")
    if len(problems) > found:
        return None
    return settings(**values)


def converted(value: Any, hint: Any, base: Path, place: bool = False) -> Any:
    """`value` as `hint` wants it; raises `Mismatch` where it is something else. `place`: strings may be paths."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return first_fit(value, arguments, hint, base, place)
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        raise Mismatch(f"expected {described(hint)}, got {value!r}")
    if origin is tuple:
        return as_tuple(value, arguments, hint, base, place)
    if hint is None or hint is types.NoneType:
        raise Mismatch(f"expected nothing, got {value!r}")
    if hint is Any:
        return value
    if hint in (Path, str) and isinstance(value, Path):
        return hint(value)
    if hint is Path and isinstance(value, str):
        return placed(expanded(value), base)
    if hint is str and isinstance(value, str):
        text = expanded(value)
        return str(placed(text, base)) if place and names_path(text, base) else text
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, bool) and type(value) is hint:
        return value
    raise Mismatch(f"expected {described(hint)}, got {value!r}")


def first_fit(value: Any, arms: tuple[Any, ...], hint: Any, base: Path, place: bool) -> Any:
    """The first arm of a union that takes the value."""
    for arm in arms:
        try:
            return converted(value, arm, base, place)
        except Mismatch:
            continue
    raise Mismatch(f"expected {described(hint)}, got {value!r}")


def as_tuple(value: Any, arguments: tuple[Any, ...], hint: Any, base: Path, place: bool) -> tuple[Any, ...]:
    """A list of a recipe as a tuple."""
    if not isinstance(value, list | tuple):
        raise Mismatch(f"expected {described(hint)}, got {value!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(converted(each, arguments[0], base, place) for each in value)
    if len(value) != len(arguments):
        raise Mismatch(f"expected {described(hint)}, got {len(value)} values")
    return tuple(converted(each, one, base, place) for each, one in zip(value, arguments, strict=True))


def described(hint: Any) -> str:
    """A type in the words of a recipe."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(described(arm) for arm in arguments if arm is not types.NoneType)
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if origin is tuple:
        inner = arguments[0] if arguments else Any
        return f"a list, each {described(inner)}"
    if dataclasses.is_dataclass(hint):
        return "a table"
    return _PLAIN.get(hint, getattr(hint, "__name__", str(hint)))


def expanded(text: str) -> str:
    """`text` with `${NAME}` and `${NAME:-otherwise}` replaced from the environment.

    Raises `Mismatch` for a variable that is not set and has no `:-otherwise`.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match["name"]) or match["default"]
        if found is None:
            raise Mismatch(
                f"the environment variable {match['name']} is not set: set it, or write ${{{match['name']}:-otherwise}}"
            )
        return found

    return _VARIABLE.sub(value, text)


def placed(text: str, base: Path) -> Path:
    """A path of a recipe as seen from the working directory; an absolute path and `~` stay what they are."""
    return Path(os.path.normpath(base / Path(text).expanduser()))


def names_path(text: str, base: Path) -> bool:
    """Whether a string that may be a name or a path is a path beside the recipe."""
    return text.startswith(("./", "../")) or (bool(text) and (base / text).exists())
