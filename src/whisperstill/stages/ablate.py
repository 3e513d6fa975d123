"""ablate: students trained with one setting of a recipe changed at a time, evaluated on the recipe's test sets.

All students use the same labels; the teacher is not run again. A training that several ablations share (above all the
recipe's own) runs once. Finished trainings and evaluations are reused, so an ablation can be stopped, extended and
resumed.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from whisperstill.atomic_io import atomic_write
from whisperstill.console import SILENT, Console
from whisperstill.distill.settings import InitSettings
from whisperstill.errors import SettingsError, TrainingError
from whisperstill.pipeline.recipe import Recipe, read_recipe
from whisperstill.pipeline.recipe_overrides import VariantReport, VariantTrainer, find_problems
from whisperstill.pipeline.runner import read_stage_record
from whisperstill.pipeline.toml_settings import TomlTable
from whisperstill.records.eval_results import Ablation, AblationRow, EvalResults
from whisperstill.records.json_value import JsonObject
from whisperstill.records.serialization import read_record
from whisperstill.stages import load_verb

if TYPE_CHECKING:
    from whisperstill.evaluate.suite.ablation import AblationEvaluator

OBJECTIVE_WEIGHTS: dict[str, JsonObject] = {
    "ce": {"train.kl_weight": 0.0, "train.ce_weight": 1.0},
    "kl": {"train.kl_weight": 0.8, "train.ce_weight": 0.0},
    "ce+kl": {"train.kl_weight": 0.8, "train.ce_weight": 1.0},
}
DEFAULTS: JsonObject = {"filter.max_wer": 10.0, "train.temperature": 2.0, **OBJECTIVE_WEIGHTS["ce+kl"]}
"""Values of varied settings that a recipe leaves out."""


@dataclass(frozen=True)
class AblateSettings:
    """Settings of a recipe to vary, one at a time; those that are not named keep the recipe's value."""

    recipe: Path
    """Recipe: a TOML file with [filter], [init], [train] and [evaluate], whose labels exist already."""
    max_wer: tuple[float, ...] = ()
    """WER thresholds of the filter, per cent (paper: 100, 80, 40, 20, 15, 10, 5)."""
    subset_hours: tuple[float, ...] = ()
    """Hours of audio to train on, drawn from the first packing variant and used in all variants."""
    decoder_layers: tuple[int, ...] = ()
    """Decoder layers of the student (paper: 2, 4, 8, 16)."""
    layers: tuple[str, ...] = ()
    """Teacher layers to copy, as comma-separated indices: `0,5`."""
    objective: tuple[Literal["ce", "kl", "ce+kl"], ...] = ()
    """Training losses: cross-entropy on pseudo-labels, KL to the teacher, or both (paper, table 14)."""
    temperature: tuple[float, ...] = ()
    """Temperatures of the KL loss."""
    chunk_length: tuple[float, ...] = ()
    """Chunk lengths in seconds, for the recipe's own student on `long_form_manifest`."""
    long_form_manifest: tuple[str, ...] = ()
    """Datasets of recordings over 30 s, for `chunk_length`."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds of each student."""
    max_steps: int | None = None
    """Training steps of each student (default: the recipe's)."""
    in_distribution: tuple[str, ...] = ()
    """Names of in-distribution test sets, left out of the mean."""
    limit: int | None = None
    """Number of utterances of each test set, evenly spaced."""
    batch_size: int = 16
    """Windows decoded together."""
    device: str = "auto"
    """Device: `cpu`, `cuda`, or `auto`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute type of the evaluation."""
    bootstrap_resamples: int = 1000
    """Resamples of the bootstrap for 95 % intervals."""
    output: Path | None = None
    """Folder of results and students (default: `ablations` under the recipe's output)."""


@dataclass(frozen=True, slots=True)
class AblateReport:
    """Ablation tables, as in ablations.json."""

    output: str
    ablations: tuple[Ablation, ...] = ()
    students_trained: int = 0
    """Different students."""
    failed: tuple[str, ...] = ()
    """Trainings that failed, and why."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One setting with the values to compare."""

    name: str
    setting: str
    """Key in the recipe: `filter.max_wer`."""
    variants: dict[str, JsonObject]
    """Value -> the recipe settings that give it; none for the recipe's own value."""


