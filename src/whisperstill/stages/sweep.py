"""`sweep`: train a recipe in many variants over one label store."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from whisperstill.console import SILENT, Console
from whisperstill.errors import SettingsError
from whisperstill.pipeline.recipe import read_recipe
from whisperstill.pipeline.sweep import SweepReport, sweep_recipe
from whisperstill.records.json_value import JsonValue
from whisperstill.stages import load_verb

__all__ = ["SweepReport", "SweepSettings", "run"]


@dataclass(frozen=True)
class SweepSettings:
    """Train a recipe in many variants and compare them by validation WER."""

    recipe: Path
    """Recipe, a TOML file; its `[train]` must name a validation set."""
    grid: tuple[str, ...] = ()
    """Settings and their values, as TOML: `train.learning_rate=[1e-4, 5e-4]`, `init.layers=[[0, 5], [0, 3]]`. Every
    combination is trained."""
    seeds: tuple[int, ...] = (0,)
    """Seeds that every combination is trained with."""
    max_steps: int | None = None
    """Optimizer steps of every training; the recipe's by default."""
    output: Path | None = None
    """Folder of the results; `sweep` under the recipe's output by default."""


def run(settings: SweepSettings, console: Console = SILENT) -> SweepReport:
    """Trains every combination of the grid with every seed; see `pipeline.sweep`."""
    from whisperstill.distill.validation import shared_encoder_cache

    recipe, grid = read_recipe(settings.recipe, load_verb), dict(map(_parse_grid_entry, settings.grid))
    output = settings.output or recipe.output / "sweep"
    with shared_encoder_cache():
        return sweep_recipe(recipe, grid, settings.seeds, settings.max_steps, output, console)


def _parse_grid_entry(text: str) -> tuple[str, list[JsonValue]]:
    name, equals, values = text.partition("=")
    try:
        parsed = tomllib.loads(f"values = {values}")["values"] if equals else None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"grid: expected TOML values such as train.seed=[1, 2], got {text!r} ({error})") from error
    if not isinstance(parsed, list) or not parsed:
        raise SettingsError(f"grid: expected a name and a list, such as train.learning_rate=[1e-4, 5e-4], got {text!r}")
    return name.strip(), parsed
