"""compare: two evaluation results, before and after; which figures got better or worse beyond chance."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TypeAlias

from whisperstill.console import SILENT, Console
from whisperstill.errors import SettingsError
from whisperstill.records.edit_counts import EditCounts
from whisperstill.records.eval_results import DatasetResult, EvalResults
from whisperstill.records.results_file import read_eval_results

COLUMNS = ("metric", "model", "before", "after", "difference", "outcome")
ResultKey: TypeAlias = tuple[str, str, str, str, float, str]


@dataclass(frozen=True)
class CompareSettings:
    """Compare two results of `evaluate`; exit status 1 if the second is worse, or failed to measure something."""

    results: tuple[Path, Path]
    """results.json before and after."""
    alpha: float = 0.05
    """Family-wise error rate over all comparisons (Holm 1979)."""
    tolerance: float = 0.0
    """Increase of a rate that does not count as worse: percentage points of WER, hallucinated words per 100 clips."""
    max_slower: float | None = None
    """Increase of latency and memory in per cent that does not count as worse; default: speed is not compared."""
    resamples: int = 10_000
    """Resamples of the paired bootstrap; increased where many comparisons need smaller p-values."""
    seed: int = 0
    """Seed of the bootstrap."""


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One figure before and after."""

    metric: str
    model: str
    before: float
    after: float
    low: float = 0.0
    """Lower end of the 95 % interval of the difference."""
    high: float = 0.0
    p: float = 1.0
    outcome: str = "same"
    """`better`, `worse`, `same` (not significant), or `not comparable` (other utterances)."""


@dataclass(frozen=True, slots=True)
class CompareReport:
    """Changes between two evaluations."""

    changes: tuple[MetricChange, ...]
    only_before: tuple[str, ...]
    """Results that only the first evaluation has."""
    only_after: tuple[str, ...]
    worse: int
    better: int
    not_comparable: int
    """Results of the same name on other utterances."""
    failed: int = 0
    """Results of the first evaluation that failed in the second."""

    @property
    def exit_code(self) -> int:
        """1 if a figure got worse or a measurement failed."""
        return int(self.worse > 0 or self.failed > 0)


def run(settings: CompareSettings, console: Console = SILENT) -> CompareReport:
    """Pairs the results of both evaluations by model, dataset and condition, and tests each difference.

    Raises `NotFoundError` or `SettingsError` for a file that is no results.json, `SettingsError` if the evaluations
    have no result in common, or none on the same utterances.
    """
    _check(settings)
    before, after = map(read_eval_results, settings.results)
    before_results, after_results = _results_by_key(before), _results_by_key(after)
    # 1. Test each pair; with n comparisons, p-values below alpha / n have to be possible.
    shared_keys = [key for key in before_results if key in after_results]
    resamples = max(settings.resamples, ceil(4 * len(shared_keys) / settings.alpha))
    pairs = [_compare_pair(before_results[key], after_results[key], settings.seed, resamples) for key in shared_keys]
    # 2. Decide all outcomes together.
    changes = (*_decide_outcomes(pairs, settings), *_compare_speeds(before, after, settings))
    if not changes:
        raise SettingsError("the evaluations have no result in common: models and datasets are matched by name")
    # 3. List results that one evaluation lacks.
    only_before = [result for key, result in before_results.items() if key not in after_results]
    only_after = [result for key, result in after_results.items() if key not in before_results]
    failures = [
        f"{_describe(result)} was measured before and failed: {reason}"
        for result in only_before
        if (reason := _find_failure(result, after))
    ]
    counts = Counter(change.outcome for change in changes)
    report = CompareReport(
        changes,
        tuple(map(_describe, only_before)),
        tuple(map(_describe, only_after)),
        worse=counts["worse"],
        better=counts["better"],
        not_comparable=counts["not comparable"],
        failed=len(failures),
    )
    if report.not_comparable == len(changes):
        raise SettingsError("the evaluations used other utterances: evaluate both on the same datasets")
    console.table(f"{before.name}: before and after", COLUMNS, [_table_row(change) for change in changes])
    _show_notes(report, failures, console)
    return report


def _check(settings: CompareSettings) -> None:
    problems = []
    if not 0 < settings.alpha < 1:
        problems.append(f"alpha must be between 0 and 1, got {settings.alpha:g}")
    if settings.resamples < 100:
        problems.append(f"resamples must be at least 100, got {settings.resamples}")
    if settings.tolerance < 0 or (settings.max_slower is not None and settings.max_slower < 0):
        problems.append("tolerance and max_slower must be 0 or more")
    if problems:
        raise SettingsError("; ".join(problems))


def _show_notes(report: CompareReport, failures: Sequence[str], console: Console) -> None:
    for side, names in (("before", report.only_before), ("after", report.only_after)):
        if names:
            console.info(f"measured {side} only: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}")
    num_changes = len(report.changes)
    if report.not_comparable:
        console.warn(f"{report.not_comparable} of {num_changes} cannot be compared: they used other utterances")
    for failure in failures[:5]:
        console.warn(failure)
    num_same = num_changes - report.worse - report.better - report.not_comparable
    console.info(f"{report.better} better, {report.worse} worse, {num_same} without a significant difference")


def _results_by_key(results: EvalResults) -> dict[ResultKey, DatasetResult]:
    return {(r.measurement, r.model, r.dataset, r.decoding, r.chunk_length, r.condition): r for r in results.results}


def _find_failure(result: DatasetResult, results: EvalResults) -> str | None:
    """Reason why a result is missing: it, its model, its dataset or its measurement failed; None if not requested."""
    subjects = {f"model {result.model}", f"dataset {result.dataset}", result.measurement.replace("_", " ")}
    for failure in results.failures:
        if failure.subject in subjects or failure.subject.startswith(f"{result.model} on {result.dataset} "):
            return failure.reason
    return None


def _result_name(result: DatasetResult) -> str:
    decoding = "" if result.decoding == "short" else result.decoding
    length = f"{result.chunk_length:g} s" if result.chunk_length else ""
    return " ".join(filter(None, (result.dataset, decoding, result.condition, length)))


def _describe(result: DatasetResult) -> str:
    return f"{_result_name(result)} by {result.model}"


def _compare_pair(before: DatasetResult, after: DatasetResult, seed: int, resamples: int) -> MetricChange:
    from whisperstill.evaluate.intervals import paired_bootstrap

    name = _result_name(after)
    metric = f"WER on {name}" if after.words else f"hallucinated words per 100 clips of {name}"
    change = MetricChange(metric, after.model, _error_rate(before), _error_rate(after))
    if before.utterance_words != after.utterance_words or not before.utterance_words:
        return replace(change, outcome="not comparable")
    interval = paired_bootstrap(_edit_counts(after), _edit_counts(before), seed=seed, resamples=resamples)
    p_value = 1.0 if before.utterance_errors == after.utterance_errors else interval.p_value
    return replace(change, low=interval.low, high=interval.high, p=p_value)


def _error_rate(result: DatasetResult) -> float:
    if result.words:
        return result.wer
    return 100 * sum(result.utterance_errors) / len(result.utterance_errors) if result.utterance_errors else 0.0


def _edit_counts(result: DatasetResult) -> list[EditCounts]:
    """Errors and lengths of each utterance, the errors as insertions, which is all that a rate needs.

    A clip without speech counts as one reference word, so that the rate is hallucinated words per clip.
    """
    return [
        EditCounts(words if result.words else 1, 0, 0, errors)
        for words, errors in zip(result.utterance_words, result.utterance_errors, strict=True)
    ]


def _decide_outcomes(changes: Sequence[MetricChange], settings: CompareSettings) -> list[MetricChange]:
    """Outcomes by Holm's step-down: the smallest p-value against alpha / m, the next against alpha / (m - 1) ...

    After the first p-value above its threshold, all larger ones are not significant either.
    """
    undecided = [index for index, change in enumerate(changes) if change.outcome == "same"]
    decided = list(changes)
    for rank, index in enumerate(sorted(undecided, key=lambda index: changes[index].p)):
        change = changes[index]
        if change.p > settings.alpha / (len(undecided) - rank):
            break
        difference = change.after - change.before
        if difference < 0 or difference > settings.tolerance:
            decided[index] = replace(change, outcome="better" if difference < 0 else "worse")
    return decided


def _compare_speeds(before: EvalResults, after: EvalResults, settings: CompareSettings) -> Iterator[MetricChange]:
    """Latency and memory of models that both evaluations timed at the same batch size."""
    previous_speeds = {(speed.model, speed.batch_size): speed for speed in before.speeds}
    for speed in after.speeds:
        previous = previous_speeds.get((speed.model, speed.batch_size))
        if previous is None:
            continue
        for name, old, new in (
            (f"latency at batch {speed.batch_size}, ms", previous.latency_ms, speed.latency_ms),
            (f"memory at batch {speed.batch_size}, MiB", previous.peak_memory_mib, speed.peak_memory_mib),
        ):
            if old and new:
                is_slower = settings.max_slower is not None and new > old * (1 + settings.max_slower / 100)
                yield MetricChange(name, speed.model, old, new, outcome="worse" if is_slower else "same")


def _table_row(change: MetricChange) -> list[str]:
    difference = f"{change.after - change.before:+.2f}"
    if change.low or change.high:
        difference += f" ({change.low:+.2f} to {change.high:+.2f}, p {change.p:.3f})"
    return [change.metric, change.model, f"{change.before:.2f}", f"{change.after:.2f}", difference, change.outcome]
