"""A recipe: one strict TOML file that carries all stages.

    name = "demo"
    output = "runs/demo"          # root of what is made, relative to the working directory

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

Stages whose table is there are carried out in this order. What one leaves, the next takes, unless the recipe says
otherwise: `<output>/labels`, `/filtered`, `/student-init`, `/student`, `/results`, `/transcripts`; `init` and
`evaluate` take the teacher from `[label]`, and `evaluate` measures teacher and student.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.stages.toml_settings import build_settings, expand_env, resolve_path

STAGE_ORDER = ("label", "filter", "init", "train", "evaluate", "transcribe")
STAGE_FOLDERS = {
    "label": "labels",
    "filter": "filtered",
    "init": "student-init",
    "train": "student",
    "evaluate": "results",
    "transcribe": "transcripts",
}
"""Folder of each stage under the recipe's output."""


@dataclass(frozen=True, slots=True)
class RecipeStage:
    """A stage of a recipe with its settings."""

    verb: str
    settings: Any
    output: Path
    """Where its output goes."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a recipe asks for, in order."""

    name: str
    output: Path
    """Root of everything that is made."""
    folder: Path
    """Where the recipe lies."""
    stages: tuple[RecipeStage, ...]


def read_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe. Raises what `read_toml` and `parse_recipe` raise."""
    return parse_recipe(read_toml(path), path)


def read_toml(path: Path) -> dict[str, Any]:
    """A recipe's tables as they stand. Raises `NotFoundError` without such a file, `SettingsError` if it is no TOML."""
    if not path.is_file():
        raise NotFoundError(
            f"expected a recipe or a suite, got {path}, which is no file; recipes/ and suites/ hold examples"
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML file: {error}") from error


def parse_recipe(content: Mapping[str, Any], path: Path) -> Recipe:
    """The recipe of these tables, which stand in `path`.

    Raises `SettingsError`, which names all problems at once, when a key is unknown, missing or of another type.
    """
    problems: list[str] = []
    known_keys = ("name", "output", *STAGE_ORDER)
    problems += [f"knows no key {key!r} (it knows {', '.join(known_keys)})" for key in content if key not in known_keys]
    for key in ("name", "output"):
        if not isinstance(content.get(key, ""), str):
            problems.append(f"{key}: expected a string, got {content[key]!r}")
    for verb in STAGE_ORDER:
        if verb in content and not isinstance(content[verb], dict):
            problems.append(f"{verb}: expected a table [{verb}], got {content[verb]!r}")
    if not any(verb in content for verb in STAGE_ORDER):
        problems.append(f"has no stage; expected at least one of the tables {', '.join(STAGE_ORDER)}")
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))

    name = str(content.get("name", path.stem))
    output = Path(str(content.get("output", f"runs/{name}")))
    stages = tuple(
        stage
        for verb in STAGE_ORDER
        if verb in content and (stage := build_stage(verb, content, output, path.parent, problems))
    )
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))
    return Recipe(name=name, output=output, folder=path.parent, stages=stages)


def build_stage(
    verb: str, content: Mapping[str, Any], output: Path, folder: Path, problems: list[str]
) -> RecipeStage | None:
    """One stage with what the recipe says and what it takes from the stages before it."""
    settings_type = settings_type_of(verb)
    field_names = {field.name for field in dataclasses.fields(settings_type)}
    defaults = {
        key: value for key, value in default_inputs(verb, content, output, folder).items() if key in field_names
    }
    hints = get_type_hints(settings_type)
    for key, value in defaults.items():
        if isinstance(value, list) and get_origin(hints[key]) is not tuple:
            defaults[key] = value[-1]
    try:
        settings = build_settings(settings_type, defaults | content[verb], f"[{verb}]", folder, problems)
    except SettingsError as error:
        problems.append(f"[{verb}] {error}")
        return None
    if settings is None:
        return None
    stage_output = getattr(settings, "output", None) or getattr(settings, "output_dir", None)
    return RecipeStage(
        verb=verb, settings=settings, output=Path(stage_output) if stage_output else output / STAGE_FOLDERS[verb]
    )


def settings_type_of(verb: str) -> type[Any]:
    """The settings dataclass of a stage."""
    module = import_module(f"whisperstill.stages.{verb}")
    settings_class: type[Any] = getattr(module, f"{verb.capitalize()}Settings")
    return settings_class


def default_inputs(verb: str, content: Mapping[str, Any], output: Path, folder: Path) -> dict[str, Any]:
    """What a stage takes from the stages before it, where the recipe does not say otherwise."""

    def output_of(upstream_verb: str) -> Path | None:
        """Where an earlier stage of this recipe leaves its output."""
        if upstream_verb not in content:
            return None
        configured = content[upstream_verb].get("output")
        return (
            resolve_path(expand_env(str(configured)), folder) if configured else output / STAGE_FOLDERS[upstream_verb]
        )

    labels = output_of("label")
    teacher = content.get("label", {}).get("teacher") or content.get("init", {}).get("teacher")
    student = output_of("train") or output_of("init")
    defaults: dict[str, Any] = {"output_dir" if verb == "transcribe" else "output": output / STAGE_FOLDERS[verb]}
    match verb:
        case "filter":
            defaults["labels"] = labels
        case "init":
            defaults["teacher"] = teacher
        case "train":
            defaults |= {"student": output_of("init"), "labels": output_of("filter") or labels}
        case "evaluate":
            defaults["model"] = [model for model in (teacher, student) if model]
        case "transcribe":
            defaults["model"] = student
    return {key: value for key, value in defaults.items() if value}
