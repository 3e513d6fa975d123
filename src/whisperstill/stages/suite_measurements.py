"""The measurements of a suite: each a function from a suite runner and its table to parts of the findings.

To add one: a table in `stages.suite_spec`, a function here that yields `(field of EvalResults, record)`, a line in
`MEASUREMENT_FUNCTIONS`, a section in `evaluate.report`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.conditions import CONDITION_KINDS, NUM_BABBLE_SPEAKERS, Condition, parse_conditions
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.evaluate.encoder_cache import EncoderCache
from whisperstill.evaluate.inference import AudioTransform
from whisperstill.evaluate.metrics import SystemOutput, compute_metrics
from whisperstill.evaluate.systems import DecodeMode, WhisperstillSystem
from whisperstill.pipeline.stage_record import read_stage_record
from whisperstill.records import Utterance
from whisperstill.records.eval_results import (
    Ablation,
    CurvePoint,
    SpeculativeResult,
    SpeedResult,
    TrainingCurve,
)
from whisperstill.records.seeding import rng
from whisperstill.records.serialization import from_dict, read_json
from whisperstill.stages.suite import SuiteRunner
from whisperstill.stages.suite_datasets import EvalDataset, sample_evenly
from whisperstill.stages.suite_spec import (
    ChunkLength,
    ErrorExamples,
    Include,
    LongForm,
    Noise,
    NonSpeech,
    ShortForm,
    Speculative,
    SpeedTable,
)
from whisperstill.units import WINDOW_SECONDS

ResultRecords = Iterator[tuple[str, Any]]
"""(field of `EvalResults`, what to add to it)."""


def measure_short_form(runner: SuiteRunner, table: ShortForm) -> ResultRecords:
    """Every model on every set of utterances up to 30 s."""
    for dataset in runner.select_datasets(
        table.datasets, lambda candidate: not candidate.is_long_form and not candidate.spec.non_speech
    ):
        yield from _measure_dataset(
            runner, "short_form", table.models, dataset, DecodeMode(batch_size=runner.settings.batch_size)
        )


def measure_non_speech(runner: SuiteRunner, table: NonSpeech) -> ResultRecords:
    """What is heard where nobody speaks: by the bare model, and with what guards transcription."""
    for dataset in runner.select_datasets(table.datasets, lambda candidate: candidate.spec.non_speech):
        for decoding in ("short", "silence"):
            decode_mode = DecodeMode(decoding, batch_size=runner.settings.batch_size)
            yield from _measure_dataset(runner, "non_speech", table.models, dataset, decode_mode)


def measure_long_form(runner: SuiteRunner, table: LongForm) -> ResultRecords:
    """Every model on every set of recordings, in every way."""
    for dataset in runner.select_datasets(
        table.datasets, lambda candidate: candidate.is_long_form and not candidate.spec.non_speech
    ):
        for strategy in table.strategies:
            yield from _measure_dataset(
                runner, "long_form", table.models, dataset, DecodeMode(strategy, batch_size=table.batch_size)
            )


def measure_chunk_lengths(runner: SuiteRunner, table: ChunkLength) -> ResultRecords:
    """`chunked` with chunks of several lengths."""
    for dataset in runner.select_datasets(
        table.datasets, lambda candidate: candidate.is_long_form and not candidate.spec.non_speech
    ):
        for length in table.lengths:
            decode_mode = DecodeMode("chunked", length, runner.settings.batch_size)
            yield from _measure_dataset(runner, "chunk_length", table.models, dataset, decode_mode)


def measure_noise(runner: SuiteRunner, table: Noise) -> ResultRecords:
    """Every model on every set under every condition; utterances over 30 s are left out."""
    conditions = parse_conditions(table.conditions)
    names = condition_labels(conditions)
    for dataset in runner.select_datasets(
        table.datasets, lambda candidate: not candidate.is_long_form and not candidate.spec.non_speech
    ):
        subset = replace(dataset, utterances=tuple(sample_evenly(dataset.short_utterances, table.limit)))
        subset = replace(subset, sha256=f"{dataset.sha256} {len(subset.utterances)}")
        for condition in conditions:
            audio_transform = make_audio_transform(condition, subset, table.seed)
            transform_identity = {
                "condition": condition.name,
                "seed": table.seed,
                "noise": condition.noise_recordings_sha256(),
            }
            decode_mode = DecodeMode(batch_size=runner.settings.batch_size)
            yield from _measure_dataset(
                runner,
                "noise",
                table.models,
                subset,
                decode_mode,
                names[condition],
                audio_transform,
                transform_identity,
            )


def condition_labels(conditions: Sequence[Condition]) -> dict[Condition, str]:
    """Their names; of recorded noise the file's, wherever that lies, or as much of its path as tells it from others."""
    kinds = {condition.kind for condition in conditions if condition.kind not in CONDITION_KINDS}
    kind_labels = {}
    for kind in kinds:
        path, others = Path(kind), [Path(other) for other in kinds if other != kind]
        candidates = (path.stem, path.name, f"{path.parent.name}/{path.name}")
        used_names = {
            name
            for other_path in others
            for name in (other_path.stem, other_path.name, f"{other_path.parent.name}/{other_path.name}")
        } | {*CONDITION_KINDS}
        kind_labels[kind] = next((name for name in candidates if name not in used_names), kind)
    return {
        condition: f"{kind_labels[condition.kind]}@{condition.level:g}"
        if condition.kind in kind_labels
        else condition.name
        for condition in conditions
    }


