"""The cache key of a stage: one hash of everything its output depends on.

The key covers the settings, with paths relative to the recipe (so that a moved project keeps its outputs), the content
of every file that a setting names, and the key of the stage that wrote an input. It leaves out two things, so that an
upgrade does not discard hours of labelling: the version of whisperstill (the stage record holds it) and settings at
their default (which may be new).
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from whisperstill.pipeline.recipe import RecipeStage
from whisperstill.pipeline.toml_settings import read_toml
from whisperstill.records.json_value import JsonValue
from whisperstill.records.serialization import DataclassInstance, relative_path, to_jsonable

MAX_HASHED_FILE_BYTES = 64 * 2**20
"""Larger files (weights) are identified by size and modification time."""
IGNORED_SETTINGS = (
    *("strict", "device", "workers", "ray_address", "micro_batch_size"),
    *("skip_existing", "verbose", "threads"),
)
"""Settings that do not change the output."""


def compute_cache_key(stage: RecipeStage, folder: Path, output_keys: Mapping[Path, str]) -> str:
    """SHA-256 of everything the output of `stage` depends on.

    `folder` holds the recipe; `output_keys` are the keys of earlier stages by output path.
    """
    settings = stage.settings
    # 1. Settings that differ from their defaults.
    values = to_jsonable(settings, folder)
    changed = {
        field.name: values[field.name]
        for field in dataclasses.fields(settings)
        if field.name not in IGNORED_SETTINGS and getattr(settings, field.name) != field.default
    }
    # 2. Contents of files and folders that the settings name. `tune` names a recipe, often this one: see 3.
    tune_recipe = getattr(settings, "tune", None)
    key_parts: dict[str, JsonValue] = {
        "verb": stage.verb,
        "settings": changed,
        "inputs": {
            relative_path(path, folder): hash_contents(path, output_keys)
            for path in _existing_paths(settings)
            if path not in (stage.output, tune_recipe)
        },
    }
    # 3. Of the recipe of `filter --tune`, the tables that its pilot trainings use.
    if isinstance(tune_recipe, Path):
        content = read_toml(tune_recipe)
        key_parts["pilots"] = {verb: content.get(verb) for verb in ("init", "train")}
    return hashlib.sha256(json.dumps(key_parts, sort_keys=True).encode()).hexdigest()


def _existing_paths(value: object) -> Iterator[Path]:
    """Every existing path in the settings; strings count too, since a model may be a name or a folder."""
    if isinstance(value, DataclassInstance):
        for field in dataclasses.fields(value):
            yield from _existing_paths(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for element in value:
            yield from _existing_paths(element)
    elif isinstance(value, Path | str) and str(value):
        try:
            exists = os.path.lexists(value)
        except ValueError:  # not a possible file name
            return
        if exists:
            yield Path(value)


def hash_contents(path: Path, output_keys: Mapping[Path, str]) -> str:
    """Hash of a file or folder; for the output of an earlier stage, its cache key."""
    for parent in (path, *path.parents):
        if parent in output_keys:
            return f"{output_keys[parent]}/{path.relative_to(parent)}"
    if path.is_file():
        status = path.stat()
        large = status.st_size > MAX_HASHED_FILE_BYTES
        content = f"{status.st_size} {status.st_mtime_ns}".encode() if large else path.read_bytes()
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            status = file.stat()
            digest.update(f"{file.relative_to(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
