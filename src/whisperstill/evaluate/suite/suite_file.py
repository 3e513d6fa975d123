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
    TomlValue,
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
    problems = [
        f"has an unknown key {key!r} (its keys: {', '.join(known_keys)})" for key in content if key not in known_keys
    ]
    for key, value in content.items():
        if key in ("name", "output") and not isinstance(value, str):
            problems.append(f"{key}: expected a string")
        elif key in known_keys[2:] and not isinstance(value, Mapping):
            problems.append(f"{key}: expected a table [{key}]")
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))
    content |= {"models": _assign_roles(models)} if models else {}
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}

    def build(table_type: type[Table], table: TomlValue, name: str, shorthand_key: str = "") -> Table | None:
        """Settings of a table, None with a problem; a string is short for a table with `shorthand_key` alone."""
        table = {shorthand_key: table} if isinstance(table, str) else table
        try:
            if isinstance(table, Mapping):
                return build_settings(table_type, table, name, path.parent)
            problems.append(f"{name}: expected a table or a string, got {table!r}")
        except TableError as error:
            problems.extend(error.problems)
        return None

    model_specs, dataset_specs = dict[str, ModelSpec](), dict[str, DatasetSpec]()
    for name, table in tables.get("models", {}).items():
        if model := build(ModelSpec, table, f"models.{name}", "model"):
            model_specs[name] = model
    for role in ("teacher", "student"):
        if role in model_specs and not model_specs[role].role:
            model_specs[role] = replace(model_specs[role], role=role)
    for name, table in tables.get("datasets", {}).items():
        if dataset := build(DatasetSpec, table, f"datasets.{name}", "manifest"):
            dataset_specs[name] = dataset
    measurements: dict[str, Measurement] = {}
    for key, table_type in MEASUREMENT_TABLES.items():
        if key in tables and (measurement := build(table_type, tables[key], key)):
            measurements[key] = measurement
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