def make_audio_transform(condition: Condition, dataset: EvalDataset, seed: int) -> AudioTransform | None:
    """What a condition does to an utterance; the others of the set are the babble."""
    if condition.kind == "clean":
        return None

    def transform_audio(utterance: Utterance, waveform: np.ndarray) -> np.ndarray:
        generator = rng(seed, 0, utterance.id, f"condition {condition.kind}")  # the same noise at every level
        others: list[np.ndarray] = []
        if condition.needs_other_utterances:
            other_utterances = [other for other in dataset.utterances if other.id != utterance.id]
            for index in generator.permutation(len(other_utterances))[:NUM_BABBLE_SPEAKERS]:
                span = other_utterances[index].audio
                others.append(load_audio(span.path, span.start, min(span.duration, WINDOW_SECONDS)))
        return condition.apply(waveform, generator, others)

    return transform_audio


def _measure_dataset(
    runner: SuiteRunner,
    measurement: str,
    models: tuple[str, ...],
    dataset: EvalDataset,
    decode_mode: DecodeMode,
    condition: str = "",
    audio_transform: AudioTransform | None = None,
    transform_identity: Mapping[str, Any] | None = None,
) -> ResultRecords:
    """A set by all models, the teacher first: the others are held against it."""
    encoder_counts = Counter(
        system.checkpoint.encoder_sha256
        for name in runner.select_models(models)
        if isinstance(system := runner.systems[name], WhisperstillSystem)
    )
    encoder_cache = EncoderCache(shared=max(encoder_counts.values(), default=0) > 1)
    teacher_output: SystemOutput | None = None
    for name in runner.select_models(models):
        if not runner.systems[name].supports(decode_mode):
            continue
        output = runner.transcribe_dataset(
            name, dataset, decode_mode, encoder_cache, condition, audio_transform, transform_identity
        )
        if output is None:
            continue
        is_teacher = name == runner.suite.teacher
        if is_teacher:
            teacher_output = output
        if decode_mode.decoding == "short" and not condition:
            runner.outputs.setdefault(dataset.name, {})[name] = output
        yield (
            "results",
            compute_metrics(
                output,
                measurement=measurement,
                model=name,
                dataset=dataset.name,
                decoding=decode_mode.decoding,
                condition=condition,
                chunk_length=decode_mode.chunk_length,
                teacher_output=None if is_teacher else teacher_output,
            ),
        )


