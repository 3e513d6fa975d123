"""What a stage's output depends on, as one hash.

The hash covers the settings (paths as seen from the recipe, so that a moved project keeps its work), the content of
every file that a setting names, and the hash of the stage that made an input. It does not cover whisperstill's
version, nor settings that are as they are unasked, which may be new ones: an upgrade must not throw hours of labelling
away; the version is written beside the output instead.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from whisperstill.stages.recipe import RecipeStage, read_toml

MAX_HASHED_FILE_BYTES = 64 * 2**20
"""Larger files (weights) are known by their size and their time of change."""

IGNORED_SETTINGS = (
    *("strict", "device", "workers", "ray_address", "micro_batch_size"),
    *("skip_existing", "verbose", "threads"),
)
"""Settings that decide neither what is made nor from what."""


def compute_cache_key(stage: RecipeStage, folder: Path, output_keys: Mapping[Path, str]) -> str:
    """Hash of all that the output of `stage` depends on.

    `folder` is where the recipe lies; `output_keys` holds the hash of what earlier stages left, by the place
    they left it.
    """
    tune_recipe = getattr(stage.settings, "tune", None)  # a recipe, of which two tables matter; often this very one
    key_parts = {
        "verb": stage.verb,
        "settings": {
            field.name: to_jsonable(value, folder)
            for field in dataclasses.fields(stage.settings)
            if field.name not in IGNORED_SETTINGS and (value := getattr(stage.settings, field.name)) != field.default
        },
        "inputs": {
            relative_path(path, folder): hash_contents(path, output_keys)
            for path in iter_existing_paths(stage.settings)
            if path not in (stage.output, tune_recipe)
        },
    }
    if isinstance(tune_recipe, Path):
        content = read_toml(tune_recipe)
        key_parts["pilots"] = {verb: content.get(verb) for verb in ("init", "train")}
    return hashlib.sha256(json.dumps(key_parts, sort_keys=True).encode()).hexdigest()


def iter_existing_paths(value: Any) -> Iterator[Path]:
    """Every existing path that a setting names (a model may be a name or a folder, so strings count too)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from iter_existing_paths(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for element in value:
            yield from iter_existing_paths(element)
    elif isinstance(value, Path | str) and str(value):
        try:
            exists = os.path.lexists(value)
        except ValueError:  # a string that no file can be named by
            return
        if exists:
            yield Path(value)


def hash_contents(path: Path, output_keys: Mapping[Path, str]) -> str:
    """Hash of a file's or a folder's content; of an earlier stage's output, the hash it was made under."""
    for parent in (path, *path.parents):
        if parent in output_keys:
            return f"{output_keys[parent]}/{path.relative_to(parent)}"
    if path.is_file():
        return hash_file(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            status = file.stat()
            digest.update(f"{file.relative_to(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file; of size and time for a very large one."""
    status = path.stat()
    if status.st_size > MAX_HASHED_FILE_BYTES:
        return hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def relative_path(path: Path, folder: Path) -> str:
    """A path as seen from the recipe's folder."""
    return os.path.relpath(path.resolve(), folder.resolve())


def to_jsonable(value: Any, folder: Path | None = None) -> Any:
    """`value` in terms of JSON: dataclasses as objects, numbers that are not finite as null.

    With `folder`, paths are written as seen from there.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_jsonable(getattr(value, field.name), folder) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(element, folder) for key, element in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_jsonable(element, folder) for element in value]
    if isinstance(value, Path):
        return relative_path(value, folder) if folder else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