def run(settings: AblateSettings, console: Console = SILENT) -> AblateReport:
    """Trains and evaluates what is missing; writes ablations.json after every row, ablations.md at the end.

    Raises `SettingsError` for settings that cannot be varied or missing labels, `TrainingError` if no training
    succeeded, and the errors of the stages.
    """
    from whisperstill.distill.validation import shared_encoder_cache
    from whisperstill.evaluate.report import render_markdown

    # 1. Check the recipe, load teacher and test sets.
    recipe = read_recipe(settings.recipe, load_verb)
    _check(recipe, settings)
    output = settings.output or recipe.output / "ablations"
    evaluator = _open_evaluator(recipe, settings, output, console)
    experiments = _build_experiments(recipe.tables, settings)
    tables: dict[str, Ablation] = {}
    trainer = VariantTrainer(recipe, settings.max_steps, output, console)

    def save(name: str, setting: str, rows: Sequence[AblationRow]) -> None:
        tables[name] = Ablation(name, setting, tuple(rows), tuple(evaluator.datasets_in_mean(list(rows[0].wer))))
        content = {"ablations": [asdict(ablation) for ablation in tables.values()], "failed": trainer.failed}
        atomic_write(output / "ablations.json", json.dumps(content, indent=1) + "\n")

    # 2. Train and evaluate, one experiment after another.
    total = sum(len(experiment.variants) for experiment in experiments) * len(settings.seeds)
    with console.progress("ablations", total, "students") as bar, shared_encoder_cache():
        for experiment in experiments:
            rows, first_students = list[AblationRow](), list[Path]()
            for value, overrides in experiment.variants.items():
                description = f"{experiment.name} {value}"
                students = {}
                for seed in settings.seeds:
                    if path := trainer.train(overrides, seed, "student", description):
                        students[seed] = path
                    bar.advance(1, now=description)
                if students:
                    first_students.append(next(iter(students.values())))
                    stats = _training_stats(students, trainer.reports)
                    rows.append(evaluator.short_form_row(value, students, stats))
                    save(experiment.name, experiment.setting, rows)
            if experiment.name == "decoder_layers" and rows:
                rows = evaluator.add_relative_speed(rows, first_students)
                save(experiment.name, experiment.setting, rows)
    # 3. Chunk lengths need one student only.
    seed = settings.seeds[0]
    if settings.chunk_length and (student := trainer.train({}, seed, "student", "chunk_length")):
        rows = [evaluator.chunk_length_row(length, student, seed) for length in settings.chunk_length]
        save("chunk_length", "chunk_length of decoding", rows)
    if trainer.failed and not tables:
        raise TrainingError(f"nothing could be trained, the last: {trainer.failed[-1]}")
    ablations = tuple(tables.values())
    atomic_write(output / "ablations.md", render_markdown(EvalResults("ablations", {}, ablations=ablations)))
    return AblateReport(str(output), ablations, len(trainer.reports), tuple(trainer.failed))


def _open_evaluator(recipe: Recipe, settings: AblateSettings, output: Path, console: Console) -> "AblationEvaluator":
    """Evaluator on the recipe's test sets, with the recipe's teacher."""
    from whisperstill.evaluate.suite.ablation import AblationEvaluator
    from whisperstill.evaluate.suite.runner import SuiteRunner
    from whisperstill.evaluate.suite.spec import DatasetSpec, EvaluateSettings, ModelSpec, Suite, name_datasets

    evaluate, init = recipe.find_settings(EvaluateSettings), recipe.find_settings(InitSettings)
    assert evaluate is not None and init is not None
    long_form, language = settings.long_form_manifest, evaluate.language
    manifests = name_datasets([*evaluate.manifest, *long_form])
    datasets = {
        name: DatasetSpec(manifest, language=language, full_recordings=manifest in long_form)
        for name, manifest in manifests.items()
    }
    models = {"teacher": ModelSpec(init.teacher, role="teacher")}
    options = EvaluateSettings(
        device=settings.device,
        dtype=settings.dtype,
        batch_size=settings.batch_size,
        limit=settings.limit,
        bootstrap_resamples=settings.bootstrap_resamples,
    )
    runner = SuiteRunner(Suite("ablations", output, models, datasets, {}), options, console)
    return AblationEvaluator(runner, settings.in_distribution)


