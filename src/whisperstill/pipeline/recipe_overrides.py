"""Variants of a recipe: its tables with some settings changed, the folders of their outputs, and their training.

What variants share (a filter, an initial student, a whole training) has one folder, named by a hash of all settings it
depends on, and is made once.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisperstill.console import SILENT, Console
from whisperstill.errors import SettingsError, StoreError, TrainingError
from whisperstill.pipeline.recipe import Recipe, parse_recipe
from whisperstill.pipeline.runner import run_recipe
from whisperstill.pipeline.toml_settings import TomlTable, TomlValue
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

    def __init__(self, recipe: Recipe, max_steps: int | None, output: Path, console: Console) -> None:
        """Outputs go to folders under `output`."""
        self._recipe, self._max_steps, self._output, self._console = recipe, max_steps, output, console
        self.reports: dict[Path, VariantReport] = {}
        """Reports by the student's folder."""
        self.failed: list[str] = []
        """Trainings that failed, and why."""

    def train(self, overrides: Mapping[str, TomlValue], seed: int, name: str, description: str) -> Path | None:
        """Trains with `overrides` such as `{"train.learning_rate": 1e-4}`, running every missing stage.

        Returns the student's folder, which begins with `name`; None if the loss diverged or the filter kept nothing.
        Raises `SettingsError` if the training was stopped early, and what a stage raises.
        """
        variant = parse_recipe(self._override(overrides, seed, name), self._recipe.path, self._recipe.load_verb)
        try:
            training = run_recipe(variant, VARIABLE_STAGES, (), SILENT).stages[-1]
        except (StoreError, TrainingError) as error:
            self.failed.append(f"{description}, seed {seed}: {error}")
            self._console.warn(self.failed[-1])
            return None
        if not training.finished:
            raise SettingsError("stopped before the end; run the same command again to resume")
        self.reports[training.output] = from_dict(VariantReport, training.report)
        return training.output

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


def find_problems(recipe: Recipe, seeds: tuple[int, ...]) -> list[str]:
    """Why no variants can be trained: without labels (variants never run the teacher to label), without seeds."""
    problems = [
        f"there are no labels in {stage.output}: run `whisperstill run --only label` first"
        for stage in recipe.stages
        if stage.verb == "label" and not (stage.output / "manifest.json").exists()
    ]
    return problems if seeds else [*problems, "seeds must name at least one"]
