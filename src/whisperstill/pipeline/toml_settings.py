"""From a TOML table to a settings dataclass, strictly (cattrs).

One error lists every unknown key, missing key and value of another type. Strings may contain `${NAME}` and
`${NAME:-default}` from the environment; paths are relative to the folder of the TOML file.
"""

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from cattrs import BaseValidationError, Converter
from cattrs.dispatch import StructureHook

from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.records.json_value import JsonObject
from whisperstill.records.serialization import (
    ValueMismatch,
    dataclass_hook,
    list_problems,
    scalar_hook,
    strict_converter,
)

Settings = TypeVar("Settings")

if TYPE_CHECKING:
    TomlValue: TypeAlias = bool | int | float | str | Path | Sequence["TomlValue"] | Mapping[str, "TomlValue"] | None
else:  # checkers at runtime resolve no recursive alias
    TomlValue = bool | int | float | str | Path | Sequence | Mapping | None
"""A value of a TOML file, or one that replaces it."""
TomlTable: TypeAlias = Mapping[str, TomlValue]

_ENV_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>[^}]*))?\}")
PATH_FIELDS = (
    *("ablations", "assistant", "audio", "card", "filter_summary", "manifest", "model", "noise_sources"),
    *("second_opinion", "student", "teacher", "validation"),
)
"""Fields whose strings may be paths; other strings (`language`, names of datasets) never are."""


class TableError(SettingsError):
    """A table that does not fit its settings; `problems` lists why."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read_toml(path: Path) -> JsonObject:
    """The tables of a TOML file. Raises `NotFoundError` if there is no such file, `SettingsError` if it is not TOML."""
    if not path.is_file():
        raise NotFoundError(f"expected a recipe or a suite, got {path}, which is no file; see recipes/ and suites/")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML file: {error}") from error


def build_settings(settings_type: type[Settings], table: TomlTable, table_name: str, base_dir: Path) -> Settings:
    """Settings with the values of `table`; paths are relative to `base_dir`.

    `table_name` names the table in messages (`train`). Raises `TableError`, which lists all problems.
    """
    try:
        return _converter(base_dir).structure(table, settings_type)
    except BaseValidationError as error:
        raise TableError(list(list_problems(error, table_name))) from error


@lru_cache(maxsize=4)
def _converter(base_dir: Path) -> Converter:
    """Two converters that differ in how they read strings: of every field, and of `PATH_FIELDS`."""
    plain, with_paths = (strict_converter(forbid_extra_keys=True) for _ in range(2))
    read_number, read_string = scalar_hook(float, (int, float)), scalar_hook(str, (str, Path))

    def string(value: Any, hint: type) -> str:
        text = str(read_string(value, hint))
        return text if isinstance(value, Path) else expand_env(text)

    def string_or_path(value: Any, hint: type) -> str:
        text = string(value, hint)
        is_path = isinstance(value, str) and looks_like_path(text, base_dir)
        return str(resolve_path(text, base_dir)) if is_path else text

    def path(value: Any, hint: type) -> Path:
        if not isinstance(value, str | Path):
            raise ValueMismatch(f"expected a path in quotes, got {value!r}")
        return value if isinstance(value, Path) else resolve_path(expand_env(value), base_dir)

    for converter in (plain, with_paths):
        converter.register_structure_hook(float, lambda value, hint: float(read_number(value, hint)))
        converter.register_structure_hook(Path, path)
        converter.register_structure_hook(str, string_or_path if converter is with_paths else string)

    def settings_hook(settings_type: type) -> StructureHook:
        path_fields = [field.name for field in dataclasses.fields(settings_type) if field.name in PATH_FIELDS]
        return dataclass_hook(settings_type, plain, True, dict.fromkeys(path_fields, with_paths.structure))

    plain.register_structure_hook_factory(dataclasses.is_dataclass, settings_hook)
    return plain


def expand_env(text: str) -> str:
    """`text` with `${NAME}` and `${NAME:-default}` replaced from the environment.

    Raises `ValueMismatch` if a variable is not set and has no default.
    """

    def substitute(match: re.Match[str]) -> str:
        replacement = os.environ.get(match["name"]) or match["default"]
        if replacement is None:
            raise ValueMismatch(
                f"the environment variable {match['name']} is not set: set it, or write ${{{match['name']}:-default}}"
            )
        return replacement

    return _ENV_VARIABLE.sub(substitute, text)


def resolve_path(text: str, base_dir: Path) -> Path:
    """A path of a TOML file relative to the working directory; an absolute path and `~` stay what they are."""
    return Path(os.path.normpath(base_dir / Path(text).expanduser()))


def looks_like_path(text: str, base_dir: Path) -> bool:
    """Whether a string that may be a name or a path is a path relative to `base_dir`."""
    return text.startswith(("./", "../")) or (bool(text) and (base_dir / text).exists())
