"""Runs the stages of a recipe that are missing.

The stage record beside an output (`StageRecord`) holds its cache key and whether the stage finished. A stage
is skipped if it finished with the same key and its output exists. If settings or inputs changed, the old output is
moved aside (`labels.old-1`), never deleted. An interrupted stage runs again and resumes from its partial output. If
only corpora or packing variants were added to `[label]`, the labels are kept and the new windows are labelled.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from whisperstill.console import Console
from whisperstill.pipeline.cache_key import compute_cache_key
from whisperstill.pipeline.recipe import Recipe, RecipeStage
from whisperstill.records.json_value import JsonObject, JsonValue
from whisperstill.records.serialization import from_dict, read_record, to_jsonable, write_json
from whisperstill.versions import package_versions

INCREMENTAL_STAGES = ("evaluate",)
"""Stages that keep the valid parts of an earlier output themselves."""


@dataclass(frozen=True, slots=True)
class StageRecord:
    """`<output>.stage.json` beside the output of a stage: what it was made from, and whether the stage finished."""

    key: str
    """Hash of settings and inputs (`pipeline.cache_key`)."""
    verb: str
    state: str
    """`started` or `finished`."""
    settings: JsonObject
    force: bool = False
    """Whether the run was forced with `--force`."""
    seconds: float = 0.0
    report: JsonObject | None = None
    """The stage's report; None until it returned."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of whisperstill and its libraries."""


@dataclass(frozen=True, slots=True)
class StageResult:
    """Result of one stage of a recipe."""

    verb: str
    output: Path
    ran: bool
    """False if the output was already there, or the stage was left out."""
    seconds: float
    """Wall time of the run that made the output."""
    report: JsonObject | None
    """The stage's report; None if it never ran."""
    finished: bool = True
    """False if the stage stopped early (training on SIGTERM); the next run resumes it."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """Result of a recipe."""

    name: str
    output: Path
    stages: tuple[StageResult, ...]
    finished: bool
    """Whether every stage is finished."""
    problems: tuple[JsonValue, ...] = ()
    """Inputs that stages of this run skipped."""


def run_recipe(recipe: Recipe, only: tuple[str, ...], force: tuple[str, ...], console: Console) -> RunReport:
    """Runs every missing stage; with `only`, none but these; those in `force` even if they are finished."""
    output_keys: dict[Path, str] = {}
    results: list[StageResult] = []
    problems: list[JsonValue] = []
    for number, stage in enumerate(recipe.stages, 1):
        # 1. Compare the key of the existing output with the key it would get now.
        key = compute_cache_key(stage, recipe.path.parent, output_keys)
        output_keys[stage.output] = key
        record = read_stage_record(stage.output)
        done = _is_finished(stage, record, key)
        is_excluded = bool(only) and stage.verb not in only
        if is_excluded and not done and record is not None:
            output_keys[stage.output] = record.key  # later stages read the output that exists
        title = f"[{number}/{len(recipe.stages)}] {stage.verb}"
        # 2. Skip a stage that is finished or excluded.
        if (done or is_excluded) and stage.verb not in force:
            console.info(f"{title}: {'already done' if done else 'left out'} ({stage.output})")
            seconds, report = (record.seconds, record.report) if record is not None else (0.0, None)
            results.append(StageResult(stage.verb, stage.output, False, seconds, report, done))
            continue
        # 3. Run it: from scratch if it is stale or forced, else resuming.
        console.info(f"{title} -> {stage.output}")
        stale = record is not None and record.key != key
        if stale and stage.verb not in force and _only_added_corpora(stage, record, recipe, output_keys):
            console.info("more to label: the existing labels are kept")
            stale = False
        interrupted = record if record is not None and record.state == "started" and not stale else None
        forced = stage.verb in force or (interrupted is not None and interrupted.force)
        resumes = interrupted is not None and interrupted.force == forced
        if (stale or (forced and not resumes)) and stage.output.exists() and stage.verb not in INCREMENTAL_STAGES:
            reason = "forced" if forced else "settings or inputs changed"
            console.info(f"{reason}: the earlier output is now {_move_aside(stage.output)}")
        result = _run_stage(stage, key, resumes, forced, console)
        results.append(result)
        problems += list_skipped(result.report or {})
        if not result.finished:
            console.warn(f"{stage.verb} stopped before its end; run the same command again to resume it")
            break
    finished = len(results) == len(recipe.stages) and all(result.finished for result in results)
    return RunReport(recipe.name, recipe.output, tuple(results), finished, tuple(problems))


def _is_finished(stage: RecipeStage, record: StageRecord | None, key: str) -> bool:
    """Whether the output exists and was finished with this key."""
    return record is not None and record.key == key and record.state == "finished" and stage.output.exists()


@dataclass(frozen=True)
class _Corpora:
    """Settings of `[label]` that may grow."""

    manifest: tuple[str, ...] = ()
    packing_variants: int = 1


def _only_added_corpora(
    stage: RecipeStage, record: StageRecord | None, recipe: Recipe, output_keys: Mapping[Path, str]
) -> bool:
    """Whether the labels differ from the recipe only in missing corpora, or missing packing variants of one corpus."""
    if stage.verb != "label" or record is None:
        return False
    wanted, labelled = (from_dict(_Corpora, json) for json in (to_jsonable(stage.settings), record.settings))
    num_labelled, variants = len(labelled.manifest), labelled.packing_variants
    if not 0 < num_labelled <= len(wanted.manifest) or variants > wanted.packing_variants:
        return False
    if variants != wanted.packing_variants and len(wanted.manifest) > 1:
        return False
    settings = replace(stage.settings, manifest=wanted.manifest[:num_labelled], packing_variants=variants)
    return compute_cache_key(replace(stage, settings=settings), recipe.path.parent, output_keys) == record.key


def _record_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.stage.json")


def read_stage_record(output: Path) -> StageRecord | None:
    """The record of an output; None if there is none, or it cannot be read."""
    return read_record(_record_path(output), StageRecord)


def _run_stage(stage: RecipeStage, key: str, resumes: bool, forced: bool, console: Console) -> StageResult:
    """Runs one stage, and writes its record before and after."""
    settings = stage.settings
    started = StageRecord(key, stage.verb, "started", to_jsonable(settings), forced)
    write_json(_record_path(stage.output), asdict(started))
    start_time = time.monotonic()
    if resumes and hasattr(settings, "skip_existing"):
        settings = replace(settings, skip_existing=True)
    report = to_jsonable(stage.run(settings, console))
    seconds = round(time.monotonic() - start_time, 2)
    finished = bool(report.get("finished", True))
    state = "finished" if finished else "started"
    ended = StageRecord(key, stage.verb, state, started.settings, False, seconds, report, package_versions())
    write_json(_record_path(stage.output), asdict(ended))
    return StageResult(stage.verb, stage.output, True, seconds, report, finished)


def _move_aside(output: Path) -> Path:
    """Renames an output to the first free `<name>.old-N` and returns that path."""
    number = 1
    while (target := output.with_name(f"{output.name}.old-{number}")).exists():
        number += 1
    output.rename(target)
    return target


def list_skipped(report: JsonObject) -> list[JsonValue]:
    """What a stage left out: its report's `problems`, `skipped` or `failed`."""
    values = [report.get(name) for name in ("problems", "skipped", "failed")]
    return [item for value in values if value for item in (value if isinstance(value, list) else [value])]
