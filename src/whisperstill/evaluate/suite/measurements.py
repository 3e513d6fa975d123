"""Measurements of error rates: each a function from a suite runner and its table to result records.

To add a measurement: a table in `spec`, a function that yields records, a line in `run_suite.MEASUREMENTS`, a section
in `evaluate.report`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.conditions import CONDITION_KINDS, NUM_BABBLE_SPEAKERS, Condition, parse_conditions
from whisperstill.corpus.loading import Waveform
from whisperstill.errors import SettingsError
from whisperstill.evaluate.encoder_cache import EncoderCache
from whisperstill.evaluate.error_examples import select_error_examples
from whisperstill.evaluate.inference import AudioTransform
from whisperstill.evaluate.metrics import SystemOutput, compute_metrics
from whisperstill.evaluate.suite.datasets import EvalDataset, sample_evenly
from whisperstill.evaluate.suite.runner import UNCHANGED_AUDIO, AudioCondition, SuiteRunner
from whisperstill.evaluate.suite.spec import ChunkLength, ErrorExamples, LongForm, Noise, NonSpeech, ShortForm
from whisperstill.evaluate.systems import DecodeMode, WhisperstillSystem
from whisperstill.records import Utterance
from whisperstill.records.eval_results import DatasetResult, ErrorExample
from whisperstill.records.seeding import rng
from whisperstill.units import WINDOW_SECONDS


def measure_short_form(runner: SuiteRunner, table: ShortForm) -> Iterator[DatasetResult]:
    """Every model on every dataset of utterances up to 30 s."""
    for dataset in runner.select_datasets(table.datasets, is_short_form):
        yield from _measure_dataset(runner, "short_form", table.models, dataset, _short_mode(runner))


def measure_non_speech(runner: SuiteRunner, table: NonSpeech) -> Iterator[DatasetResult]:
    """Every model on audio without speech: bare greedy decoding, and transcription with the hallucination filter."""
    for dataset in runner.select_datasets(table.datasets, lambda candidate: candidate.spec.non_speech):
        for decoding in ("short", "silence"):
            mode = DecodeMode(decoding, batch_size=runner.options.batch_size)
            yield from _measure_dataset(runner, "non_speech", table.models, dataset, mode)


def measure_long_form(runner: SuiteRunner, table: LongForm) -> Iterator[DatasetResult]:
    """Every model on every dataset of recordings with every long-form strategy."""
    for dataset in runner.select_datasets(table.datasets, is_long_form):
        for strategy in table.strategies:
            mode = DecodeMode(strategy, batch_size=table.batch_size)
            yield from _measure_dataset(runner, "long_form", table.models, dataset, mode)


def measure_chunk_lengths(runner: SuiteRunner, table: ChunkLength) -> Iterator[DatasetResult]:
    """The `chunked` strategy with several chunk lengths."""
    for dataset in runner.select_datasets(table.datasets, is_long_form):
        for length in table.lengths:
            mode = DecodeMode("chunked", length, runner.options.batch_size)
            yield from _measure_dataset(runner, "chunk_length", table.models, dataset, mode)


def measure_noise(runner: SuiteRunner, table: Noise) -> Iterator[DatasetResult]:
    """Every model on every dataset under every condition; utterances over 30 s are left out."""
    conditions = parse_conditions(table.conditions)
    labels = condition_labels(conditions)
    for dataset in runner.select_datasets(table.datasets, is_short_form):
        utterances = tuple(sample_evenly(dataset.short_utterances, table.limit))
        subset = replace(dataset, utterances=utterances, sha256=f"{dataset.sha256} {len(utterances)}")
        for condition in conditions:
            audio_condition = AudioCondition(
                labels[condition],
                make_audio_transform(condition, subset, table.seed),
                {
                    "condition": condition.name,
                    "seed": table.seed,
                    "noise": condition.noise_recordings_sha256(),
                },
            )
            yield from _measure_dataset(runner, "noise", table.models, subset, _short_mode(runner), audio_condition)


def collect_error_examples(runner: SuiteRunner, table: ErrorExamples) -> Iterator[ErrorExample]:
    """Worst utterances of the first student (else the last model), from outputs of [short_form] and [non_speech]."""
    available = list(runner.systems)
    model_name = next((name for name in runner.suite.students if name in available), available[-1])
    if not runner.short_outputs:
        raise SettingsError("expected outputs of [short_form] or [non_speech] to take examples from, got none")
    leading_models = [runner.suite.teacher] if runner.suite.teacher else []
    for dataset_name, by_model in runner.short_outputs.items():
        if model_name in by_model:
            yield from select_error_examples(dataset_name, "", by_model, model_name, table.num_examples, leading_models)


def is_short_form(dataset: EvalDataset) -> bool:
    """Whether a dataset holds speech, mostly in utterances up to 30 s."""
    return not dataset.is_long_form and not dataset.spec.non_speech


def is_long_form(dataset: EvalDataset) -> bool:
    """Whether a dataset holds speech, mostly in recordings over 30 s."""
    return dataset.is_long_form and not dataset.spec.non_speech


def _short_mode(runner: SuiteRunner) -> DecodeMode:
    return DecodeMode(batch_size=runner.options.batch_size)


def _measure_dataset(
    runner: SuiteRunner,
    measurement: str,
    models: Sequence[str],
    dataset: EvalDataset,
    decode_mode: DecodeMode,
    condition: AudioCondition = UNCHANGED_AUDIO,
) -> Iterator[DatasetResult]:
    """Results of all models on a dataset."""
    # 1. Store encoder states only if several models share an encoder.
    systems = [runner.systems[name] for name in runner.select_models(models)]
    encoder_counts = Counter(
        system.checkpoint.encoder_sha256 for system in systems if isinstance(system, WhisperstillSystem)
    )
    encoder_cache = EncoderCache(shared=max(encoder_counts.values(), default=0) > 1)
    # 2. The teacher comes first: the other models are compared with its output.
    teacher_output: SystemOutput | None = None
    for system in systems:
        if not system.supports(decode_mode):
            continue
        output = runner.transcribe(system, dataset, decode_mode, encoder_cache, condition)
        if output is None:
            continue
        result = compute_metrics(
            output,
            measurement=measurement,
            model=system.info.name,
            dataset=dataset.name,
            decoding=decode_mode.decoding,
            teacher_output=teacher_output,
        )
        yield replace(result, condition=condition.label, chunk_length=decode_mode.chunk_length)
        if system.info.name == runner.suite.teacher:
            teacher_output = output


def condition_labels(conditions: Sequence[Condition]) -> dict[Condition, str]:
    """Names for the results. Recorded noise is named by its file, with as much of the path as makes it unique."""
    kinds = {condition.kind for condition in conditions if condition.kind not in CONDITION_KINDS}
    kind_labels = {}
    for kind in kinds:
        taken = {name for other in kinds - {kind} for name in _short_paths(Path(other))} | {*CONDITION_KINDS}
        kind_labels[kind] = next((name for name in _short_paths(Path(kind)) if name not in taken), kind)
    return {
        condition: f"{kind_labels[condition.kind]}@{condition.level:g}"
        if condition.kind in kind_labels
        else condition.name
        for condition in conditions
    }


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
