"""run: all stages of a recipe; run again, it does only what is missing.

Beside a stage's output lies `<output>.stage.json`: the hash of what the output depends on (`stages.cache_key`), and
whether the stage finished. A stage is left out when it finished under the same hash and its output is still there.
When settings or inputs changed, the old output is moved aside (`labels.old-1`), never deleted. A stage that was
interrupted is called again and goes on from what it has; labels to which only corpora or packings were added are kept,
and what is new is labelled.
"""

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from whisperstill._version import __version__
from whisperstill.atomic_io import atomic_write
from whisperstill.errors import SettingsError
from whisperstill.stages import run_settings
from whisperstill.stages.cache_key import compute_cache_key, to_jsonable
from whisperstill.stages.console import Console
from whisperstill.stages.recipe import RecipeStage, read_recipe

SELF_RESUMING_STAGES = ("evaluate",)
"""Stages that know themselves what of an earlier output still holds."""


@dataclass(frozen=True)
class RunSettings:
    """Carries out a recipe."""

    recipe: Path
    """The recipe, a TOML file."""
    only: tuple[str, ...] = ()
    """Stages to carry out (default: all that the recipe has); the others are taken as they are."""
    force: tuple[str, ...] = ()
    """Stages to carry out even if they are done; their old output is moved aside."""


@dataclass(frozen=True, slots=True)
class StageResult:
    """What became of one stage."""

    verb: str
    output: Path
    ran: bool
    """False: it was done already."""
    seconds: float
    """How long it took when it ran."""
    report: Any
    """The stage's own report, as JSON."""
    finished: bool = True
    """False: it was asked to stop (training on SIGTERM) and goes on next time."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What became of a recipe."""

    name: str
    output: Path
    stages: tuple[StageResult, ...]
    finished: bool
    """Whether every stage of the recipe is done."""
    problems: tuple[Any, ...] = field(default=())
    """Everything that a stage of this run skipped."""


def run(settings: RunSettings, console: Console) -> RunReport:
    """Carries out what is missing of a recipe and shows teacher and student side by side.

    Writes `report.json` under the recipe's output. Raises `SettingsError` for a recipe that cannot be, and whatever a
    stage raises; what was finished before stays finished.
    """
    recipe = read_recipe(settings.recipe)
    verbs = [stage.verb for stage in recipe.stages]
    unknown = [verb for verb in (*settings.only, *settings.force) if verb not in verbs]
    if unknown:
        raise SettingsError(f"expected stages of the recipe ({', '.join(verbs)}), got {', '.join(unknown)}")
    output_keys: dict[Path, str] = {}
    results: list[StageResult] = []
    problems: list[Any] = []
    for number, stage in enumerate(recipe.stages, 1):
        key = compute_cache_key(stage, recipe.folder, output_keys)
        output_keys[stage.output] = key
        previous = read_json(stage_record_path(stage.output))
        done = previous.get("key") == key and previous.get("state") == "finished" and stage.output.exists()
        is_excluded = bool(settings.only) and stage.verb not in settings.only
        if is_excluded and not done:
            output_keys[stage.output] = previous.get("key", key)  # what is there was made otherwise
        title = f"[{number}/{len(recipe.stages)}] {stage.verb}"
        if (done or is_excluded) and stage.verb not in settings.force:
            console.info(f"{title}: {'done already' if done else 'left out'} ({stage.output})")
            results.append(
                StageResult(stage.verb, stage.output, False, previous.get("seconds", 0.0), previous.get("report"), done)
            )
            continue
        console.info(f"{title} -> {stage.output}")
        stale = bool(previous) and previous.get("key") != key
        force = stage.verb in settings.force or (
            not stale and previous.get("state") == "started" and previous.get("force")
        )
        if stale and not force and _only_added_corpora(stage, previous, recipe.folder, output_keys):
            console.info("more to label: what is there is kept")
            stale = False
        result, skipped = run_stage(stage, key, stale, console, bool(force))
        results.append(result)
        problems += skipped
        if not result.finished:
            console.warn(f"{stage.verb} was stopped before its end; the same command goes on from there")
            break
    finished = len(results) == len(recipe.stages) and all(stage_result.finished for stage_result in results)
    report = RunReport(recipe.name, recipe.output, tuple(results), finished, tuple(problems))
    write_json(recipe.output / "report.json", to_jsonable(report) | {"versions": package_versions()})
    print_summary(report, console)
    return report


