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

from whisperstill.errors import SettingsError, StoreError, TrainingError
from whisperstill.files import write_whole
from whisperstill.stages.console import Console
from whisperstill.stages.fingerprint import jsonable
from whisperstill.stages.recipe import Recipe, read_content, recipe_of
from whisperstill.stages.variation import VARIED, labels_missing, trained, with_values

COLUMNS = ("mean", "least", "most", "windows", "steps")


@dataclass(frozen=True)
class SweepSettings:
    """What of a recipe is varied."""

    recipe: Path
    """The recipe, a TOML file; its `[train]` has to name a validation set."""
    vary: tuple[str, ...] = ()
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
    from whisperstill.distill.validation import hearing_once

    content = read_content(settings.recipe)
    given = recipe_of(content, settings.recipe)
    varied = dict(_varied(one) for one in settings.vary)
    output = settings.output or given.output / "sweep"
    _check(given, varied, settings)
    combinations = [dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())]
    console.info(f"{len(combinations)} combinations, {len(settings.seeds)} seeds each")
    rows: list[SweepRow] = []
    failed: list[str] = []
    trainings = len(combinations) * len(settings.seeds)
    with console.progress("sweep", trainings, "trainings") as bar, hearing_once():
        for values in combinations:
            reports = {}
            for seed in settings.seeds:
                name = f"{_slug(values)}-seed-{seed}"
                tables = with_values(content, values, seed, settings.max_steps, given, output, name)
                try:
                    _, reports[seed] = trained(tables, settings.recipe)
                except (StoreError, TrainingError) as error:
                    failed.append(f"{_named(values)}, seed {seed}: {error}")
                    console.warn(failed[-1])
                bar.advance(1, wer=f"{reports[seed]['best_wer']:.2f}" if seed in reports else "-")
            if not reports:
                continue
            first = next(iter(reports.values()))
            wer = {seed: round(report["best_wer"], 2) for seed, report in reports.items()}
            rows.append(SweepRow(values, wer, first["steps"], first["windows"]))
            _write(output, rows)
    if not rows:
        raise TrainingError(f"all {trainings} trainings failed, the last: {failed[-1]}")
    rows.sort(key=lambda row: row.mean)
    console.table("validation WER, %", ["", *COLUMNS], _cells(rows))
    return SweepReport(str(output), tuple(rows), tuple(failed))


def _cells(rows: list[SweepRow]) -> list[list[str]]:
    return [
        [
            _named(row.values),
            f"{row.mean:.2f}",
            f"{min(row.validation_wer.values()):.2f}",
            f"{max(row.validation_wer.values()):.2f}",
            str(row.windows),
            str(row.steps),
        ]
        for row in rows
    ]


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in values.items()) or "as the recipe has it"


def _write(output: Path, rows: list[SweepRow]) -> None:
    best = sorted(rows, key=lambda row: row.mean)
    write_whole(output / "sweep.json", json.dumps([jsonable(row) for row in best], indent=1) + "\n")
    lines = [["variation", *COLUMNS], ["---", *["---:"] * len(COLUMNS)], *_cells(best)]
    write_whole(output / "sweep.md", "".join(f"| {' | '.join(line)} |\n" for line in lines))


def _varied(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    try:
        found = tomllib.loads(f"values = {values}")["values"] if equals else None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"vary: expected TOML values such as train.seed=[1, 2], got {text!r} ({error})") from error
    if not isinstance(found, list) or not found:
        raise SettingsError(f"vary: expected a name and a list, such as train.learning_rate=[1e-4, 5e-4], got {text!r}")
    return name.strip(), found


def _check(given: Recipe, varied: Mapping[str, list[Any]], settings: SweepSettings) -> None:
    stages = {stage.verb: stage for stage in given.stages}
    problems = []
    for name in varied:
        verb, _, key = name.partition(".")
        if verb not in VARIED or not key:
            problems.append(
                f"{name} cannot be varied: expected a setting of {', '.join(VARIED)}, such as train.dropout"
            )
        elif verb not in stages:
            problems.append(f"{name} cannot be varied: the recipe has no [{verb}]")
        elif name in ("train.seed", "train.output"):
            problems.append(f"{name} cannot be varied: --seeds names the seeds, outputs have folders of their own")
    if "train" not in stages or not stages["train"].settings.validation:
        problems.append("the recipe needs a [train] with validation: a sweep compares by it")
    chosen = "init" in stages and getattr(stages["init"].settings, "layers", None)
    if "init.decoder_layers" in varied and chosen and "init.layers" not in varied:
        problems.append("init.decoder_layers says nothing beside the recipe's init.layers: vary those")
    if missing := labels_missing(given):
        problems.append(missing)
    if not settings.seeds:
        problems.append("seeds must name at least one")
    if problems:
        raise SettingsError("; ".join(problems))


def _slug(values: Mapping[str, Any]) -> str:
    text = "-".join(f"{name.partition('.')[2]}-{_shown(value)}" for name, value in values.items()) or "recipe"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:80]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
