"""ablate: one setting of a recipe varied at a time, each student evaluated on the recipe's test sets.

All students learn from the one label store; the teacher is not called again. What two ablations have in common (the
recipe's own value above all) is trained once. Finished trainings and evaluations are found again, so an ablation may
be stopped, widened, and taken up.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from whisperstill.atomic_io import atomic_write
from whisperstill.console import Console
from whisperstill.errors import SettingsError, StoreError, TrainingError
from whisperstill.pipeline.recipe import Recipe, parse_recipe
from whisperstill.pipeline.recipe_overrides import find_labels_problem, override_recipe, train_variant
from whisperstill.pipeline.toml_settings import read_toml
from whisperstill.records.eval_results import Ablation, AblationRow, EvalResults
from whisperstill.records.json_value import JsonObject
from whisperstill.records.serialization import to_dict
from whisperstill.stages import load_verb
from whisperstill.stages.ablation import (
    add_relative_speed,
    build_row,
    chunk_length_row,
    datasets_in_mean,
    open_suite_runner,
)

OBJECTIVE_WEIGHTS = {
    "ce": {"train.kl_weight": 0.0, "train.ce_weight": 1.0},
    "kl": {"train.kl_weight": 0.8, "train.ce_weight": 0.0},
    "ce+kl": {"train.kl_weight": 0.8, "train.ce_weight": 1.0},
}


@dataclass(frozen=True)
class AblateSettings:
    """What of a recipe is varied, one at a time; what is not named is left alone."""

    recipe: Path
    """The recipe, a TOML file with [filter], [init], [train] and [evaluate]; its labels have to be there."""
    max_wer: tuple[float, ...] = ()
    """The filter's limits on the word error rate, per cent (paper: 100, 80, 40, 20, 15, 10, 5)."""
    subset_hours: tuple[float, ...] = ()
    """Hours of the first packing that are trained on; what is drawn is heard in all packings."""
    decoder_layers: tuple[int, ...] = ()
    """Decoder layers of the student (paper: 2, 4, 8, 16)."""
    layers: tuple[str, ...] = ()
    """Which of the teacher's layers, as numbers with commas between: `0,5`."""
    objective: tuple[Literal["ce", "kl", "ce+kl"], ...] = ()
    """Cross-entropy on pseudo-labels, the teacher's distribution, or both (paper, table 14)."""
    temperature: tuple[float, ...] = ()
    """Of the KL loss."""
    chunk_length: tuple[float, ...] = ()
    """Seconds of chunks of the recipe's own student on the recordings of `long_form_manifest`."""
    long_form_manifest: tuple[str, ...] = ()
    """Corpora of recordings over 30 s, for `chunk_length`."""
    seeds: tuple[int, ...] = (0,)
    """Seeds that each student is trained with."""
    max_steps: int | None = None
    """Steps of every training (default: as the recipe has it)."""
    in_distribution: tuple[str, ...] = ()
    """Names of test sets that the mean leaves out: it is over what is out of distribution."""
    limit: int | None = None
    """Only so many utterances of each test set, spread over it."""
    batch_size: int = 16
    """Windows decoded at a time."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of computation of the evaluation."""
    bootstrap_resamples: int = 1000
    """Draws of the bootstrap behind the 95 % intervals."""
    output: Path | None = None
    """Folder of the results and students (default: `ablations` under the recipe's output)."""


@dataclass(frozen=True, slots=True)
class AblateReport:
    """The tables, as in ablations.json."""

    output: str
    ablations: tuple[Ablation, ...] = field(default=())
    students_trained: int = 0
    """Students, each counted once."""
    failed: tuple[str, ...] = ()
    """What could not be trained, and why; the rest went on without it."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A value of what is varied, and what it sets."""

    value: str
    overrides: JsonObject