def _only_added_corpora(
    stage: RecipeStage, previous: dict[str, Any], folder: Path, output_keys: Mapping[Path, str]
) -> bool:
    """Whether labels were made from the same settings and inputs, but fewer corpora or packings of a single one."""
    previous_settings = previous.get("settings")
    if stage.verb != "label" or not isinstance(previous_settings, dict):
        return False
    current_settings, num_previous, previous_variants = (
        stage.settings,
        len(previous_settings.get("manifest", ())),
        previous_settings.get("packing_variants", 1),
    )
    if not 0 < num_previous <= len(current_settings.manifest) or (
        previous_variants != current_settings.packing_variants and len(current_settings.manifest) > 1
    ):
        return False
    truncated_settings = replace(
        current_settings, manifest=current_settings.manifest[:num_previous], packing_variants=previous_variants
    )
    return previous_variants <= current_settings.packing_variants and bool(
        compute_cache_key(replace(stage, settings=truncated_settings), folder, output_keys) == previous["key"]
    )


def run_stage(
    stage: RecipeStage, key: str, stale: bool, console: Console, force: bool = False
) -> tuple[StageResult, list[Any]]:
    """Runs one stage between its two marks, `started` and `finished`.

    What is `stale`, or asked for with `force` and not begun again yet, begins from nothing; all else goes on.
    """
    previous = read_json(stage_record_path(stage.output))
    resumes = not stale and previous.get("state") == "started" and bool(previous.get("force")) == force
    if (stale or (force and not resumes)) and stage.output.exists() and stage.verb not in SELF_RESUMING_STAGES:
        reason = "asked for again" if force else "settings or inputs changed"
        console.info(f"{reason}: the earlier output is now {move_aside(stage.output)}")
    record: dict[str, Any] = {
        "key": key,
        "verb": stage.verb,
        "state": "started",
        "settings": to_jsonable(stage.settings),
    }
    write_json(stage_record_path(stage.output), record | {"force": force})
    start_time = time.monotonic()
    settings = stage.settings
    if resumes and hasattr(settings, "skip_existing"):
        settings = replace(settings, skip_existing=True)
    report = run_settings(settings, console)
    seconds = round(time.monotonic() - start_time, 2)
    report_json = to_jsonable(report)
    finished = bool(getattr(report, "finished", True))
    state = "finished" if finished else "started"
    record |= {"state": state, "seconds": seconds, "report": report_json, "versions": package_versions()}
    write_json(stage_record_path(stage.output), record)
    skipped = [
        problem for name in ("problems", "skipped", "failed") for problem in as_list(getattr(report, name, None))
    ]
    return StageResult(stage.verb, stage.output, True, seconds, report_json, finished), skipped


def print_summary(report: RunReport, console: Console) -> None:
    """The tables at the end: what was measured, what the student wrote, how long it all took."""
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
                console.table("what the student heard", ["audio", "transcript"], rows)
    spent = ", ".join(
        f"{stage_result.verb} "
        + (f"{stage_result.seconds:.0f} s" if stage_result.ran else "done" if stage_result.finished else "left out")
        for stage_result in report.stages
    )
    console.info(f"{report.name}: {spent}; everything is in {report.output}")


def read_results(path: Path) -> list[dict[str, Any]]:
    """The list in `results.json`; empty when there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []


def stage_record_path(output: Path) -> Path:
    """Where the mark of a stage's output lies."""
    return output.with_name(f"{output.name}.stage.json")


def move_aside(output: Path) -> Path:
    """Renames an output to the first free `<name>.old-N`."""
    number = 1
    while (target := output.with_name(f"{output.name}.old-{number}")).exists():
        number += 1
    output.rename(target)
    return target


def as_list(value: Any) -> list[Any]:
    """A sequence as a list; a count or nothing as none of it that could be listed."""
    return list(value) if isinstance(value, list | tuple) else [value] if value else []


def package_versions() -> dict[str, str]:
    """The versions an artefact was made with."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"whisperstill": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in ("torch", "tokenizers", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file; empty when there is none, or half of one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, whole or not at all."""
    atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
