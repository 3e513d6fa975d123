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
from whisperstill.stages.typed import expanded, fill, placed

ORDER = ("label", "filter", "init", "train", "evaluate", "transcribe")
PLACES = {
    "label": "labels",
    "filter": "filtered",
    "init": "student-init",
    "train": "student",
    "evaluate": "results",
    "transcribe": "transcripts",
}
"""Folder of each stage under the recipe's output."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A stage of a recipe with its settings."""

    verb: str
    settings: Any
    place: Path
    """Where its output goes."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a recipe asks for, in order."""

    name: str
    output: Path
    """Root of everything that is made."""
    folder: Path
    """Where the recipe lies."""
    stages: tuple[Planned, ...]


def read_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe. Raises what `read_content` and `recipe_of` raise."""
    return recipe_of(read_content(path), path)


def read_content(path: Path) -> dict[str, Any]:
    """A recipe's tables as they stand. Raises `NotFoundError` without such a file, `SettingsError` if it is no TOML."""
    if not path.is_file():
        raise NotFoundError(
            f"expected a recipe or a suite, got {path}, which is no file; recipes/ and suites/ hold examples"
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML file: {error}") from error


def recipe_of(content: Mapping[str, Any], path: Path) -> Recipe:
    """The recipe of these tables, which stand in `path`.

    Raises `SettingsError`, which names all problems at once, when a key is unknown, missing or of another type.
    """
    problems: list[str] = []
    known = ("name", "output", *ORDER)
    problems += [f"knows no key {key!r} (it knows {', '.join(known)})" for key in content if key not in known]
    for key in ("name", "output"):
        if not isinstance(content.get(key, ""), str):
            problems.append(f"{key}: expected a string, got {content[key]!r}")
    for verb in ORDER:
        if verb in content and not isinstance(content[verb], dict):
            problems.append(f"{verb}: expected a table [{verb}], got {content[verb]!r}")
    if not any(verb in content for verb in ORDER):
        problems.append(f"has no stage; expected at least one of the tables {', '.join(ORDER)}")
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))

    name = str(content.get("name", path.stem))
    output = Path(str(content.get("output", f"runs/{name}")))
    stages = tuple(
        planned for verb in ORDER if verb in content and (planned := plan(verb, content, output, path.parent, problems))
    )
    if problems:
        raise SettingsError(f"{path}: " + "; ".join(problems))
    return Recipe(name=name, output=output, folder=path.parent, stages=stages)


def plan(verb: str, content: Mapping[str, Any], output: Path, folder: Path, problems: list[str]) -> Planned | None:
    """One stage with what the recipe says and what it takes from the stages before it."""
    settings_type = settings_of(verb)
    names = {field.name for field in dataclasses.fields(settings_type)}
    given = {key: value for key, value in chained(verb, content, output, folder).items() if key in names}
    hints = get_type_hints(settings_type)
    for key, value in given.items():
        if isinstance(value, list) and get_origin(hints[key]) is not tuple:
            given[key] = value[-1]
    try:
        settings = fill(settings_type, given | content[verb], f"[{verb}]", folder, problems)
    except SettingsError as error:
        problems.append(f"[{verb}] {error}")
        return None
    if settings is None:
        return None
    place = getattr(settings, "output", None) or getattr(settings, "output_dir", None)
    return Planned(verb=verb, settings=settings, place=Path(place) if place else output / PLACES[verb])


def settings_of(verb: str) -> type[Any]:
    """The settings dataclass of a stage."""
    module = import_module(f"whisperstill.stages.{verb}")
    found: type[Any] = getattr(module, f"{verb.capitalize()}Settings")
    return found


def chained(verb: str, content: Mapping[str, Any], output: Path, folder: Path) -> dict[str, Any]:
    """What a stage takes from the stages before it, where the recipe does not say otherwise."""

    def left_by(earlier: str) -> Path | None:
        """Where an earlier stage of this recipe leaves its output."""
        if earlier not in content:
            return None
        named = content[earlier].get("output")
        return placed(expanded(str(named)), folder) if named else output / PLACES[earlier]

    labels = left_by("label")
    teacher = content.get("label", {}).get("teacher") or content.get("init", {}).get("teacher")
    student = left_by("train") or left_by("init")
    given: dict[str, Any] = {"output_dir" if verb == "transcribe" else "output": output / PLACES[verb]}
    match verb:
        case "filter":
            given["labels"] = labels
        case "init":
            given["teacher"] = teacher
        case "train":
            given |= {"student": left_by("init"), "labels": left_by("filter") or labels}
        case "evaluate":
            given["model"] = [model for model in (teacher, student) if model]
        case "transcribe":
            given["model"] = student
    return {key: value for key, value in given.items() if value}