def run(settings: AblateSettings, console: Console) -> AblateReport:
    """Train and evaluate what is missing; writes ablations.json after every row, at the end ablations.md.

    Raises `SettingsError` for what cannot be varied and where the labels are not there, `TrainingError` where nothing
    could be trained, and what a stage raises.
    """
    from whisperstill.distill.validation import shared_encoder_cache

    content = read_toml(settings.recipe)
    recipe = parse_recipe(content, settings.recipe, load_verb)
    _check(recipe, settings)
    output = settings.output or recipe.output / "ablations"
    runner = open_suite_runner(recipe, settings, output, console)
    experiments = _build_experiments(content, settings)
    reports: dict[Path, dict[str, Any]] = {}
    ablations: list[Ablation] = []
    failed: list[str] = []

    def train_student(overrides: JsonObject, seed: int, description: str) -> Path | None:
        recipe_tables = override_recipe(content, overrides, seed, settings.max_steps, recipe, output, "student")
        try:
            student_path, reports[student_path] = train_variant(recipe_tables, settings.recipe, load_verb)
        except (StoreError, TrainingError) as error:
            failed.append(f"{description}, seed {seed}: {error}")
            console.warn(failed[-1])
            return None
        return student_path

    def save_ablation(name: str, setting: str, rows: Sequence[AblationRow]) -> None:
        mean_over = tuple(datasets_in_mean(list(rows[0].wer), settings))
        ablations[:] = [
            *(ablation for ablation in ablations if ablation.name != name),
            Ablation(name, setting, tuple(rows), mean_over),
        ]
        content = {"ablations": [to_dict(ablation) for ablation in ablations], "failed": failed}
        atomic_write(output / "ablations.json", json.dumps(content, indent=1) + "\n")

    total = sum(len(variants) for _, _, variants in experiments) * len(settings.seeds)
    with console.progress("ablations", total, "students") as bar, shared_encoder_cache():
        for name, setting, variants in experiments:
            rows, first_students = list[AblationRow](), list[Path]()
            for variant in variants:
                student_paths = {}
                for seed in settings.seeds:
                    if path := train_student(variant.overrides, seed, f"{name} {variant.value}"):
                        student_paths[seed] = path
                    bar.advance(1, now=f"{name} {variant.value}")
                if not student_paths:
                    continue
                first_students.append(next(iter(student_paths.values())))
                rows.append(build_row(variant.value, student_paths, reports, runner, settings))
                save_ablation(name, setting, rows)
            if name == "decoder_layers" and rows:
                save_ablation(name, setting, add_relative_speed(rows, first_students, runner))
    if settings.chunk_length and (recipe_student := train_student({}, settings.seeds[0], "chunk_length")):
        rows = [chunk_length_row(length, recipe_student, runner, settings) for length in settings.chunk_length]
        save_ablation("chunk_length", "chunk_length of decoding", rows)
    if failed and not ablations:
        raise TrainingError(f"nothing could be trained, the last: {failed[-1]}")
    from whisperstill.stages.report import write_markdown

    write_markdown(EvalResults("ablations", {}, ablations=tuple(ablations)), output / "ablations.md")
    return AblateReport(str(output), tuple(ablations), len(reports), tuple(failed))


def _build_experiments(content: Mapping[str, Any], settings: AblateSettings) -> list[tuple[str, str, list[Variant]]]:
    """(name, setting, its variants); values that are the recipe's own set nothing, so that students are shared."""

    def make_variants(setting: str, values: Sequence[Any], default: Any = None) -> list[Variant]:
        verb, _, key = setting.partition(".")
        recipe_value = content.get(verb, {}).get(key, default)
        return [Variant(_format_value(value), {} if value == recipe_value else {setting: value}) for value in values]

    weights = {
        key: content.get("train", {}).get(key.partition(".")[2], default)
        for key, default in (("train.kl_weight", 0.8), ("train.ce_weight", 1.0))
    }
    layers = [[int(number) for number in layer_list.split(",")] for layer_list in settings.layers]
    experiments = [
        ("max_wer", "filter.max_wer", make_variants("filter.max_wer", settings.max_wer, 10.0)),
        ("subset_hours", "filter.subset_hours", make_variants("filter.subset_hours", settings.subset_hours)),
        ("decoder_layers", "init.decoder_layers", make_variants("init.decoder_layers", settings.decoder_layers)),
        (
            "layers",
            "init.layers",
            [Variant(",".join(map(str, layer_ids)), {"init.layers": layer_ids}) for layer_ids in layers],
        ),
        (
            "objective",
            "train.kl_weight, train.ce_weight",
            [
                Variant(objective, {} if OBJECTIVE_WEIGHTS[objective] == weights else OBJECTIVE_WEIGHTS[objective])
                for objective in settings.objective
            ],
        ),
        ("temperature", "train.temperature", make_variants("train.temperature", settings.temperature, 2.0)),
    ]
    return [experiment for experiment in experiments if experiment[2]]


def _format_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check(recipe: Recipe, settings: AblateSettings) -> None:
    stages = {stage.verb for stage in recipe.stages}
    problems = []
    missing = [f"[{verb}]" for verb in ("filter", "init", "train", "evaluate") if verb not in stages]
    if missing:
        problems.append(f"{settings.recipe} has no {', '.join(missing)}: ablations train and evaluate")
    if labels_problem := find_labels_problem(recipe):
        problems.append(labels_problem)
    varied_fields = ("max_wer", "subset_hours", "decoder_layers", "layers", "objective", "temperature", "chunk_length")
    if not any(getattr(settings, name) for name in varied_fields):
        flags = ", ".join("--" + field_name.replace("_", "-") for field_name in varied_fields)
        problems.append(f"nothing is varied: name at least one of {flags}")
    if settings.decoder_layers and any(getattr(stage.settings, "layers", None) for stage in recipe.stages):
        problems.append(f"{settings.recipe} names init.layers, which says how many there are: vary layers instead")
    if bool(settings.chunk_length) != bool(settings.long_form_manifest):
        problems.append("chunk_length and long_form_manifest go together: chunks are of recordings over 30 s")
    if not settings.seeds:
        problems.append("seeds must name at least one")
    for layer_list in settings.layers:
        if not all(number.strip().isdigit() for number in layer_list.split(",")):
            problems.append(f"layers must be numbers with commas between, such as 0,5; got {layer_list!r}")
    if problems:
        raise SettingsError("; ".join(problems))
