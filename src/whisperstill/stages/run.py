"""`run`: run the missing stages of a recipe."""

from dataclasses import dataclass
from pathlib import Path

from whisperstill.console import SILENT, Console
from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.pipeline.recipe import read_recipe
from whisperstill.pipeline.runner import RunReport, run_recipe
from whisperstill.records.serialization import to_jsonable, write_json
from whisperstill.stages import load_verb
from whisperstill.versions import package_versions

__all__ = ["RunReport", "RunSettings", "run"]


@dataclass(frozen=True)
class RunSettings:
    """Run the missing stages of a recipe."""

    recipe: Path
    """Recipe, a TOML file."""
    only: tuple[str, ...] = ()
    """Stages to run; all stages of the recipe by default. The others' outputs are used as they are."""
    force: tuple[str, ...] = ()
    """Stages to run again even if they are finished; their old output is moved aside."""


def run(settings: RunSettings, console: Console = SILENT) -> RunReport:
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
    states = []
    for result in report.stages:
        if result.verb == "evaluate" and not result.ran:
            from whisperstill.evaluate.report.page import show_results
            from whisperstill.records.results_file import read_eval_results

            try:
                show_results(read_eval_results(result.output), console)
            except (NotFoundError, SettingsError) as error:
                console.warn(str(error))
        if result.verb == "transcribe":
            files = sorted(result.output.glob("*.txt"))[:5]
            rows = [[file.stem, " ".join(file.read_text(encoding="utf-8").split())] for file in files]
            if rows:
                console.table("transcripts of the student", ["audio", "transcript"], rows)
        state = f"{result.seconds:.0f} s" if result.ran else "done" if result.finished else "left out"
        states.append(f"{result.verb} {state}")
    console.info(f"{report.name}: {', '.join(states)}; outputs are in {report.output}")
