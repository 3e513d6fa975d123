"""Reads a suite file: strict TOML with models, datasets and a table per measurement.

    name = "quick"
    output = "runs/quick"             # relative to the working directory

    [models]                          # a name and a checkpoint each; the long form has more keys
    teacher = "base"
    [models.student]
    model = "../runs/demo/student"    # paths are relative to the suite's own folder
    role = "student"

    [datasets.read]
    manifest = "${SPEECH:-../speech}/test/manifest.jsonl"
    in_distribution = true
    [datasets.street]
    manifest = "../noise"
    non_speech = true                 # no speech: every word is a hallucination

    [short_form]                      # a table per measurement; default: all models, all suitable datasets
    [noise]
    datasets = ["read"]
    conditions = ["white@40:-10:-10", "telephone"]

Models called `teacher` and `student` have that role by default; where a measurement lists models, a role stands for
all models that have it. Only measurements that have a table are run.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from whisperstill.audio.conditions import CONDITION_KINDS
from whisperstill.errors import SettingsError
from whisperstill.evaluate.suite.spec import (
    MEASUREMENT_TABLES,
    DatasetSpec,
    Measurement,
    ModelSpec,
    Noise,
    Suite,
    find_suite_problems,
)
from whisperstill.pipeline.toml_settings import (
    TableError,
    TomlTable,
    build_settings,
    looks_like_path,
    read_toml,
    resolve_path,
)

Table = TypeVar("Table")


def read_suite(path: Path, models: tuple[str, ...] = ()) -> Suite:
    """Reads and checks a suite. `models`, relative to the working directory, replace its models: the teacher, then
    students.

    Raises `NotFoundError` without such a file, `SettingsError` with all problems of the file.
    """
    content = read_toml(path)
    known_keys = ("name", "output", "models", "datasets", *MEASUREMENT_TABLES)
    problems = [f"knows no key {key!r} (it knows {', '.join(known_keys)})" for key in content if key not in known_keys]
    for key, value in content.items():
        if key in ("name", "output") and not isinstance(value, str):
            problems.append(f"{key}: expected a string")
        elif key in known_keys[2:] and not isinstance(value, Mapping):
            problems.append(f"{key}: expected a table [{key}]")
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))
    content |= {"models": _assign_roles(models)} if models else {}
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    model_specs = _build_named_tables(ModelSpec, tables, "models", "model", path, problems)
    for name in ("teacher", "student"):
        if name in model_specs and not model_specs[name].role:
            model_specs[name] = replace(model_specs[name], role=name)
    dataset_specs = _build_named_tables(DatasetSpec, tables, "datasets", "manifest", path, problems)
    measurements: dict[str, Measurement] = {}
    for key, table_type in MEASUREMENT_TABLES.items():
        if key in tables:
            try:
                measurements[key] = build_settings(table_type, tables[key], key, path.parent)
            except TableError as error:
                problems += error.problems
    if isinstance(noise := measurements.get("noise"), Noise):
        conditions = tuple(_resolve_condition(condition, path.parent) for condition in noise.conditions)
        measurements["noise"] = replace(noise, conditions=conditions)
    problems += find_suite_problems(model_specs, dataset_specs, measurements)
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))
    name = str(content.get("name", path.stem))
    output = Path(str(content.get("output", f"runs/{name}")))
    return Suite(name, output, model_specs, dataset_specs, measurements, content)


def _assign_roles(models: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """The first model is the teacher; the others are students, numbered if there are several."""
    names = ["student"] if len(models) == 2 else [f"student-{number}" for number in range(1, len(models))]
    roles = [("teacher", "teacher"), *((name, "student") for name in names)]
    resolved = [str(Path(model).absolute()) if Path(model).expanduser().exists() else model for model in models]
    return {name: {"model": model, "role": role} for model, (name, role) in zip(resolved, roles, strict=True)}


def _resolve_condition(condition: str, folder: Path) -> str:
    """A condition with the path of recorded noise resolved relative to the suite's folder."""
    kind, separator, level = condition.rpartition("@")
    if separator and kind not in CONDITION_KINDS and looks_like_path(kind, folder):
        return f"{resolve_path(kind, folder)}@{level}"
    return condition


def _build_named_tables(
    table_type: type[Table], tables: Mapping[str, TomlTable], section: str, key: str, path: Path, problems: list[str]
) -> dict[str, Table]:
    """Tables by name; a string is short for a table with `key` alone."""
    built = {}
    for name, table in tables.get(section, {}).items():
        content = {key: table} if isinstance(table, str) else table
        if not isinstance(content, Mapping):
            problems.append(f"{section}.{name}: expected a table or a string, got {table!r}")
            continue
        try:
            built[name] = build_settings(table_type, content, f"{section}.{name}", path.parent)
        except TableError as error:
            problems += error.problems
    return built
