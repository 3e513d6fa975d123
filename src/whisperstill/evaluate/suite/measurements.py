"""Measurements: functions from a suite runner and a table of the suite to result records.

To add a measurement: a table in `spec`, a function that yields records, a case in `run_suite`, a section
in `evaluate.report`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.conditions import CONDITION_KINDS, NUM_BABBLE_SPEAKERS, Condition, parse_conditions
from whisperstill.corpus.loading import AudioTransform, Waveform
from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.evaluate.error_examples import select_error_examples
from whisperstill.evaluate.metrics import SystemOutput, compute_metrics
from whisperstill.evaluate.speculative import SpeculativeComparison, compare_speculative, trace_draft
from whisperstill.evaluate.speed import measure_peak_memory_mib, measure_speed
from whisperstill.evaluate.suite import spec
from whisperstill.evaluate.suite.datasets import AudioCondition, EvalDataset, sample_evenly
from whisperstill.evaluate.suite.runner import SuiteRunner
from whisperstill.evaluate.systems import DecodeMode, EncoderCache, WhisperstillSystem
from whisperstill.pipeline.runner import read_stage_record
from whisperstill.records import Utterance
from whisperstill.records.eval_results import (
    Ablation,
    CurvePoint,
    DatasetResult,
    DraftTrace,
    ErrorExample,
    SpeculativeResult,
    SpeedResult,
    TrainingCurve,
)
from whisperstill.records.json_value import JsonObject
from whisperstill.records.seeding import rng
from whisperstill.records.serialization import from_dict, read_json, read_record
from whisperstill.units import WINDOW_SECONDS

DATASET_KINDS = {
    "short_form": "short_form",
    "non_speech": "non_speech",
    "long_form": "long_form",
    "chunk_length": "long_form",
    "noise": "short_form",
}
"""Measurement of error rates -> kind of its datasets (`EvalDataset.kind`)."""


@dataclass(frozen=True)
class SpeedEntry:
    """Entry of the result cache."""

    rows: tuple[SpeedResult, ...]


@dataclass(frozen=True)
class FilterSummary:
    """What is read of `filter.json`."""

    kept: int
    dropped: dict[str, int]
    """Utterances by the rule that dropped them."""
    hours: float = 0.0
    hours_kept: float = 0.0


def measure_error_rates(measurement: str, runner: SuiteRunner, table: spec.ErrorRates) -> Iterator[DatasetResult]:
    """Every model on every dataset of the measurement, in each of its decode modes."""
    datasets: Iterable[EvalDataset] = runner.select_datasets(table.datasets, DATASET_KINDS[measurement])
    if isinstance(table, spec.Noise):
        datasets = _corrupted_datasets(datasets, table)
    modes = _decode_modes(measurement, table, runner.settings.batch_size)
    systems = [runner.systems[name] for name in runner.select_models(table.models)]
    encoders = [system.checkpoint.encoder_sha256 for system in systems if isinstance(system, WhisperstillSystem)]
    for dataset, mode in ((dataset, mode) for dataset in datasets for mode in modes):
        encoder_cache = EncoderCache(shared=len(set(encoders)) < len(encoders))
        teacher_output: SystemOutput | None = None  # the teacher comes first: the others are compared with its output
        for system in systems:
            if not system.supports(mode):
                continue
            if (output := runner.transcribe(system, dataset, mode, encoder_cache)) is None:
                continue
            result = compute_metrics(
                output,
                measurement=measurement,
                model=system.info.name,
                dataset=dataset.name,
                decoding=mode.decoding,
                teacher_output=teacher_output,
            )
            yield replace(result, condition=dataset.condition.label, chunk_length=mode.chunk_length)
            if system.info.name == runner.suite.teacher:
                teacher_output = output


def _decode_modes(measurement: str, table: spec.ErrorRates, batch_size: int) -> list[DecodeMode]:
    if isinstance(table, spec.LongForm):
        return [DecodeMode(strategy, batch_size=table.batch_size) for strategy in table.strategies]
    if isinstance(table, spec.ChunkLength):
        return [DecodeMode("chunked", length, batch_size) for length in table.lengths]
    # audio without speech: bare greedy decoding, and transcription with the hallucination filter
    decodings = ("short", "silence") if measurement == "non_speech" else ("short",)
    return [DecodeMode(decoding, batch_size=batch_size) for decoding in decodings]


def _corrupted_datasets(datasets: Iterable[EvalDataset], table: spec.Noise) -> Iterator[EvalDataset]:
    """Every dataset under every condition; utterances over 30 s are left out."""
    conditions = parse_conditions(table.conditions)
    labels = condition_labels(conditions)
    for dataset in datasets:
        utterances = tuple(sample_evenly(dataset.short_utterances, table.limit))
        subset = replace(dataset, utterances=utterances, sha256=f"{dataset.sha256} {len(utterances)}")
        for condition in conditions:
            transform = make_audio_transform(condition, subset, table.seed)
            noise_sha256 = condition.noise_recordings_sha256()
            identity: JsonObject = {"condition": condition.name, "seed": table.seed, "noise": noise_sha256}
            yield replace(subset, condition=AudioCondition(labels[condition], transform, identity))


def collect_error_examples(runner: SuiteRunner, table: spec.ErrorExamples) -> Iterator[ErrorExample]:
    """Worst utterances of the first student (else the last model), from outputs of [short_form] and [non_speech]."""
    available = list(runner.systems)
    model_name = next((name for name in runner.suite.students if name in available), available[-1])
    if not runner.short_outputs:
        raise SettingsError("expected outputs of [short_form] or [non_speech] to take examples from, got none")
    for dataset_name, outputs in runner.short_outputs.items():
        if model_name in outputs:
            yield from select_error_examples(
                dataset_name, outputs, model_name, table.num_examples, runner.suite.teacher
            )


def condition_labels(conditions: Sequence[Condition]) -> dict[Condition, str]:
    """Names for the results. Recorded noise is named by its file, with as much of the path as makes it unique."""
    kinds = {condition.kind for condition in conditions if condition.kind not in CONDITION_KINDS}
    labels = {condition: condition.name for condition in conditions}
    for kind in kinds:
        taken = {name for other in kinds - {kind} for name in _short_paths(Path(other))} | {*CONDITION_KINDS}
        label = next((name for name in _short_paths(Path(kind)) if name not in taken), kind)
        labels |= {noise: f"{label}@{noise.level:g}" for noise in conditions if noise.kind == kind}
    return labels


def _short_paths(path: Path) -> tuple[str, str, str]:
    return path.stem, path.name, f"{path.parent.name}/{path.name}"


def make_audio_transform(condition: Condition, dataset: EvalDataset, seed: int) -> AudioTransform | None:
    """Corruption of an utterance under a condition; babble is made of the dataset's other utterances."""
    if condition.kind == "clean":
        return None

    def transform_audio(utterance: Utterance, waveform: Waveform) -> Waveform:
        generator = rng(seed, 0, utterance.id, f"condition {condition.kind}")  # the same noise at every level
        others: list[np.ndarray] = []
        if condition.needs_other_utterances:
            other_utterances = [other for other in dataset.utterances if other.id != utterance.id]
            for index in generator.permutation(len(other_utterances))[:NUM_BABBLE_SPEAKERS]:
                span = other_utterances[index].audio
                others.append(load_audio(span.path, span.start, min(span.duration, WINDOW_SECONDS)))
        return condition.apply(waveform, generator, others)

    return transform_audio


def measure_system_speed(runner: SuiteRunner, table: spec.SpeedTable) -> Iterator[SpeedResult]:
    """Yields encoder and decoder times of every whisperstill model at each batch size.

    Models take turns. Results are cached by models, device and number of threads.
    """
    systems = runner.select_own_systems(table.models)
    for batch_size in table.batch_sizes:
        key = runner.result_cache.compute_key(
            speed=[system.identity for system in systems.values()],
            batch_size=batch_size,
            rounds=table.rounds,
            memory=table.memory,
            device=runner.device,
            threads=torch.get_num_threads(),
        )
        entry = runner.result_cache.get(key, SpeedEntry)
        if entry is None:
            runner.console.info(f"timing {', '.join(systems)} at batch {batch_size}")
            networks = {name: system.model.network for name, system in systems.items()}
            speeds = measure_speed(networks, rounds=table.rounds, batch_size=batch_size)
            if table.memory:
                infos = {name: system.info for name, system in systems.items()}
                peaks = [measure_peak_memory_mib(infos[speed.model], batch_size) for speed in speeds]
                speeds = [replace(speed, peak_memory_mib=peak) for speed, peak in zip(speeds, peaks, strict=True)]
            entry = SpeedEntry(tuple(speeds))
            runner.result_cache.put(key, entry)
        for name, speed in zip(systems, entry.rows, strict=True):
            yield replace(speed, model=name)


