"""compare: two findings side by side; what got better or worse, and whether that is more than chance."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.records.edit_counts import EditCounts
from whisperstill.records.eval_results import FORMAT_VERSION, DatasetResult, EvalResults
from whisperstill.records.serialization import from_dict
from whisperstill.stages.console import Console

EXIT_WORSE = 1
"""Exit status when something got worse, or failed that was measured before."""
COLUMNS = ("metric", "model", "before", "after", "difference", "outcome")


@dataclass(frozen=True)
class CompareSettings:
    """Two findings of `evaluate --suite`; exit status 1 when the second is worse, or failed to measure something."""

    results: tuple[Path, Path]
    """results.json before and after."""
    alpha: float = 0.05
    """Chance of calling anything worse or better that is not, over all comparisons together (Holm 1979)."""
    tolerance: float = 0.0
    """A rate that rises by no more is not called worse: per cent points of word errors, made-up words in 100 clips."""
    max_slower: float | None = None
    """Per cent by which latency and memory may rise before that counts as worse; default: times do not decide."""
    resamples: int = 10_000
    """Draws of the paired bootstrap; more are taken where so many comparisons could not be told from chance by them."""
    seed: int = 0
    """Of the bootstrap."""


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One figure before and after."""

    metric: str
    model: str
    before: float
    after: float
    low: float
    """95 % interval of the difference."""
    high: float
    p: float
    outcome: str
    """`better`, `worse`, `same` (not more than chance), `not comparable` (other utterances)."""


@dataclass(frozen=True, slots=True)
class CompareReport:
    """What changed."""

    changes: tuple[MetricChange, ...]
    only_before: tuple[str, ...]
    """What the first alone measured."""
    only_after: tuple[str, ...]
    worse: int
    better: int
    not_comparable: int
    """Cells of the same name, but of other utterances."""
    failed: int = 0
    """Cells that the first measured and that failed in the second."""

    @property
    def exit_code(self) -> int:
        """1 when something got worse, or failed."""
        return EXIT_WORSE if self.worse or self.failed else 0


def run(settings: CompareSettings, console: Console) -> CompareReport:
    """Pair the cells of both findings, model by model of the same name, and test each difference.

    Raises `NotFoundError` or `SettingsError` for what is no results.json, and when the two have nothing in common, or
    no cell of the same utterances.
    """
    problems = []
    if not 0 < settings.alpha < 1:
        problems.append(f"alpha must be between 0 and 1, got {settings.alpha:g}")
    if settings.resamples < 100:
        problems.append(f"resamples must be at least 100, got {settings.resamples}")
    if settings.tolerance < 0 or (settings.max_slower is not None and settings.max_slower < 0):
        problems.append("tolerance and max_slower must be 0 or more")
    if problems:
        raise SettingsError("; ".join(problems))
    before, after = map(read_eval_results, settings.results)
    before_results, after_results = _results_by_key(before), _results_by_key(after)
    shared_keys = [key for key in before_results if key in after_results]
    resamples = max(
        settings.resamples, ceil(4 * len(shared_keys) / settings.alpha)
    )  # p below alpha / n has to be possible
    changes = _decide_outcomes(
        [_compare_pair(before_results[key], after_results[key], settings.seed, resamples) for key in shared_keys],
        settings,
    )
    changes += _compare_speeds(before, after, settings)
    if not changes:
        raise SettingsError("the two findings have no result in common: models and datasets are matched by their names")
    failed_keys = [
        key for key in before_results if key not in after_results and _find_failure(before_results[key], after)
    ]
    report = CompareReport(
        tuple(changes),
        tuple(
            _result_name(before_results[key]) + f" by {before_results[key].model}"
            for key in before_results
            if key not in after_results
        ),
        tuple(
            _result_name(after_results[key]) + f" by {after_results[key].model}"
            for key in after_results
            if key not in before_results
        ),
        worse=sum(change.outcome == "worse" for change in changes),
        better=sum(change.outcome == "better" for change in changes),
        not_comparable=sum(change.outcome == "not comparable" for change in changes),
        failed=len(failed_keys),
    )
    if report.not_comparable == len(changes):
        raise SettingsError("the two findings were measured on other utterances: evaluate both on the same datasets")
    console.table(f"{before.name}: before and after", COLUMNS, [_table_row(change) for change in changes])
    for side, names in (("before", report.only_before), ("after", report.only_after)):
        if names:
            console.info(f"measured {side} alone: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}")
    if report.not_comparable:
        console.warn(f"{report.not_comparable} of {len(changes)} cannot be compared: they are of other utterances")
    for key in failed_keys[:5]:
        console.warn(
            f"{_result_name(before_results[key])} by {before_results[key].model} was measured before and failed: "
            f"{_find_failure(before_results[key], after)}"
        )
    num_same = len(changes) - report.worse - report.better - report.not_comparable
    console.info(f"{report.better} better, {report.worse} worse, {num_same} no different as far as can be told")
    return report


