"""Trains a recipe in many variants over one label store: every combination of a grid, with every seed.

What combinations share is made once, and finished trainings are not repeated, so a sweep can be stopped, extended and
resumed.
"""

import itertools
import json
import re
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisperstill.atomic_io import atomic_write
from whisperstill.console import Console
from whisperstill.errors import SettingsError, TrainingError
from whisperstill.pipeline.recipe import Recipe
from whisperstill.pipeline.recipe_overrides import VARIABLE_STAGES, VariantReport, VariantTrainer, find_problems
from whisperstill.records.json_value import JsonObject, JsonValue
from whisperstill.records.serialization import to_jsonable
from whisperstill.text.markdown import markdown_table

COLUMNS = ("mean", "min", "max", "windows", "steps")


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One combination."""

    values: JsonObject
    """Value by setting."""
    validation_wer: dict[int, float]
    """Best validation WER by seed, per cent."""
    steps: int
    windows: int
    """Windows trained on."""

    @property
    def mean(self) -> float:
        """Mean validation WER over the seeds, per cent."""
        return statistics.mean(self.validation_wer.values())


@dataclass(frozen=True, slots=True)
class SweepReport:
    """All combinations, best first."""

    output: str
    rows: tuple[SweepRow, ...] = ()
    failed: tuple[str, ...] = ()
    """Trainings that failed, and why: the loss diverged, or the filter kept nothing."""


def sweep_recipe(
    recipe: Recipe,
    grid: Mapping[str, Sequence[JsonValue]],
    seeds: tuple[int, ...],
    max_steps: int | None,
    output: Path,
    console: Console,
) -> SweepReport:
    """Trains every combination of `grid` (setting -> values) with every seed; writes `sweep.json` and `sweep.md`.

    Raises `SettingsError` for settings that cannot vary and for missing labels, and what a stage raises.
    """
    _check(recipe, grid, seeds)
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    console.info(f"{len(combinations)} combinations, {len(seeds)} seeds each")
    rows: list[SweepRow] = []
    trainer = VariantTrainer(recipe, max_steps, output, console)
    trainings = len(combinations) * len(seeds)
    with console.progress("sweep", trainings, "trainings") as bar:
        for values in combinations:
            reports: dict[int, VariantReport] = {}
            for seed in seeds:
                name = f"{_slug(values)}-seed-{seed}"
                if student := trainer.train(values, seed, name, _format_values(values)):
                    reports[seed] = trainer.reports[student]
                bar.advance(1, wer=f"{reports[seed].best_wer:.2f}" if seed in reports else "-")
            if not reports:
                continue
            first_report = next(iter(reports.values()))
            wer = {seed: round(report.best_wer, 2) for seed, report in reports.items() if report.best_wer is not None}
            rows.append(SweepRow(values, wer, first_report.steps, first_report.windows))
            _write_results(output, rows)
    if not rows:
        raise TrainingError(f"all {trainings} trainings failed, the last: {trainer.failed[-1]}")
    rows.sort(key=lambda row: row.mean)
    console.table("validation WER, %", ["", *COLUMNS], _table_rows(rows))
    return SweepReport(str(output), tuple(rows), tuple(trainer.failed))


def _table_rows(rows: list[SweepRow]) -> list[list[str]]:
    table = []
    for row in rows:
        wers = row.validation_wer.values()
        cells = [f"{wer:.2f}" for wer in (row.mean, min(wers), max(wers))]
        table.append([_format_values(row.values), *cells, str(row.windows), str(row.steps)])
    return table


def _format_values(values: JsonObject) -> str:
    return ", ".join(f"{name} {_format_value(value)}" for name, value in values.items()) or "recipe values"


def _write_results(output: Path, rows: list[SweepRow]) -> None:
    ranked = sorted(rows, key=lambda row: row.mean)
    atomic_write(output / "sweep.json", json.dumps([to_jsonable(row) for row in ranked], indent=1) + "\n")
    atomic_write(output / "sweep.md", markdown_table(["variation", *COLUMNS], _table_rows(ranked)) + "\n")


def _check(recipe: Recipe, grid: Collection[str], seeds: tuple[int, ...]) -> None:
    stages, problems = recipe.tables, []
    for name in grid:
        verb, _, key = name.partition(".")
        if verb not in VARIABLE_STAGES or not key:
            problems.append(
                f"{name} cannot vary: expected a setting of {', '.join(VARIABLE_STAGES)}, such as train.dropout"
            )
        elif verb not in stages:
            problems.append(f"{name} cannot vary: the recipe has no [{verb}]")
        elif name in ("train.seed", "train.output"):
            problems.append(f"{name} cannot vary: use --seeds for seeds; every training has its own output")
    if "train" not in stages or not stages["train"].get("validation"):
        problems.append("the recipe needs a [train] with validation: combinations are compared by validation WER")
    if (
        "init.decoder_layers" in grid
        and "init" in stages
        and stages["init"].get("layers")
        and "init.layers" not in grid
    ):
        problems.append("init.decoder_layers has no effect beside the recipe's init.layers: vary init.layers")
    if problems := problems + find_problems(recipe, seeds):
        raise SettingsError("; ".join(problems))


def _slug(values: JsonObject) -> str:
    text = "-".join(f"{name.partition('.')[2]}-{_format_value(value)}" for name, value in values.items()) or "recipe"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:80]


def _format_value(value: JsonValue) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
