"""A recipe with some of its settings changed: its tables, the folders of what it makes, and its training.

What variations share (a filter, an initial student, a whole training) lies at one place, named by a hash of all the
settings it comes from, and is made once.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisperstill.errors import SettingsError
from whisperstill.stages.cache_key import compute_cache_key
from whisperstill.stages.console import NullConsole
from whisperstill.stages.recipe import Recipe, parse_recipe
from whisperstill.stages.run import read_json, run_stage, stage_record_path

VARIABLE_STAGES = ("filter", "init", "train")
"""The stages whose settings may vary: none of them visits the teacher."""


def override_recipe(
    content: Mapping[str, Any],
    overrides: Mapping[str, Any],
    seed: int,
    max_steps: int | None,
    recipe: Recipe,
    output: Path,
    name: str = "train",
) -> dict[str, Any]:
    """The recipe's tables with `overrides` (by name, such as `train.learning_rate`) in them, without what comes after
    training; what it makes goes to `output`, the student to a folder whose name begins with `name`."""
    tables = copy.deepcopy(dict(content))
    for verb in ("evaluate", "transcribe"):
        tables.pop(verb, None)
    for key in [key for key in tables.get("filter", {}) if key.startswith("tune")]:
        del tables["filter"][key]  # else every pilot would have pilots of its own
    for key, value in overrides.items():
        *parents, leaf = key.split(".")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
        table[leaf] = value
    tables["train"] |= {"seed": seed} | ({"max_steps": max_steps} if max_steps else {})
    varied_stages = [stage.verb for stage in recipe.stages if stage.verb in VARIABLE_STAGES]
    for verb in varied_stages:
        tables[verb].pop("output", None)
    hashed_tables = copy.deepcopy(tables)
    folder = output.absolute()  # paths in tables are relative to the recipe
    for verb in varied_stages:
        dependencies = varied_stages[: varied_stages.index(verb) + 1] if verb == "train" else [verb]
        settings = json.dumps([hashed_tables[dependency] for dependency in dependencies], sort_keys=True, default=str)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        tables[verb]["output"] = folder / f"{name if verb == 'train' else verb}-{digest}"
    return tables


def train_variant(tables: Mapping[str, Any], path: Path) -> tuple[Path, dict[str, Any]]:
    """Where the student of these tables (of the recipe at `path`) lies, and the report of its training; all that is
    missing on the way there is made.

    Raises `SettingsError` where the training was asked to stop, and what a stage raises.
    """
    output_keys: dict[Path, str] = {}
    report: dict[str, Any] = {}
    recipe = parse_recipe(tables, path)
    for stage in recipe.stages:
        key = compute_cache_key(stage, recipe.folder, output_keys)
        output_keys[stage.output] = key
        if stage.verb == "label":
            output_keys[stage.output] = read_json(stage_record_path(stage.output)).get("key", key)
            continue
        record = read_json(stage_record_path(stage.output))
        if record.get("state") == "finished" and record.get("key") == key and stage.output.exists():
            report = record["report"]
            continue
        result, _ = run_stage(stage, key, bool(record) and record.get("key") != key, NullConsole())
        report = result.report
        if not result.finished:
            raise SettingsError("stopped before the end; the same command goes on from there")
    return recipe.stages[-1].output, report


def find_labels_problem(recipe: Recipe) -> str | None:
    """What is wrong with a recipe's labels, if anything: variations never call the teacher."""
    for stage in recipe.stages:
        if stage.verb == "label" and not (stage.output / "manifest.json").exists():
            return f"there are no labels in {stage.output}: `whisperstill run --only label` first"
    return None
