"""`run`: run the missing stages of a recipe."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisperstill.console import Console
from whisperstill.errors import SettingsError
from whisperstill.pipeline.recipe import read_recipe
from whisperstill.pipeline.runner import RunReport, StageResult, run_recipe
from whisperstill.records.serialization import to_jsonable, write_json
from whisperstill.stages import load_verb
from whisperstill.versions import package_versions

__all__ = ["RunReport", "RunSettings", "StageResult", "run"]


@dataclass(frozen=True)
class RunSettings:
    """Run the missing stages of a recipe."""

    recipe: Path
    """Recipe, a TOML file."""
    only: tuple[str, ...] = ()
    """Stages to run; all stages of the recipe by default. The others' outputs are used as they are."""
    force: tuple[str, ...] = ()
    """Stages to run again even if they are finished; their old output is moved aside."""


def run(settings: RunSettings, console: Console) -> RunReport:
    """Runs the missing stages and prints a summary; writes `report.json` under the recipe's output.

    Raises `SettingsError` for an invalid recipe, and whatever a stage raises; finished stages stay finished.
    """
    recipe = read_recipe(settings.recipe, load_verb)
    verbs = [stage.verb for stage in recipe.stages]
    unknown = [verb for verb in (*settings.only, *settings.force) if verb not in verbs]
    if unknown:
        raise SettingsError(f"expected stages of the recipe ({', '.join(verbs)}), got {', '.join(unknown)}")
    report = run_recipe(recipe, settings.only, settings.force, console)
    write_json(recipe.output / "report.json", to_jsonable(report) | {"versions": package_versions()})
    print_summary(report, console)
    return report


def print_summary(report: RunReport, console: Console) -> None:
    """Prints the evaluation, some transcripts, and the time of each stage."""
    for result in report.stages:
        if result.verb == "evaluate" and not result.ran:
            results = read_results(result.output / "results.json")
            if results:
                from whisperstill.evaluate.tables import COLUMNS, format_rows

                console.table(f"{report.name}: teacher and student", COLUMNS, format_rows(results))
        if result.verb == "transcribe":
            rows = [
                [file.stem, " ".join(file.read_text(encoding="utf-8").split())]
                for file in sorted(result.output.glob("*.txt"))[:5]
            ]
            if rows:
                console.table("transcripts of the student", ["audio", "transcript"], rows)
    spent = ", ".join(
        f"{stage_result.verb} "
        + (f"{stage_result.seconds:.0f} s" if stage_result.ran else "done" if stage_result.finished else "left out")
        for stage_result in report.stages
    )
    console.info(f"{report.name}: {spent}; outputs are in {report.output}")


def read_results(path: Path) -> list[dict[str, Any]]:
    """The list in `results.json`; empty if there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []
