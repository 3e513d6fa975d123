"""Means over datasets, and error rates of a model against its teacher's on the datasets that both were measured on."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.blocks import NOT_MEASURED, Cell
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import DatasetResult, ModelInfo

Badge = Literal["", "better", "worse", "no clear difference", "smaller", "larger", "faster", "slower"]


@dataclass(frozen=True, slots=True)
class MeanEstimate:
    """Unweighted mean over datasets with its 95 % interval. Datasets are taken as independent: the squared half-widths
    of their intervals add."""

    value: float
    low: float
    high: float
    num_datasets: int


def mean_with_interval(estimates: Iterable[tuple[float, float, float]]) -> MeanEstimate | None:
    """Mean of (value, low, high) of independent datasets; None without finite values."""
    estimates = [estimate for estimate in estimates if all(map(math.isfinite, estimate))]
    if not estimates:
        return None
    value = sum(middle for middle, _, _ in estimates) / len(estimates)
    below = math.hypot(*(middle - low for middle, low, _ in estimates)) / len(estimates)
    above = math.hypot(*(high - middle for middle, _, high in estimates)) / len(estimates)
    return MeanEstimate(value, value - below, value + above, len(estimates))


def mean_wer(results: Sequence[DatasetResult]) -> MeanEstimate | None:
    """Mean error rate over results, one per dataset; None without results."""
    return mean_with_interval((result.wer, result.wer_low, result.wer_high) for result in results)


def mean_paired_difference(results: Sequence[DatasetResult]) -> MeanEstimate | None:
    """Mean paired difference to the teacher over the results that have one."""
    paired = [result.difference_to_teacher for result in results if result.difference_to_teacher]
    return mean_with_interval((difference.difference, difference.low, difference.high) for difference in paired)


def format_mean_wer(results: Sequence[DatasetResult], num_datasets: int) -> Cell:
    """Mean error rate for a table, with a note if fewer than `num_datasets` datasets were measured."""
    mean = mean_wer(results)
    if mean is None:
        return NOT_MEASURED
    cell = fmt.rate(mean.value, mean.low, mean.high)
    note = "" if mean.num_datasets == num_datasets else f" {mean.num_datasets} of {num_datasets} datasets"
    return Cell(cell.text, f"{cell.aside}{note}")


@dataclass(frozen=True, slots=True)
class WerComparison:
    """Unweighted means over datasets, and how many datasets differ."""

    results: Sequence[DatasetResult]
    mean: MeanEstimate
    teacher_wer: float | None
    difference: MeanEstimate | None
    """Mean paired difference; None if the two were not decoded in the same way."""

    @property
    def badge(self) -> Badge:
        """`better` or `worse` only if the interval of the difference excludes zero."""
        if self.teacher_wer is None:
            return ""
        interval, reference = (self.difference, 0.0) if self.difference else (self.mean, self.teacher_wer)
        if interval.low <= reference <= interval.high:
            return "no clear difference"
        return "worse" if self.mean.value > self.teacher_wer else "better"

    @property
    def by_dataset(self) -> str:
        """`worse on 2, better on 1 and not clearly different on 1 of 4 datasets`; empty without paired results."""
        paired = [result.difference_to_teacher for result in self.results if result.difference_to_teacher]
        worse, better = sum(pair.low > 0 for pair in paired), sum(pair.high < 0 for pair in paired)
        counts = {"worse": worse, "better": better, "not clearly different": len(paired) - worse - better}
        outcomes = fmt.join([f"{outcome} on {count}" for outcome, count in counts.items() if count])
        return outcomes and f"{outcomes} of {fmt.pluralize(len(paired), 'dataset')}"


def compare_wer(results: Sequence[DatasetResult], teacher_results: Sequence[DatasetResult]) -> WerComparison | None:
    """Compare results with the teacher's on the same datasets; None without results."""
    by_dataset = {result.dataset: result for result in teacher_results}
    if by_dataset:
        results = [result for result in results if result.dataset in by_dataset]
    mean = mean_wer(results)
    if mean is None:
        return None
    teacher_mean = mean_wer([by_dataset[result.dataset] for result in results]) if by_dataset else None
    is_paired = all(
        result.difference_to_teacher
        and result.dataset in by_dataset
        and by_dataset[result.dataset].decoding == result.decoding
        for result in results
    )
    difference = mean_paired_difference(results) if is_paired else None
    return WerComparison(results, mean, teacher_mean.value if teacher_mean else None, difference)


def compare_short_form(view: ResultsView, model: ModelInfo, in_distribution: bool | None) -> WerComparison | None:
    """Compare a model with the teacher on short-form datasets: in distribution, out of distribution, or (None) all."""
    teacher = view.teacher_of(model)
    teacher_results = view.short_form_results(teacher.name, in_distribution) if teacher else []
    return compare_wer(view.short_form_results(model.name, in_distribution), teacher_results)