def measure_system_speed(runner: SuiteRunner, table: SpeedTable) -> ResultRecords:
    """Networks in turns, at each batch size; found again for the same networks on the same device."""
    import torch

    from whisperstill.evaluate.peak_memory import measure_peak_memory_mib, weights_mib
    from whisperstill.evaluate.speed import DECODE_STEPS, measure_speed
    from whisperstill.units import WINDOW_SECONDS

    systems = [
        (name, candidate)
        for name in runner.select_models(table.models)
        if isinstance(candidate := runner.systems[name], WhisperstillSystem)
    ]
    for batch_size in table.batch_sizes:
        key = runner.result_cache.compute_key(
            speed=[system.identity for _, system in systems],
            batch_size=batch_size,
            rounds=table.rounds,
            threads=torch.get_num_threads(),
        )
        timings = runner.result_cache.get(key)
        if timings is None:
            runner.console.info(f"timing {', '.join(name for name, _ in systems)} at batch {batch_size}")
            networks = [system.model.network for _, system in systems]
            speeds = measure_speed(networks, rounds=table.rounds, batch_size=batch_size)
            timings = {
                "rows": [
                    {
                        "encoder_ms_per_window": timing.encoder_ms_per_window,
                        "decoder_ms_per_token": timing.decoder_ms_per_token,
                        "latency_ms": timing.latency_ms,
                        "real_time_factor": timing.latency_ms / 1000 / (WINDOW_SECONDS * batch_size),
                        "num_tokens": DECODE_STEPS,
                        "weights_mib": weights_mib(network),
                        "peak_memory_mib": measure_peak_memory_mib(
                            system.info.source, batch_size, runner.device, system.info.dtype
                        ),
                    }
                    for timing, network, (_, system) in zip(speeds, networks, systems, strict=True)
                ]
            }
            runner.result_cache.put(key, timings)
        for (name, _), row in zip(systems, timings["rows"], strict=True):
            yield "speeds", SpeedResult(model=name, batch_size=batch_size, **row)


def measure_speculative(runner: SuiteRunner, table: Speculative) -> ResultRecords:
    """The teacher with each student as its draft, at each batch size, and a few utterances token by token."""
    import torch

    from whisperstill.evaluate.speculative import compare_speculative, trace_draft

    teacher = runner.systems.get(runner.suite.teacher or "")
    if not isinstance(teacher, WhisperstillSystem):
        raise SettingsError("speculation needs a teacher in our own engine")
    datasets = runner.select_datasets(
        table.datasets, lambda candidate: not candidate.is_long_form and not candidate.spec.non_speech
    )
    parts = [
        (dataset.name, utterance)
        for dataset in datasets
        for utterance in sample_evenly(dataset.short_utterances, table.limit)
    ]
    utterances = [utterance for _, utterance in parts]
    if not utterances:
        raise SettingsError("speculation needs a set of utterances up to 30 s")
    for name in runner.suite.students:
        student = runner.systems.get(name)
        if not isinstance(student, WhisperstillSystem):
            continue
        assisted_model: WhisperModel | None = None
        for batch_size in table.batch_sizes:
            key = runner.result_cache.compute_key(
                teacher=teacher.identity,
                draft=student.identity,
                batch_size=batch_size,
                corpora=[dataset.sha256 for dataset in datasets],
                limit=table.limit,
                threads=torch.get_num_threads(),
            )
            comparison = runner.result_cache.get(key)
            if comparison is None:
                assisted_model = assisted_model or teacher.build_model(student.checkpoint)
                seconds = sum(utterance.audio.duration for utterance in utterances)
                with runner.console.progress(f"{name} drafts at batch {batch_size}", seconds, "s") as bar:
                    totals = compare_speculative(teacher.model, assisted_model, utterances, batch_size, bar.advance)
                comparison = {
                    "baseline_seconds": totals.encoder_seconds + totals.baseline_decode_seconds,
                    "speculative_seconds": totals.encoder_seconds + totals.speculative_decode_seconds,
                    "encoder_seconds": totals.encoder_seconds,
                    "utterances": totals.utterances,
                    "identical": totals.identical,
                    "acceptance_rate": 100 * totals.stats.acceptance_rate,
                    "tokens_per_step": totals.stats.tokens_per_verification,
                    "skipped": {problem.source: problem.reason for problem in totals.skipped},
                }
                runner.result_cache.put(key, comparison)
            runner.skipped |= comparison["skipped"]
            metrics = {key: value for key, value in comparison.items() if key != "skipped"}
            yield (
                "speculative",
                SpeculativeResult(model=teacher.info.name, draft=name, batch_size=batch_size, **metrics),
            )
        if table.num_traces:
            assisted_model = assisted_model or teacher.build_model(student.checkpoint)
            for dataset_name, utterance in sample_evenly(parts, table.num_traces):
                yield "draft_traces", trace_draft(assisted_model, utterance, dataset_name)


