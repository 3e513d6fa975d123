"""Measurements of error rates: each a function from a suite runner and its table to result records.

To add a measurement: a table in `spec`, a function that yields records, a case in `run_suite`, a section
in `evaluate.report`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.conditions import CONDITION_KINDS, NUM_BABBLE_SPEAKERS, Condition, parse_conditions
from whisperstill.corpus.loading import Waveform
from whisperstill.errors import SettingsError
from whisperstill.evaluate.error_examples import select_error_examples
from whisperstill.evaluate.inference import AudioTransform, DecodeMode
from whisperstill.evaluate.metrics import SystemOutput, compute_metrics
from whisperstill.evaluate.suite.datasets import AudioCondition, EvalDataset, sample_evenly
from whisperstill.evaluate.suite.runner import SuiteRunner
from whisperstill.evaluate.suite.spec import ChunkLength, ErrorExamples, ErrorRates, LongForm, Noise
from whisperstill.evaluate.systems import EncoderCache, WhisperstillSystem
from whisperstill.records import Utterance
from whisperstill.records.eval_results import DatasetResult, ErrorExample
from whisperstill.records.json_value import JsonObject
from whisperstill.records.seeding import rng
from whisperstill.units import WINDOW_SECONDS


def measure_short_form(runner: SuiteRunner, table: ErrorRates) -> Iterator[DatasetResult]:
    """Every model on every dataset of utterances up to 30 s."""
    datasets = runner.select_datasets(table.datasets, "short_form")
    yield from _measure(runner, "short_form", table, datasets, [DecodeMode(batch_size=runner.settings.batch_size)])


def measure_non_speech(runner: SuiteRunner, table: ErrorRates) -> Iterator[DatasetResult]:
    """Every model on audio without speech: bare greedy decoding, and transcription with the hallucination filter."""
    modes = [DecodeMode(decoding, batch_size=runner.settings.batch_size) for decoding in ("short", "silence")]
    yield from _measure(runner, "non_speech", table, runner.select_datasets(table.datasets, "non_speech"), modes)


def measure_long_form(runner: SuiteRunner, table: LongForm) -> Iterator[DatasetResult]:
    """Every model on every dataset of recordings with every long-form strategy."""
    modes = [DecodeMode(strategy, batch_size=table.batch_size) for strategy in table.strategies]
    yield from _measure(runner, "long_form", table, runner.select_datasets(table.datasets, "long_form"), modes)


def measure_chunk_lengths(runner: SuiteRunner, table: ChunkLength) -> Iterator[DatasetResult]:
    """The `chunked` strategy with several chunk lengths."""
    modes = [DecodeMode("chunked", length, runner.settings.batch_size) for length in table.lengths]
    yield from _measure(runner, "chunk_length", table, runner.select_datasets(table.datasets, "long_form"), modes)


def measure_noise(runner: SuiteRunner, table: Noise) -> Iterator[DatasetResult]:
    """Every model on every dataset under every condition; utterances over 30 s are left out."""
    modes = [DecodeMode(batch_size=runner.settings.batch_size)]
    yield from _measure(runner, "noise", table, _corrupted_datasets(runner, table), modes)


def _corrupted_datasets(runner: SuiteRunner, table: Noise) -> Iterator[EvalDataset]:
    conditions = parse_conditions(table.conditions)
    labels = condition_labels(conditions)
    for dataset in runner.select_datasets(table.datasets, "short_form"):
        utterances = tuple(sample_evenly(dataset.short_utterances, table.limit))
        subset = replace(dataset, utterances=utterances, sha256=f"{dataset.sha256} {len(utterances)}")
        for condition in conditions:
            transform = make_audio_transform(condition, subset, table.seed)
            noise_sha256 = condition.noise_recordings_sha256()
            identity: JsonObject = {"condition": condition.name, "seed": table.seed, "noise": noise_sha256}
            yield replace(subset, condition=AudioCondition(labels[condition], transform, identity))


def collect_error_examples(runner: SuiteRunner, table: ErrorExamples) -> Iterator[ErrorExample]:
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


def _measure(
    runner: SuiteRunner,
    measurement: str,
    table: ErrorRates,
    datasets: Iterable[EvalDataset],
    modes: Sequence[DecodeMode],
) -> Iterator[DatasetResult]:
    """Results of the table's models on each dataset in each mode."""
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
