"""A recipe: one strict TOML file for all stages.

    name = "demo"
    output = "runs/demo"          # root of all outputs, relative to the working directory

    [label]                       # a table per stage; its keys are the fields of the stage's settings
    teacher = "tiny.en"
    manifest = ["train.jsonl"]    # paths are relative to the recipe's own folder
    [filter]
    [init]
    decoder_layers = 2
    [train]
    [evaluate]
    manifest = ["${SPEECH:-../speech}/test.jsonl"]
    [transcribe]
    audio = ["prompt.wav"]

Stages that have a table run in this order. A stage reads the output of the stage before it, unless the recipe says
otherwise: `<output>/labels`, `/filtered`, `/student-init`, `/student`, `/results`, `/transcripts`; `init` and
`evaluate` take the teacher from `[label]`, and `evaluate` measures teacher and student.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar, get_origin, get_type_hints

from whisperstill.console import Console
from whisperstill.errors import SettingsError
from whisperstill.pipeline.toml_settings import (
    TableError,
    TomlTable,
    TomlValue,
    build_settings,
    expand_env,
    read_toml,
    resolve_path,
)
from whisperstill.records.serialization import DataclassInstance, ValueMismatch

STAGE_FOLDERS = {
    "label": "labels",
    "filter": "filtered",
    "init": "student-init",
    "train": "student",
    "evaluate": "results",
    "transcribe": "transcripts",
}
"""Folder of each stage under the recipe's output, in the order of the stages."""
STAGE_ORDER = tuple(STAGE_FOLDERS)


SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True, slots=True)
class StageVerb(Generic[SettingsT]):
    """A verb: its settings dataclass and its function."""

    settings_type: type[SettingsT]
    run: Callable[[SettingsT, Console], DataclassInstance]


VerbLoader: TypeAlias = Callable[[str], StageVerb[DataclassInstance]]
"""Returns the verb of a name; `stages.load_verb` is handed in, since this package knows no stage."""


@dataclass(frozen=True, slots=True)
class RecipeStage:
    """A stage of a recipe with its settings."""

    verb: str
    settings: DataclassInstance
    output: Path
    run: Callable[[DataclassInstance, Console], DataclassInstance]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A parsed recipe; its stages are in order."""

    name: str
    output: Path
    """Root of all outputs."""
    path: Path
    """The recipe file; paths in it are relative to its folder."""
    tables: Mapping[str, TomlTable]
    """Tables of the stages as they are written, by verb."""
    stages: tuple[RecipeStage, ...]
    load_verb: VerbLoader

    def find_settings(self, settings_type: type[SettingsT]) -> SettingsT | None:
        """The settings of this type; None if the recipe has no such stage."""
        return next((stage.settings for stage in self.stages if isinstance(stage.settings, settings_type)), None)


def read_recipe(path: Path, load_verb: VerbLoader) -> Recipe:
    """Reads and checks a recipe. Raises what `read_toml` and `parse_recipe` raise."""
    return parse_recipe(read_toml(path), path, load_verb)


def parse_recipe(content: TomlTable, path: Path, load_verb: VerbLoader) -> Recipe:
    """The recipe with these tables, which were read from `path`.

    Raises `SettingsError` that lists every unknown key, missing key and value of another type.
    """
    known_keys = ("name", "output", *STAGE_ORDER)
    problems = [
        f"has an unknown key {key!r} (its keys: {', '.join(known_keys)})" for key in content if key not in known_keys
    ]
    for key in ("name", "output"):
        if not isinstance(content.get(key, ""), str):
            problems.append(f"{key}: expected a string, got {content[key]!r}")
    tables: dict[str, TomlTable] = {}
    for verb in STAGE_ORDER:
        if isinstance(table := content.get(verb), Mapping):
            tables[verb] = table
        elif verb in content:
            problems.append(f"{verb}: expected a table [{verb}], got {table!r}")
    if not any(verb in content for verb in STAGE_ORDER):
        problems.append(f"has no stage; expected at least one of the tables {', '.join(STAGE_ORDER)}")
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))

    name = str(content.get("name", path.stem))
    output = Path(str(content.get("output", f"runs/{name}")))
    stages = []
    for verb in tables:
        try:
            stages.append(_build_stage(verb, load_verb(verb), tables, output, path.parent))
        except TableError as error:
            problems += error.problems
        except ValueMismatch as mismatch:
            problems.append(f"[{verb}] output: {mismatch}")
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))
    return Recipe(name, output, path, tables, tuple(stages), load_verb)


def _build_stage(
    verb: str, stage_verb: StageVerb[DataclassInstance], tables: Mapping[str, TomlTable], output: Path, folder: Path
) -> RecipeStage:
    """One stage; keys that its table lacks come from the stages before it."""
    hints = get_type_hints(stage_verb.settings_type)
    defaults = {
        key: value[-1] if isinstance(value, list) and get_origin(hints[key]) is not tuple else value
        for key, value in _default_inputs(verb, tables, output, folder).items()
        if key in hints
    }
    settings = build_settings(stage_verb.settings_type, {**defaults, **tables[verb]}, verb, folder)
    stage_output = getattr(settings, "output", None) or getattr(settings, "output_dir", None)
    stage_output = Path(stage_output) if stage_output else output / STAGE_FOLDERS[verb]
    return RecipeStage(verb, settings, stage_output, stage_verb.run)


def _default_inputs(verb: str, tables: Mapping[str, TomlTable], output: Path, folder: Path) -> dict[str, TomlValue]:
    """Inputs and output of a stage, as the stages before it determine them."""

    def output_of(upstream_verb: str) -> Path | None:
        if upstream_verb not in tables:
            return None
        if configured := tables[upstream_verb].get("output"):
            return resolve_path(expand_env(str(configured)), folder)
        return output / STAGE_FOLDERS[upstream_verb]

    labels = output_of("label")
    teacher = tables.get("label", {}).get("teacher") or tables.get("init", {}).get("teacher")
    student = output_of("train") or output_of("init")
    inputs: dict[str, dict[str, TomlValue]] = {
        "label": {},
        "filter": {"labels": labels},
        "init": {"teacher": teacher},
        "train": {"student": output_of("init"), "labels": output_of("filter") or labels},
        "evaluate": {"model": [model for model in (teacher, student) if model]},
        "transcribe": {"model": student},
    }
    defaults = {"output_dir" if verb == "transcribe" else "output": output / STAGE_FOLDERS[verb], **inputs[verb]}
    return {key: value for key, value in defaults.items() if value}
