"""Variants of a recipe: its tables with some settings changed, the folders of their outputs, and their training.

What variants share (a filter, an initial student, a whole training) has one folder, named by a hash of all settings it
depends on, and is made once.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisperstill.console import Console, NullConsole
from whisperstill.errors import SettingsError, StoreError, TrainingError
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


class VariantTrainer:
    """Trains variants of a recipe. A training that fails is listed, and the others go on."""

    def __init__(
        self, recipe: Recipe, path: Path, max_steps: int | None, output: Path, load_verb: VerbLoader, console: Console
    ) -> None:
        """`path` is the recipe's file; outputs go to folders under `output`."""
        self._recipe, self._path, self._max_steps, self._output = recipe, path, max_steps, output
        self._load_verb, self._console = load_verb, console
        self.reports: dict[Path, VariantReport] = {}
        """Reports by the student's folder."""
        self.failed: list[str] = []
        """Trainings that failed, and why."""

    def train(self, overrides: Mapping[str, TomlValue], seed: int, name: str, description: str) -> Path | None:
        """Trains with `overrides` such as `{"train.learning_rate": 1e-4}`, running every missing stage.

        Returns the student's folder, which begins with `name`; None if the loss diverged or the filter kept nothing.
        Raises `SettingsError` if the training was stopped early, and what a stage raises.
        """
        variant = parse_recipe(self._override(overrides, seed, name), self._path, self._load_verb)
        try:
            self.reports[variant.stages[-1].output] = _run_missing_stages(variant)
        except (StoreError, TrainingError) as error:
            self.failed.append(f"{description}, seed {seed}: {error}")
            self._console.warn(self.failed[-1])
            return None
        return variant.stages[-1].output

    def _override(self, overrides: Mapping[str, TomlValue], seed: int, name: str) -> TomlTable:
        """The recipe's content up to `[train]`, with `overrides`."""
        # 1. Only what training needs. `filter --tune` is dropped: a pilot must not start pilots of its own.
        tables = {
            verb: dict(table) for verb, table in self._recipe.tables.items() if verb in ("label", *VARIABLE_STAGES)
        }
        for key in [key for key in tables.get("filter", {}) if key.startswith("tune")]:
            del tables["filter"][key]
        # 2. The changed settings.
        for key, value in overrides.items():
            verb, *keys = key.split(".")
            tables[verb] = _with_value(tables[verb], keys, value)
        tables["train"] |= {"seed": seed} | ({"max_steps": self._max_steps} if self._max_steps else {})
        # 3. Output folders named after what the output depends on, so that variants share them.
        varied = [verb for verb in tables if verb in VARIABLE_STAGES]
        for verb in varied:
            tables[verb].pop("output", None)
        dependencies = {verb: [tables[verb]] for verb in varied} | {"train": [tables[verb] for verb in varied]}
        hashed = {verb: json.dumps(values, sort_keys=True, default=str) for verb, values in dependencies.items()}
        for verb, content in hashed.items():
            folder = f"{name if verb == 'train' else verb}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
            tables[verb]["output"] = self._output.absolute() / folder  # relative paths are relative to the recipe
        return {"name": self._recipe.name, "output": str(self._recipe.output), **tables}


def _with_value(table: TomlTable, keys: Sequence[str], value: TomlValue) -> dict[str, TomlValue]:
    """`table` with a value at the end of nested keys."""
    key, *rest = keys
    nested = table.get(key)
    return {**table, key: _with_value(nested if isinstance(nested, Mapping) else {}, rest, value) if rest else value}


def _run_missing_stages(recipe: Recipe) -> VariantReport:
    """Runs the missing stages but `[label]`, up to `[train]`; returns the report of the training."""
    output_keys: dict[Path, str] = {}
    report: JsonObject = {}
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
    return from_dict(VariantReport, report)


def find_problems(recipe: Recipe, seeds: tuple[int, ...]) -> list[str]:
    """Why no variants can be trained: without labels (variants never run the teacher to label), without seeds."""
    problems = [
        f"there are no labels in {stage.output}: run `whisperstill run --only label` first"
        for stage in recipe.stages
        if stage.verb == "label" and not (stage.output / "manifest.json").exists()
    ]
    return problems if seeds else [*problems, "seeds must name at least one"]