def measure_speculative(runner: SuiteRunner, table: spec.Speculative) -> Iterator[SpeculativeResult | DraftTrace]:
    """The teacher with each student as draft model at each batch size, and token traces of a few utterances."""
    systems = runner.select_own_systems()
    teacher = systems.get(runner.suite.teacher or "")
    if teacher is None:
        raise SettingsError("speculative decoding needs a teacher in the engine whisperstill")
    # 1. Select utterances.
    datasets = runner.select_datasets(table.datasets, "short_form")
    samples = {dataset.name: sample_evenly(dataset.short_utterances, table.limit) for dataset in datasets}
    named_utterances = [(name, utterance) for name, utterances in samples.items() for utterance in utterances]
    if not named_utterances:
        raise SettingsError("speculative decoding needs a dataset with utterances up to 30 s")
    # 2. Compare and trace with each draft model, which is loaded on first use.
    for draft in [systems[name] for name in runner.suite.students if name in systems]:
        load_assisted = cache(partial(teacher.build_model, draft.checkpoint))
        for batch_size in table.batch_sizes:
            key = runner.result_cache.compute_key(
                teacher=teacher.identity,
                draft=draft.identity,
                batch_size=batch_size,
                threads=torch.get_num_threads(),
                corpora=[dataset.sha256 for dataset in datasets],
                limit=table.limit,
            )
            entry = runner.result_cache.get(key, SpeculativeComparison)
            if entry is None:
                utterances = [utterance for _, utterance in named_utterances]
                seconds = sum(utterance.audio.duration for utterance in utterances)
                with runner.console.progress(f"{draft.info.name} drafts at batch {batch_size}", seconds, "s") as bar:
                    entry = compare_speculative(teacher.model, load_assisted(), utterances, batch_size, bar.advance)
                runner.result_cache.put(key, entry)
            runner.failures.skip(entry.skipped)
            yield replace(entry.result, model=teacher.info.name, draft=draft.info.name)
        if table.num_traces:
            for dataset_name, utterance in sample_evenly(named_utterances, table.num_traces):
                yield trace_draft(load_assisted(), utterance, dataset_name)


def include_results(runner: SuiteRunner, table: spec.Include) -> Iterator[Ablation | TrainingCurve]:
    """Ablation tables, and for each student its training curve and filter counts."""
    for path in table.ablations:
        with runner.failures.record(f"ablations {path}"):
            ablations = read_json(Path(path)).get("ablations")
            if not isinstance(ablations, list):
                raise NotFoundError(f"expected ablations.json of `whisperstill ablate`, found none at {path}")
            for ablation in ablations:
                yield from_dict(Ablation, ablation)
    shared_counts: dict[str, int] = {}
    if folder := table.filter_summary:
        with runner.failures.record(f"filter {folder}"):
            shared_counts = read_filter_counts(Path(folder))
            if not shared_counts:
                raise NotFoundError(f"expected the output of `whisperstill filter`, found none at {folder}")
    for name in runner.suite.students:
        student = Path(runner.suite.models[name].model)
        points = read_training_curve(student / "metrics.jsonl")
        record = read_stage_record(student)
        labels = record.settings.get("labels") if record is not None else None
        counts = (read_filter_counts(Path(labels)) if isinstance(labels, str) else {}) or shared_counts
        if points or counts:
            yield TrainingCurve(name, points, counts)


def read_filter_counts(folder: Path) -> dict[str, int]:
    """Utterances that a filter kept, and dropped by each rule; empty if the folder is not a filter's output."""
    counts = read_record(folder / "filter.json", FilterSummary)
    return {} if counts is None else {"kept": counts.kept, **counts.dropped}


def read_training_curve(path: Path) -> tuple[CurvePoint, ...]:
    """Loss and validation WER by step from `metrics.jsonl`; empty without such a file."""
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]
    except (OSError, ValueError):
        return ()
    by_step: dict[int, JsonObject] = {}
    for line in lines:
        by_step.setdefault(line["step"], {}).update(line)
    return tuple(from_dict(CurvePoint, values) for _, values in sorted(by_step.items()))