def collect_error_examples(runner: SuiteRunner, table: ErrorExamples) -> ResultRecords:
    """Utterances that the student (else the last model) does worst on, of what `short_form` and `non_speech` heard."""
    from whisperstill.evaluate.error_examples import select_error_examples

    available = list(runner.systems)
    model_name = next((name for name in runner.suite.students if name in available), available[-1])
    if not runner.outputs:
        raise SettingsError("utterances are taken from what [short_form] or [non_speech] heard: nothing was")
    leading_models = [runner.suite.teacher] if runner.suite.teacher else []
    for name, by_model in runner.outputs.items():
        if model_name in by_model:
            for example in select_error_examples(name, "", by_model, model_name, table.num_examples, leading_models):
                yield "error_examples", example


def include_results(runner: SuiteRunner, table: Include) -> ResultRecords:
    """Ablations, training curves and the filter's ledger, as they were left elsewhere."""
    for path in table.ablations:
        with runner.record_failure(f"ablations {path}"):
            content = read_json(Path(path))
            if "ablations" not in content:
                raise NotFoundError(f"expected ablations.json, as `whisperstill ablate` leaves it, at {path}")
            for ablation in content["ablations"]:
                yield "ablations", from_dict(Ablation, ablation)
    shared_summary: dict[str, int] = {}
    if table.filter_summary:
        with runner.record_failure(f"filter {table.filter_summary}"):
            shared_summary = read_filter_summary(Path(table.filter_summary))
            if not shared_summary:
                raise NotFoundError(f"expected what `whisperstill filter` leaves in {table.filter_summary}")
    for name in runner.suite.students:
        student = Path(runner.suite.models[name].model)
        record = read_stage_record(student)
        labels_dir = record.settings.get("labels") if record is not None else None
        points, summary = (
            read_training_curve(student / "metrics.jsonl"),
            read_filter_summary(Path(labels_dir)) if labels_dir else {},
        )
        if points or summary or shared_summary:
            yield "training_curves", TrainingCurve(name, points, summary or shared_summary)


def read_filter_summary(directory: Path) -> dict[str, int]:
    """What a filter kept, and what it dropped by which rule; empty where there was none."""
    content = read_json(directory / "filter.json")
    return {"kept": content["kept"], **content["dropped"]} if "kept" in content else {}


def read_training_curve(path: Path) -> tuple[CurvePoint, ...]:
    """The points of a training's metrics.jsonl; none where there is none."""
    import json

    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]
    except (OSError, ValueError):
        return ()
    points: dict[int, CurvePoint] = {}
    for line in lines:
        point = points.get(line["step"], CurvePoint(line["step"]))
        points[line["step"]] = replace(
            point,
            loss=line.get("loss", point.loss),
            validation_wer=line.get("validation_wer", point.validation_wer),
        )
    return tuple(points[step] for step in sorted(points))


MEASUREMENT_FUNCTIONS: dict[str, Callable[[SuiteRunner, Any], ResultRecords]] = {
    "short_form": measure_short_form,
    "non_speech": measure_non_speech,
    "long_form": measure_long_form,
    "chunk_length": measure_chunk_lengths,
    "noise": measure_noise,
    "speed": measure_system_speed,
    "speculative": measure_speculative,
    "error_examples": collect_error_examples,
    "include": include_results,
}
"""In this order; `error_examples` takes from what others heard before it."""