def _training_stats(students: Mapping[int, Path], reports: Mapping[Path, VariantReport]) -> dict[str, float]:
    """Means over the seeds' training reports, and the share of audio that the filter dropped."""
    from whisperstill.evaluate.suite.measurements import FilterSummary

    training_reports = [reports[path] for path in students.values()]
    stats = {
        "hours": statistics.mean(report.hours for report in training_reports),
        "windows": statistics.mean(report.windows for report in training_reports),
        "steps": statistics.mean(report.steps for report in training_reports),
    }
    record = read_stage_record(next(iter(students.values())))
    labels = record.settings.get("labels") if record is not None else None
    summary = read_record(Path(labels) / "filter.json", FilterSummary) if isinstance(labels, str) else None
    if summary is not None and summary.hours:
        stats["percent_dropped"] = 100 * (1 - summary.hours_kept / summary.hours)
        stats["hours_kept"] = summary.hours_kept
    best_wers = [report.best_wer for report in training_reports if report.best_wer is not None]
    if best_wers:
        stats["validation_wer"] = statistics.mean(best_wers)
    return stats


def _build_experiments(tables: Mapping[str, TomlTable], settings: AblateSettings) -> list[Experiment]:
    """Experiments that have values; the recipe's own value overrides nothing, so that its student is shared."""
    layer_lists = [list(map(int, layer_list.split(","))) for layer_list in settings.layers]
    overrides_by_value: dict[str, dict[str, JsonObject]] = {
        "max_wer": {f"{value:g}": {"filter.max_wer": value} for value in settings.max_wer},
        "subset_hours": {f"{value:g}": {"filter.subset_hours": value} for value in settings.subset_hours},
        "decoder_layers": {str(value): {"init.decoder_layers": value} for value in settings.decoder_layers},
        "layers": {",".join(map(str, indices)): {"init.layers": indices} for indices in layer_lists},
        "objective": {name: OBJECTIVE_WEIGHTS[name] for name in settings.objective},
        "temperature": {f"{value:g}": {"train.temperature": value} for value in settings.temperature},
    }
    own = DEFAULTS | {f"{verb}.{key}": value for verb, table in tables.items() for key, value in table.items()}
    return [
        Experiment(
            name,
            ", ".join(next(iter(variants.values()))),
            {value: {} if overrides.items() <= own.items() else overrides for value, overrides in variants.items()},
        )
        for name, variants in overrides_by_value.items()
        if variants
    ]


def _check(recipe: Recipe, settings: AblateSettings) -> None:
    stages = {stage.verb for stage in recipe.stages}
    problems = []
    missing = [f"[{verb}]" for verb in ("filter", "init", "train", "evaluate") if verb not in stages]
    if missing:
        problems.append(f"{settings.recipe} needs {', '.join(missing)}: ablations train and evaluate")
    problems += find_problems(recipe, settings.seeds)
    varied_fields = ("max_wer", "subset_hours", "decoder_layers", "layers", "objective", "temperature", "chunk_length")
    if not any(getattr(settings, name) for name in varied_fields):
        flags = ", ".join("--" + field_name.replace("_", "-") for field_name in varied_fields)
        problems.append(f"nothing is varied: name at least one of {flags}")
    if settings.decoder_layers and any(getattr(stage.settings, "layers", None) for stage in recipe.stages):
        problems.append(f"{settings.recipe} sets init.layers, which fixes the number of layers: vary layers instead")
    if bool(settings.chunk_length) != bool(settings.long_form_manifest):
        problems.append("chunk_length and long_form_manifest go together: chunks are of recordings over 30 s")
    for layer_list in settings.layers:
        if not all(number.strip().isdigit() for number in layer_list.split(",")):
            problems.append(f"layers must be numbers with commas between, such as 0,5; got {layer_list!r}")
    if problems:
        raise SettingsError("; ".join(problems))
