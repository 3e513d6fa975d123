"""run: all stages of a recipe; run again, it does only what is missing.

Beside a stage's output lies `<output>.done.json`: the hash of what the output depends on (`stages.fingerprint`), and
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
from whisperstill.errors import SettingsError
from whisperstill.files import write_whole
from whisperstill.stages import carry_out
from whisperstill.stages.console import Console
from whisperstill.stages.fingerprint import fingerprint, jsonable
from whisperstill.stages.recipe import Planned, read_recipe

SORTS_ITSELF = ("evaluate",)
"""Stages that know themselves what of an earlier output still holds."""


@dataclass(frozen=True)
class RunSettings:
    """Carries out a recipe."""

    recipe: Path
    """The recipe, a TOML file."""
    only: tuple[str, ...] = ()
    """Stages to carry out (default: all that the recipe has); the others are taken as they are."""
    again: tuple[str, ...] = ()
    """Stages to carry out even if they are done; their old output is moved aside."""


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What became of one stage."""

    verb: str
    place: Path
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
    stages: tuple[StageOutcome, ...]
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
    unknown = [verb for verb in (*settings.only, *settings.again) if verb not in verbs]
    if unknown:
        raise SettingsError(f"expected stages of the recipe ({', '.join(verbs)}), got {', '.join(unknown)}")
    made: dict[Path, str] = {}
    outcomes: list[StageOutcome] = []
    problems: list[Any] = []
    for number, stage in enumerate(recipe.stages, 1):
        key = fingerprint(stage, recipe.folder, made)
        made[stage.place] = key
        earlier = read_json(marker(stage.place))
        done = earlier.get("key") == key and earlier.get("state") == "finished" and stage.place.exists()
        left_out = bool(settings.only) and stage.verb not in settings.only
        if left_out and not done:
            made[stage.place] = earlier.get("key", key)  # what is there was made otherwise
        title = f"[{number}/{len(recipe.stages)}] {stage.verb}"
        if (done or left_out) and stage.verb not in settings.again:
            console.info(f"{title}: {'done already' if done else 'left out'} ({stage.place})")
            outcomes.append(
                StageOutcome(stage.verb, stage.place, False, earlier.get("seconds", 0.0), earlier.get("report"), done)
            )
            continue
        console.info(f"{title} -> {stage.place}")
        stale = bool(earlier) and earlier.get("key") != key
        again = stage.verb in settings.again or (
            not stale and earlier.get("state") == "started" and earlier.get("again")
        )
        if stale and not again and _grew(stage, earlier, recipe.folder, made):
            console.info("more to label: what is there is kept")
            stale = False
        outcome, skipped = carry_out_one(stage, key, stale, console, bool(again))
        outcomes.append(outcome)
        problems += skipped
        if not outcome.finished:
            console.warn(f"{stage.verb} was stopped before its end; the same command goes on from there")
            break
    finished = len(outcomes) == len(recipe.stages) and all(each.finished for each in outcomes)
    report = RunReport(recipe.name, recipe.output, tuple(outcomes), finished, tuple(problems))
    write_json(recipe.output / "report.json", jsonable(report) | {"made_with": made_with()})
    summarise(report, console)
    return report


def _grew(stage: Planned, earlier: dict[str, Any], folder: Path, made: Mapping[Path, str]) -> bool:
    """Whether labels were made from the same settings and inputs, but fewer corpora or packings of a single one."""
    before = earlier.get("settings")
    if stage.verb != "label" or not isinstance(before, dict):
        return False
    now, had, packings = stage.settings, len(before.get("manifest", ())), before.get("packings", 1)
    if not 0 < had <= len(now.manifest) or (packings != now.packings and len(now.manifest) > 1):
        return False
    fewer = replace(now, manifest=now.manifest[:had], packings=packings)
    return packings <= now.packings and bool(
        fingerprint(replace(stage, settings=fewer), folder, made) == earlier["key"]
    )


def carry_out_one(
    stage: Planned, key: str, stale: bool, console: Console, again: bool = False
) -> tuple[StageOutcome, list[Any]]:
    """Runs one stage between its two marks, `started` and `finished`.

    What is `stale`, or asked for `again` and not begun again yet, begins from nothing; all else goes on.
    """
    earlier = read_json(marker(stage.place))
    goes_on = not stale and earlier.get("state") == "started" and bool(earlier.get("again")) == again
    if (stale or (again and not goes_on)) and stage.place.exists() and stage.verb not in SORTS_ITSELF:
        why = "asked for again" if again else "settings or inputs changed"
        console.info(f"{why}: the earlier output is now {move_aside(stage.place)}")
    note: dict[str, Any] = {"key": key, "verb": stage.verb, "state": "started", "settings": jsonable(stage.settings)}
    write_json(marker(stage.place), note | {"again": again})
    begun = time.monotonic()
    settings = stage.settings
    if goes_on and hasattr(settings, "skip_existing"):
        settings = replace(settings, skip_existing=True)
    report = carry_out(settings, console)
    seconds = round(time.monotonic() - begun, 2)
    written = jsonable(report)
    finished = bool(getattr(report, "finished", True))
    state = "finished" if finished else "started"
    note |= {"state": state, "seconds": seconds, "report": written, "made_with": made_with()}
    write_json(marker(stage.place), note)
    skipped = [each for name in ("problems", "skipped", "failed") for each in as_list(getattr(report, name, None))]
    return StageOutcome(stage.verb, stage.place, True, seconds, written, finished), skipped


def summarise(report: RunReport, console: Console) -> None:
    """The tables at the end: what was measured, what the student wrote, how long it all took."""
    for outcome in report.stages:
        if outcome.verb == "evaluate" and not outcome.ran:
            results = read_results(outcome.place / "results.json")
            if results:
                from whisperstill.evaluate.tables import COLUMNS, rows_of

                console.table(f"{report.name}: teacher and student", COLUMNS, rows_of(results))
        if outcome.verb == "transcribe":
            rows = [
                [file.stem, " ".join(file.read_text(encoding="utf-8").split())]
                for file in sorted(outcome.place.glob("*.txt"))[:5]
            ]
            if rows:
                console.table("what the student heard", ["audio", "transcript"], rows)
    spent = ", ".join(
        f"{each.verb} " + (f"{each.seconds:.0f} s" if each.ran else "done" if each.finished else "left out")
        for each in report.stages
    )
    console.info(f"{report.name}: {spent}; everything is in {report.output}")


def read_results(path: Path) -> list[dict[str, Any]]:
    """The list in `results.json`; empty when there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [each for each in content if isinstance(each, dict)] if isinstance(content, list) else []


def marker(place: Path) -> Path:
    """Where the mark of a stage's output lies."""
    return place.with_name(f"{place.name}.done.json")


def move_aside(place: Path) -> Path:
    """Renames an output to the first free `<name>.old-N`."""
    number = 1
    while (aside := place.with_name(f"{place.name}.old-{number}")).exists():
        number += 1
    place.rename(aside)
    return aside


def as_list(value: Any) -> list[Any]:
    """A sequence as a list; a count or nothing as none of it that could be listed."""
    return list(value) if isinstance(value, list | tuple) else [value] if value else []


def made_with() -> dict[str, str]:
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
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