def read_eval_results(path: Path) -> EvalResults:
    """A results.json, or the one in a folder. Raises `NotFoundError` without it, `SettingsError` if it is none."""
    results_file = path / "results.json" if path.is_dir() else path
    if not results_file.is_file():
        raise NotFoundError(
            f"expected results.json, as `whisperstill evaluate --suite` writes it, found no {results_file}"
        )
    try:
        content = json.loads(results_file.read_text("utf-8"))
        if content["format"] < FORMAT_VERSION:
            raise SettingsError(
                f"{results_file} was written before 0.1.0 (format {content['format']}, expected {FORMAT_VERSION}): "
                "make it again; docs/glossary.md lists what was renamed"
            )
        if content["format"] > FORMAT_VERSION:
            raise SettingsError(f"{results_file} was written by a newer whisperstill (format {content['format']})")
        return from_dict(EvalResults, content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{results_file} is no results.json of `whisperstill evaluate --suite`: {error}") from error


def _results_by_key(results: EvalResults) -> dict[tuple[Any, ...], DatasetResult]:
    return {
        (
            result.measurement,
            result.model,
            result.dataset,
            result.decoding,
            result.chunk_length,
            result.condition,
        ): result
        for result in results.results
    }


def _find_failure(result: DatasetResult, results: EvalResults) -> str | None:
    """Why a cell is missing from findings: it failed, or its model, its set or the whole measurement; None where it was
    not asked for."""
    subjects = {f"model {result.model}", f"dataset {result.dataset}", result.measurement.replace("_", " ")}
    for failure in results.failures:
        if failure.subject in subjects or failure.subject.startswith(f"{result.model} on {result.dataset} "):
            return failure.reason
    return None


def _result_name(result: DatasetResult) -> str:
    parts = [result.dataset, "" if result.decoding == "short" else result.decoding, result.condition]
    length = f"{result.chunk_length:g} s" if result.chunk_length else ""
    return " ".join(filter(None, [*parts, length]))


def _compare_pair(before: DatasetResult, after: DatasetResult, seed: int, resamples: int) -> MetricChange:
    from whisperstill.evaluate.intervals import paired_bootstrap

    metric = f"WER on {_result_name(after)}" if after.words else f"words made up in 100 clips of {_result_name(after)}"
    before_rate, after_rate = _error_rate(before), _error_rate(after)
    if before.utterance_words != after.utterance_words or not before.utterance_words:
        return MetricChange(metric, after.model, before_rate, after_rate, 0.0, 0.0, 1.0, "not comparable")
    interval = paired_bootstrap(_edit_counts(after), _edit_counts(before), seed=seed, resamples=resamples)
    identical = before.utterance_errors == after.utterance_errors
    return MetricChange(
        metric,
        after.model,
        before_rate,
        after_rate,
        100 * interval.low,
        100 * interval.high,
        1.0 if identical else interval.p_value,
        "",
    )


def _error_rate(result: DatasetResult) -> float:
    if result.words:
        return result.wer
    return 100 * sum(result.utterance_errors) / len(result.utterance_errors) if result.utterance_errors else 0.0


def _edit_counts(result: DatasetResult) -> list[EditCounts]:
    """Errors and lengths are all that a rate needs: all errors are taken as insertions. Where nobody speaks a clip
    counts as one word, so that the rate is words made up per clip."""
    return [
        EditCounts(words if result.words else 1, 0, 0, errors)
        for words, errors in zip(result.utterance_words, result.utterance_errors, strict=True)
    ]


def _decide_outcomes(changes: Sequence[MetricChange], settings: CompareSettings) -> list[MetricChange]:
    """Verdicts by Holm's step-down: the smallest p against alpha / m, the next against alpha / (m - 1) ..."""
    from dataclasses import replace

    undecided = sorted(
        (index for index, change in enumerate(changes) if not change.outcome), key=lambda index: changes[index].p
    )
    decided = list(changes)
    is_significant = True
    for rank, index in enumerate(undecided):
        change = changes[index]
        is_significant = is_significant and change.p <= settings.alpha / (len(undecided) - rank)
        difference = change.after - change.before
        outcome = "same"
        if is_significant and difference < 0:
            outcome = "better"
        elif is_significant and difference > settings.tolerance:
            outcome = "worse"
        decided[index] = replace(change, outcome=outcome)
    return decided


def _compare_speeds(before: EvalResults, after: EvalResults, settings: CompareSettings) -> list[MetricChange]:
    previous_speeds = {(speed.model, speed.batch_size): speed for speed in before.speeds}
    changes = []
    for speed in after.speeds:
        previous = previous_speeds.get((speed.model, speed.batch_size))
        if previous is None:
            continue
        for name, before_value, after_value in (
            (f"latency at batch {speed.batch_size}, ms", previous.latency_ms, speed.latency_ms),
            (f"memory at batch {speed.batch_size}, MiB", previous.peak_memory_mib, speed.peak_memory_mib),
        ):
            if not before_value or not after_value:
                continue
            outcome = "same"
            if settings.max_slower is not None and after_value > before_value * (1 + settings.max_slower / 100):
                outcome = "worse"
            changes.append(MetricChange(name, speed.model, before_value, after_value, 0.0, 0.0, 1.0, outcome))
    return changes


def _table_row(change: MetricChange) -> list[str]:
    difference = f"{change.after - change.before:+.2f}"
    if change.low or change.high:
        difference += f" ({change.low:+.2f} to {change.high:+.2f}, p {change.p:.3f})"
    return [change.metric, change.model, f"{change.before:.2f}", f"{change.after:.2f}", difference, change.outcome]
