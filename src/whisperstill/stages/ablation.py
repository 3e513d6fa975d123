"""The rows of an ablation: students on test sets, and what is known of how they came to be."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisperstill.console import Console
from whisperstill.errors import SettingsError
from whisperstill.pipeline.recipe import Recipe
from whisperstill.pipeline.stage_record import read_stage_record
from whisperstill.records.eval_results import AblationRow
from whisperstill.records.serialization import read_json

if TYPE_CHECKING:
    from whisperstill.evaluate.metrics import SystemOutput
    from whisperstill.evaluate.systems import DecodeMode, WhisperstillSystem
    from whisperstill.stages.ablate import AblateSettings
    from whisperstill.stages.suite import SuiteRunner
    from whisperstill.stages.suite_datasets import EvalDataset

SPEED_ROUNDS = 5
"""Of windows and tokens, in turns."""


def open_suite_runner(recipe: Recipe, settings: "AblateSettings", output: Path, console: Console) -> "SuiteRunner":
    """The test sets, read once."""
    from whisperstill.model.device import choose_device, choose_dtype
    from whisperstill.stages.evaluate import EvaluateSettings
    from whisperstill.stages.result_cache import ResultCache
    from whisperstill.stages.suite import SuiteRunner
    from whisperstill.stages.suite_spec import DatasetSpec, ModelSpec, Suite

    stages = {stage.verb: stage.settings for stage in recipe.stages}
    short_manifests, language = list(stages["evaluate"].manifest), stages["evaluate"].language
    specs = [
        DatasetSpec(manifest, language=language, full_recordings=manifest in settings.long_form_manifest)
        for manifest in [*short_manifests, *settings.long_form_manifest]
    ]
    datasets = dict(zip(dataset_names([spec.manifest for spec in specs]), specs, strict=True))
    suite = Suite("ablations", output, {"teacher": ModelSpec(stages["init"].teacher, role="teacher")}, datasets)
    device = choose_device(settings.device)
    evaluate_settings = EvaluateSettings(
        batch_size=settings.batch_size, bootstrap_resamples=settings.bootstrap_resamples, limit=settings.limit
    )
    runner = SuiteRunner(
        suite, evaluate_settings, console, ResultCache(output), device, choose_dtype(settings.dtype, device)
    )
    runner.open()
    if runner.failures:
        raise SettingsError(f"{runner.failures[0].subject}: {runner.failures[0].reason}")
    if unknown := [name for name in settings.in_distribution if name not in runner.datasets]:
        raise SettingsError(
            f"in_distribution must name test datasets ({', '.join(runner.datasets)}), got {', '.join(unknown)}"
        )
    return runner


def dataset_names(manifests: Sequence[str]) -> list[str]:
    """A set's folder; the whole path where two folders share a name."""
    names = [path.parent.name if path.suffix else path.name for path in map(Path, manifests)]
    return [name if names.count(name) == 1 else manifest for name, manifest in zip(names, manifests, strict=True)]


def build_row(
    value: str,
    student_paths: Mapping[int, Path],
    reports: Mapping[Path, Mapping[str, Any]],
    runner: "SuiteRunner",
    settings: "AblateSettings",
) -> AblationRow:
    """A value's students on the recipe's test sets."""
    from whisperstill.evaluate.systems import DecodeMode

    datasets = [dataset for dataset in runner.datasets.values() if not dataset.spec.full_recordings]
    decode_mode = DecodeMode(batch_size=settings.batch_size)
    outputs: dict[str, dict[int, SystemOutput]] = {dataset.name: {} for dataset in datasets}
    for seed, path in student_paths.items():
        student = _load_student(path, runner)
        for dataset in datasets:
            outputs[dataset.name][seed] = _transcribe(student, dataset, decode_mode, runner)
        model_info = student.info
    train_reports = [reports[path] for path in student_paths.values()]
    facts = {
        "hours": statistics.mean(report["hours"] for report in train_reports),
        "windows": statistics.mean(report["windows"] for report in train_reports),
        "steps": statistics.mean(report["steps"] for report in train_reports),
        "parameters": float(model_info.parameters),
        "parameters_decoder": float(model_info.parameters_decoder),
    }
    facts |= _filter_facts(next(iter(student_paths.values())))
    best_wers = [report["best_wer"] for report in train_reports if report.get("best_wer") is not None]
    if best_wers:
        facts["validation_wer"] = statistics.mean(best_wers)
    return _summarize(value, outputs, facts, settings)


