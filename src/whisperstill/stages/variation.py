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
from whisperstill.stages.console import Silent
from whisperstill.stages.fingerprint import fingerprint
from whisperstill.stages.recipe import Recipe, recipe_of
from whisperstill.stages.run import carry_out_one, marker, read_json

VARIED = ("filter", "init", "train")
"""The stages whose settings may vary: none of them visits the teacher."""


def with_values(
    content: Mapping[str, Any],
    values: Mapping[str, Any],
    seed: int,
    max_steps: int | None,
    given: Recipe,
    output: Path,
    name: str = "train",
) -> dict[str, Any]:
    """The recipe's tables with `values` (by name, such as `train.learning_rate`) in them, without what comes after
    training; what it makes goes to `output`, the student to a folder whose name begins with `name`."""
    tables = copy.deepcopy(dict(content))
    for verb in ("evaluate", "transcribe"):
        tables.pop(verb, None)
    for key in [key for key in tables.get("filter", {}) if key.startswith("tune")]:
        del tables["filter"][key]  # else every pilot would have pilots of its own
    for key, value in values.items():
        *within, last = key.split(".")
        table = tables
        for one in within:
            table = table.setdefault(one, {})
        table[last] = value
    tables["train"] |= {"seed": seed} | ({"max_steps": max_steps} if max_steps else {})
    present = [stage.verb for stage in given.stages if stage.verb in VARIED]
    for verb in present:
        tables[verb].pop("output", None)
    plain = copy.deepcopy(tables)
    folder = output.absolute()  # paths in tables are relative to the recipe
    for verb in present:
        before = present[: present.index(verb) + 1] if verb == "train" else [verb]
        settings = json.dumps([plain[one] for one in before], sort_keys=True, default=str)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        tables[verb]["output"] = folder / f"{name if verb == 'train' else verb}-{digest}"
    return tables


def trained(tables: Mapping[str, Any], path: Path) -> tuple[Path, dict[str, Any]]:
    """Where the student of these tables (of the recipe at `path`) lies, and the report of its training; all that is
    missing on the way there is made.

    Raises `SettingsError` where the training was asked to stop, and what a stage raises.
    """
    made: dict[Path, str] = {}
    report: dict[str, Any] = {}
    recipe = recipe_of(tables, path)
    for stage in recipe.stages:
        key = fingerprint(stage, recipe.folder, made)
        made[stage.place] = key
        if stage.verb == "label":
            made[stage.place] = read_json(marker(stage.place)).get("key", key)
            continue
        done = read_json(marker(stage.place))
        if done.get("state") == "finished" and done.get("key") == key and stage.place.exists():
            report = done["report"]
            continue
        outcome, _ = carry_out_one(stage, key, bool(done) and done.get("key") != key, Silent())
        report = outcome.report
        if not outcome.finished:
            raise SettingsError("stopped before the end; the same command goes on from there")
    return recipe.stages[-1].place, report


def labels_missing(given: Recipe) -> str | None:
    """What is wrong with a recipe's labels, if anything: variations never call the teacher."""
    for stage in given.stages:
        if stage.verb == "label" and not (stage.place / "manifest.json").exists():
            return f"there are no labels in {stage.place}: `whisperstill run --only label` first"
    return None
