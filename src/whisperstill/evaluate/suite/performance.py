"""Measurements of speed: latency and memory of models, and speculative decoding."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import torch

from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import SettingsError
from whisperstill.evaluate.peak_memory import measure_peak_memory_mib
from whisperstill.evaluate.speculative import SpeculativeComparison, compare_speculative, trace_draft
from whisperstill.evaluate.speed import measure_speed
from whisperstill.evaluate.suite.datasets import sample_evenly
from whisperstill.evaluate.suite.measurements import is_short_form
from whisperstill.evaluate.suite.result_cache import CacheEntry
from whisperstill.evaluate.suite.runner import SuiteRunner
from whisperstill.evaluate.suite.spec import Speculative, SpeedTable
from whisperstill.evaluate.systems import WhisperstillSystem
from whisperstill.records import Utterance
from whisperstill.records.eval_results import DraftTrace, SpeculativeResult, SpeedResult
from whisperstill.records.json_value import JsonValue
from whisperstill.records.serialization import from_dict


def measure_system_speed(runner: SuiteRunner, table: SpeedTable) -> Iterator[SpeedResult]:
    """All whisperstill models, interleaved, at each batch size; cached for the same models, device and threads."""
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
        entry = runner.result_cache.get(key)
        if entry is None:
            runner.console.info(f"timing {', '.join(systems)} at batch {batch_size}")
            networks = {name: system.model.network for name, system in systems.items()}
            speeds = measure_speed(networks, rounds=table.rounds, batch_size=batch_size)
            if table.memory:
                speeds = [_with_peak_memory(speed, systems[speed.model]) for speed in speeds]
            entry = {"rows": [asdict(speed) for speed in speeds]}
            runner.result_cache.put(key, entry)
        for name, row in zip(systems, entry["rows"], strict=True):
            yield replace(from_dict(SpeedResult, row), model=name)


def _with_peak_memory(speed: SpeedResult, system: WhisperstillSystem) -> SpeedResult:
    info = system.info
    peak_memory_mib = measure_peak_memory_mib(info.source, speed.batch_size, info.device, info.dtype)
    return replace(speed, peak_memory_mib=peak_memory_mib)


def measure_speculative(runner: SuiteRunner, table: Speculative) -> Iterator[SpeculativeResult | DraftTrace]:
    """The teacher with each student as draft model at each batch size, and token traces of a few utterances."""
    systems = runner.select_own_systems()
    teacher = systems.get(runner.suite.teacher or "")
    if teacher is None:
        raise SettingsError("speculative decoding needs a teacher in the engine whisperstill")
    datasets = runner.select_datasets(table.datasets, is_short_form)
    named_utterances = [
        (dataset.name, utterance)
        for dataset in datasets
        for utterance in sample_evenly(dataset.short_utterances, table.limit)
    ]
    if not named_utterances:
        raise SettingsError("speculative decoding needs a dataset with utterances up to 30 s")
    utterances = [utterance for _, utterance in named_utterances]
    sample: dict[str, JsonValue] = {"corpora": [dataset.sha256 for dataset in datasets], "limit": table.limit}
    for name in runner.suite.students:
        if name not in systems:
            continue
        pair = _DraftPair(teacher, systems[name])
        for batch_size in table.batch_sizes:
            entry = _compare_cached(runner, pair, utterances, batch_size, sample)
            runner.failures.skip(entry["skipped"])
            figures = {key: value for key, value in entry.items() if key != "skipped"}
            yield SpeculativeResult(model=teacher.info.name, draft=name, batch_size=batch_size, **figures)
        if table.num_traces:
            for dataset_name, utterance in sample_evenly(named_utterances, table.num_traces):
                yield trace_draft(pair.assisted_model, utterance, dataset_name)


@dataclass
class _DraftPair:
    """A teacher and the student that drafts for it."""

    teacher: WhisperstillSystem
    student: WhisperstillSystem

    @cached_property
    def assisted_model(self) -> WhisperModel:
        """The teacher with the draft model, loaded on first use."""
        return self.teacher.build_model(self.student.checkpoint)


def _compare_cached(
    runner: SuiteRunner,
    pair: _DraftPair,
    utterances: Sequence[Utterance],
    batch_size: int,
    sample: Mapping[str, JsonValue],
) -> CacheEntry:
    """Figures of a `SpeculativeResult` and skipped utterances, from the cache where they are there.

    `sample` identifies the utterances.
    """
    key = runner.result_cache.compute_key(
        teacher=pair.teacher.identity,
        draft=pair.student.identity,
        batch_size=batch_size,
        threads=torch.get_num_threads(),
        **sample,
    )
    entry = runner.result_cache.get(key)
    if entry is None:
        seconds = sum(utterance.audio.duration for utterance in utterances)
        with runner.console.progress(f"{pair.student.info.name} drafts at batch {batch_size}", seconds, "s") as bar:
            comparison = compare_speculative(
                pair.teacher.model, pair.assisted_model, utterances, batch_size, bar.advance
            )
        entry = _comparison_entry(comparison)
        runner.result_cache.put(key, entry)
    return entry


def _comparison_entry(comparison: SpeculativeComparison) -> CacheEntry:
    return {
        "baseline_seconds": comparison.encoder_seconds + comparison.baseline_decode_seconds,
        "speculative_seconds": comparison.encoder_seconds + comparison.speculative_decode_seconds,
        "encoder_seconds": comparison.encoder_seconds,
        "utterances": comparison.utterances,
        "identical": comparison.identical,
        "acceptance_rate": 100 * comparison.stats.acceptance_rate,
        "tokens_per_step": comparison.stats.tokens_per_verification,
        "skipped": {problem.source: problem.reason for problem in comparison.skipped},
    }
