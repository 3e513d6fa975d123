"""Measurements of speed: latency and memory of models, and speculative decoding."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial

import torch

from whisperstill.errors import SettingsError
from whisperstill.evaluate.peak_memory import measure_peak_memory_mib
from whisperstill.evaluate.speculative import SpeculativeComparison, compare_speculative, trace_draft
from whisperstill.evaluate.speed import measure_speed
from whisperstill.evaluate.suite.datasets import sample_evenly
from whisperstill.evaluate.suite.runner import SuiteRunner
from whisperstill.evaluate.suite.spec import Speculative, SpeedTable
from whisperstill.records.eval_results import DraftTrace, SpeculativeResult, SpeedResult


@dataclass(frozen=True)
class _SpeedEntry:
    """Entry of the result cache."""

    rows: tuple[SpeedResult, ...]


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
        entry = runner.result_cache.get(key, _SpeedEntry)
        if entry is None:
            runner.console.info(f"timing {', '.join(systems)} at batch {batch_size}")
            networks = {name: system.model.network for name, system in systems.items()}
            speeds = measure_speed(networks, rounds=table.rounds, batch_size=batch_size)
            if table.memory:
                infos = {name: system.info for name, system in systems.items()}
                peaks = [measure_peak_memory_mib(infos[speed.model], batch_size) for speed in speeds]
                speeds = [replace(speed, peak_memory_mib=peak) for speed, peak in zip(speeds, peaks, strict=True)]
            entry = _SpeedEntry(tuple(speeds))
            runner.result_cache.put(key, entry)
        for name, speed in zip(systems, entry.rows, strict=True):
            yield replace(speed, model=name)


def measure_speculative(runner: SuiteRunner, table: Speculative) -> Iterator[SpeculativeResult | DraftTrace]:
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
