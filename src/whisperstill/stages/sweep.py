"""sweep: one recipe in many variations over one label store; the teacher is not visited again.

Every combination of what is varied is trained with every seed. What combinations share (a filter, an initial student)
is made once, and what was finished before is not done again, so a sweep may be stopped, widened, and taken up.
"""

import itertools
import json
import re
import statistics
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whisperstill.atomic_io import atomic_write
from whisperstill.errors import SettingsError, StoreError, TrainingError
from whisperstill.stages.cache_key import to_jsonable
from whisperstill.stages.console import Console
from whisperstill.stages.recipe import Recipe, parse_recipe, read_toml
from whisperstill.stages.recipe_overrides import VARIABLE_STAGES, find_labels_problem, override_recipe, train_variant
from whisperstill.text.markdown import markdown_table

COLUMNS = ("mean", "min", "max", "windows", "steps")


@dataclass(frozen=True)
class SweepSettings:
    """What of a recipe is varied."""

    recipe: Path
    """The recipe, a TOML file; its `[train]` has to name a validation set."""
    grid: tuple[str, ...] = ()
    """What takes which values, as TOML: `train.learning_rate=[1e-4, 5e-4]`, `init.layers=[[0, 5], [0, 3]]`. Several
    make a grid."""
    seeds: tuple[int, ...] = (0,)
    """Seeds that every combination is trained with."""
    max_steps: int | None = None
    """Steps of every training (default: as the recipe has it)."""
    output: Path | None = None
    """Folder of the results (default: `sweep` under the recipe's output)."""


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One combination."""

    values: dict[str, Any]
    validation_wer: dict[int, float]
    """By seed: the lowest of its training, per cent."""
    steps: int
    windows: int
    """Windows trained on."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.mean(self.validation_wer.values())


@dataclass(frozen=True, slots=True)
class SweepReport:
    """All of them, the best first."""

    output: str
    rows: tuple[SweepRow, ...] = field(default=())
    failed: tuple[str, ...] = ()
    """Trainings that came to nothing, and why: a rate that diverges, a filter that leaves nothing."""


def run(settings: SweepSettings, console: Console) -> SweepReport:
    """Train all variations and show them side by side; writes `sweep.json` and `sweep.md`.

    Raises `SettingsError` for what cannot be varied and where the labels are not there, and what a stage raises.
    """
    from whisperstill.distill.validation import shared_encoder_cache

    content = read_toml(settings.recipe)
    recipe = parse_recipe(content, settings.recipe)
    grid = dict(_parse_grid_entry(entry) for entry in settings.grid)
    output = settings.output or recipe.output / "sweep"
    _check(recipe, grid, settings)
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    console.info(f"{len(combinations)} combinations, {len(settings.seeds)} seeds each")
    rows: list[SweepRow] = []
    failed: list[str] = []
    trainings = len(combinations) * len(settings.seeds)
    with console.progress("sweep", trainings, "trainings") as bar, shared_encoder_cache():
        for values in combinations:
            reports = {}
            for seed in settings.seeds:
                name = f"{_slug(values)}-seed-{seed}"
                tables = override_recipe(content, values, seed, settings.max_steps, recipe, output, name)
                try:
                    _, reports[seed] = train_variant(tables, settings.recipe)
                except (StoreError, TrainingError) as error:
                    failed.append(f"{_format_values(values)}, seed {seed}: {error}")
                    console.warn(failed[-1])
                bar.advance(1, wer=f"{reports[seed]['best_wer']:.2f}" if seed in reports else "-")
            if not reports:
                continue
            first_report = next(iter(reports.values()))
            wer = {seed: round(report["best_wer"], 2) for seed, report in reports.items()}
            rows.append(SweepRow(values, wer, first_report["steps"], first_report["windows"]))
            _write_results(output, rows)
    if not rows:
        raise TrainingError(f"all {trainings} trainings failed, the last: {failed[-1]}")
    rows.sort(key=lambda row: row.mean)
    console.table("validation WER, %", ["", *COLUMNS], _table_rows(rows))
    return SweepReport(str(output), tuple(rows), tuple(failed))


def _table_rows(rows: list[SweepRow]) -> list[list[str]]:
    return [
        [
            _format_values(row.values),
            f"{row.mean:.2f}",
            f"{min(row.validation_wer.values()):.2f}",
            f"{max(row.validation_wer.values()):.2f}",
            str(row.windows),
            str(row.steps),
        ]
        for row in rows
    ]


def _format_values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_format_value(value)}" for name, value in values.items()) or "as the recipe has it"


def _write_results(output: Path, rows: list[SweepRow]) -> None:
    ranked = sorted(rows, key=lambda row: row.mean)
    atomic_write(output / "sweep.json", json.dumps([to_jsonable(row) for row in ranked], indent=1) + "\n")
    atomic_write(output / "sweep.md", markdown_table(["variation", *COLUMNS], _table_rows(ranked)) + "\n")


def _parse_grid_entry(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    try:
        parsed = tomllib.loads(f"values = {values}")["values"] if equals else None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"grid: expected TOML values such as train.seed=[1, 2], got {text!r} ({error})") from error
    if not isinstance(parsed, list) or not parsed:
        raise SettingsError(f"grid: expected a name and a list, such as train.learning_rate=[1e-4, 5e-4], got {text!r}")
    return name.strip(), parsed


def _check(recipe: Recipe, grid: Mapping[str, list[Any]], settings: SweepSettings) -> None:
    stages = {stage.verb: stage for stage in recipe.stages}
    problems = []
    for name in grid:
        verb, _, key = name.partition(".")
        if verb not in VARIABLE_STAGES or not key:
            problems.append(
                f"{name} cannot be varied: expected a setting of {', '.join(VARIABLE_STAGES)}, such as train.dropout"
            )
        elif verb not in stages:
            problems.append(f"{name} cannot be varied: the recipe has no [{verb}]")
        elif name in ("train.seed", "train.output"):
            problems.append(f"{name} cannot be varied: --seeds names the seeds, outputs have folders of their own")
    if "train" not in stages or not stages["train"].settings.validation:
        problems.append("the recipe needs a [train] with validation: a sweep compares by it")
    recipe_layers = "init" in stages and getattr(stages["init"].settings, "layers", None)
    if "init.decoder_layers" in grid and recipe_layers and "init.layers" not in grid:
        problems.append("init.decoder_layers says nothing beside the recipe's init.layers: vary those")
    if labels_problem := find_labels_problem(recipe):
        problems.append(labels_problem)
    if not settings.seeds:
        problems.append("seeds must name at least one")
    if problems:
        raise SettingsError("; ".join(problems))


def _slug(values: Mapping[str, Any]) -> str:
    text = "-".join(f"{name.partition('.')[2]}-{_format_value(value)}" for name, value in values.items()) or "recipe"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:80]


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
