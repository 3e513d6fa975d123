"""Variants of a recipe: its tables with some settings changed, the folders of their outputs, and their training.

What variants share (a filter, an initial student, a whole training) has one folder, named by a hash of all settings it
depends on, and is made once.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisperstill.console import NullConsole
from whisperstill.errors import SettingsError
from whisperstill.pipeline.cache_key import compute_cache_key
from whisperstill.pipeline.recipe import Recipe, VerbLoader, parse_recipe
from whisperstill.pipeline.runner import is_finished, read_stage_record, run_stage
from whisperstill.pipeline.toml_settings import TomlTable, TomlValue
from whisperstill.records.json_value import JsonObject
from whisperstill.records.serialization import from_dict

VARIABLE_STAGES = ("filter", "init", "train")
"""Stages whose settings may vary; none of them runs the teacher over the whole corpus."""


@dataclass(frozen=True)
class VariantReport:
    """What is compared of the report of a training."""

    hours: float
    windows: int
    steps: int
    best_wer: float | None


def override_recipe(
    recipe: Recipe,
    overrides: Mapping[str, TomlValue],
    seed: int,
    max_steps: int | None,
    output: Path,
    name: str = "train",
) -> TomlTable:
    """The recipe's content with `overrides` such as `{"train.learning_rate": 1e-4}`, up to `[train]`.

    Outputs go to folders under `output`; the student's folder begins with `name`.
    """
    # 1. Only what training needs. `filter --tune` is dropped: a pilot must not start pilots of its own.
    tables = {
        verb: {
            key: value
            for key, value in table.items()
            if not (verb == "filter" and key.startswith("tune")) and not (verb in VARIABLE_STAGES and key == "output")
        }
        for verb, table in recipe.tables.items()
        if verb not in ("evaluate", "transcribe")
    }
    # 2. The changed settings.
    for key, value in overrides.items():
        verb, *keys = key.split(".")
        tables[verb] = _with_value(tables[verb], keys, value)
    tables["train"] |= {"seed": seed} | ({"max_steps": max_steps} if max_steps else {})
    # 3. Output folders named after what the output depends on, so that variants share them.
    varied_stages = [verb for verb in tables if verb in VARIABLE_STAGES]
    outputs: dict[str, TomlValue] = {}
    folder = output.absolute()  # relative paths in tables are relative to the recipe
    for verb in varied_stages:
        dependencies = varied_stages[: varied_stages.index(verb) + 1] if verb == "train" else [verb]
        settings = json.dumps([tables[dependency] for dependency in dependencies], sort_keys=True, default=str)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        outputs[verb] = folder / f"{name if verb == 'train' else verb}-{digest}"
    with_outputs = {
        verb: table | ({"output": outputs[verb]} if verb in outputs else {}) for verb, table in tables.items()
    }
    return {"name": recipe.name, "output": str(recipe.output), **with_outputs}


def _with_value(table: TomlTable, keys: Sequence[str], value: TomlValue) -> dict[str, TomlValue]:
    """`table` with a value at the end of nested keys."""
    key, *rest = keys
    nested = table.get(key)
    return {**table, key: _with_value(nested if isinstance(nested, Mapping) else {}, rest, value) if rest else value}


def train_variant(content: TomlTable, path: Path, load_verb: VerbLoader) -> tuple[Path, VariantReport]:
    """Trains a variant of the recipe at `path`, running every missing stage; returns the student and its train report.

    Raises `SettingsError` if the training was stopped early, and what a stage raises.
    """
    output_keys: dict[Path, str] = {}
    report: JsonObject = {}
    recipe = parse_recipe(content, path, load_verb)
    for stage in recipe.stages:
        key = compute_cache_key(stage, recipe.folder, output_keys)
        output_keys[stage.output] = key
        record = read_stage_record(stage.output)
        if stage.verb == "label":
            output_keys[stage.output] = record.key if record is not None else key
        elif record is not None and is_finished(stage, record, key):
            report = record.report or {}
        else:
            result, _ = run_stage(stage, key, record is not None and record.key != key, NullConsole())
            report = result.report or {}
            if not result.finished:
                raise SettingsError("stopped before the end; run the same command again to resume")
    return recipe.stages[-1].output, from_dict(VariantReport, report)


def find_problems(recipe: Recipe, seeds: tuple[int, ...]) -> list[str]:
    """Why no variants can be trained: without labels (variants never run the teacher to label), without seeds."""
    problems = [
        f"there are no labels in {stage.output}: run `whisperstill run --only label` first"
        for stage in recipe.stages
        if stage.verb == "label" and not (stage.output / "manifest.json").exists()
    ]
    return problems if seeds else [*problems, "seeds must name at least one"]