def _filter_facts(student_path: Path) -> dict[str, float]:
    """Per cent of the audio that the filter of a student dropped."""
    record = read_stage_record(student_path)
    labels = record.settings.get("labels") if record is not None else None
    summary = read_json(Path(labels) / "filter.json") if labels else {}
    if not summary.get("hours"):
        return {}
    return {
        "percent_dropped": 100 * (1 - summary["hours_kept"] / summary["hours"]),
        "hours_kept": summary["hours_kept"],
    }


def _load_student(path: Path, runner: "SuiteRunner") -> "WhisperstillSystem":
    """A student to be heard: the only one in memory."""
    from whisperstill.evaluate.systems import WhisperstillSystem

    return WhisperstillSystem("student", str(path), "student", runner.device, runner.dtype, False)


def _transcribe(
    student: "WhisperstillSystem", dataset: "EvalDataset", decode_mode: "DecodeMode", runner: "SuiteRunner"
) -> "SystemOutput":
    """What a student hears; its teacher's encoder is asked once. Raises `SettingsError` where that fails."""
    from whisperstill.evaluate.encoder_cache import EncoderCache

    runner.systems["student"] = student
    output = runner.transcribe_dataset(
        "student", dataset, decode_mode, runner.encoder_caches.setdefault(dataset.name, EncoderCache(shared=True))
    )
    if output is None:
        raise SettingsError(f"{runner.failures[-1].subject}: {runner.failures[-1].reason}")
    return output


def _summarize(
    value: str,
    outputs: "Mapping[str, Mapping[int, SystemOutput]]",
    facts: Mapping[str, float],
    settings: "AblateSettings",
) -> AblationRow:
    from whisperstill.evaluate.intervals import mean_over_datasets

    wer = {
        name: {str(seed): 100 * _error_rate(output) for seed, output in by_seed.items()}
        for name, by_seed in outputs.items()
    }
    names = datasets_in_mean(list(outputs), settings)
    mean, interval = mean_over_datasets(
        [[output.blocks for output in outputs[name].values()] for name in names], resamples=settings.bootstrap_resamples
    )
    return AblationRow(value, wer, 100 * mean, 100 * interval.low, 100 * interval.high, dict(facts))


def datasets_in_mean(datasets: Sequence[str], settings: "AblateSettings") -> list[str]:
    """The sets that a mean is over: those out of distribution, or all where there are none."""
    return [name for name in datasets if name not in settings.in_distribution] or list(datasets)


def _error_rate(output: "SystemOutput") -> float:
    from whisperstill.records.edit_counts import NO_EDITS

    return sum(output.edits, NO_EDITS).error_rate


def chunk_length_row(
    chunk_length: float, student_path: Path, runner: "SuiteRunner", settings: "AblateSettings"
) -> AblationRow:
    """The recipe's student on long recordings with one length of chunks."""
    from whisperstill.evaluate.systems import DecodeMode

    decode_mode = DecodeMode("chunked", chunk_length, settings.batch_size)
    student = _load_student(student_path, runner)
    long_datasets = [dataset for dataset in runner.datasets.values() if dataset.spec.full_recordings]
    outputs = {
        dataset.name: {settings.seeds[0]: _transcribe(student, dataset, decode_mode, runner)}
        for dataset in long_datasets
    }
    return _summarize(f"{chunk_length:g}", outputs, {}, settings)


def add_relative_speed(
    rows: Sequence[AblationRow], students: Sequence[Path], runner: "SuiteRunner"
) -> list[AblationRow]:
    """The rows with their students' speed over the teacher's: a window and 24 tokens at batch 1, in turns."""
    from whisperstill.evaluate.speed import measure_speed
    from whisperstill.evaluate.systems import WhisperstillSystem

    teacher = runner.systems["teacher"]
    assert isinstance(teacher, WhisperstillSystem)
    networks = [_load_student(path, runner).model.network for path in students]
    teacher_speed, *student_speeds = measure_speed([teacher.model.network, *networks], rounds=SPEED_ROUNDS)
    return [
        replace(
            ablation_row,
            stats={
                **ablation_row.stats,
                "relative_speed": teacher_speed.latency_ms / student_speed.latency_ms,
                "relative_decoder_speed": teacher_speed.decoder_ms_per_token / student_speed.decoder_ms_per_token,
            },
        )
        for ablation_row, student_speed in zip(rows, student_speeds, strict=True)
    ]
