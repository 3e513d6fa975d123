"""Mean error rates of a model and its teacher on the datasets that both were measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from whisperstill.evaluate.report.view import MeanEstimate, ResultsView, mean_paired_difference, mean_wer
from whisperstill.records.eval_results import DatasetResult, ModelInfo

Badge = Literal["", "better", "worse", "no clear difference", "smaller", "larger", "faster", "slower"]


@dataclass(frozen=True, slots=True)
class WerComparison:
    """Unweighted means over datasets, and how many datasets differ."""

    mean: MeanEstimate
    teacher_wer: float | None
    difference: MeanEstimate | None
    """Mean paired difference; None if the two were not decoded in the same way."""
    words: int
    unit: str
    """`words`, `characters`, or both."""
    num_worse: int
    """Datasets on which the model is worse than the teacher (interval above zero)."""
    num_better: int
    num_datasets: int

    @property
    def badge(self) -> Badge:
        """`better` or `worse` only if the interval of the difference excludes zero."""
        if self.teacher_wer is None:
            return ""
        interval, reference = (self.difference, 0.0) if self.difference else (self.mean, self.teacher_wer)
        if interval.low <= reference <= interval.high:
            return "no clear difference"
        return "worse" if self.mean.value > self.teacher_wer else "better"


def compare_wer(
    view: ResultsView, results: Sequence[DatasetResult], teacher_results: Sequence[DatasetResult]
) -> WerComparison | None:
    """Compare results with the teacher's on the same datasets; None without results."""
    teacher_by_dataset = {result.dataset: result for result in teacher_results}
    if teacher_by_dataset:
        results = [result for result in results if result.dataset in teacher_by_dataset]
    mean = mean_wer(results)
    if mean is None:
        return None
    teacher_mean = mean_wer([teacher_by_dataset[result.dataset] for result in results]) if teacher_by_dataset else None
    differences = [result.difference_to_teacher for result in results if result.difference_to_teacher]
    is_paired = len(differences) == len(results) and all(
        result.dataset in teacher_by_dataset and teacher_by_dataset[result.dataset].decoding == result.decoding
        for result in results
    )
    return WerComparison(
        mean=mean,
        teacher_wer=teacher_mean.value if teacher_mean else None,
        difference=mean_paired_difference(results) if is_paired else None,
        words=sum(result.words for result in results),
        unit=view.error_units([result.dataset for result in results]),
        num_worse=sum(difference.low > 0 for difference in differences),
        num_better=sum(difference.high < 0 for difference in differences),
        num_datasets=len(results),
    )


def compare_short_form(view: ResultsView, model: ModelInfo, in_distribution: bool | None) -> WerComparison | None:
    """Compare a model with the teacher on short-form datasets: in distribution, out of distribution, or (None) all."""
    teacher = view.teacher_of(model)
    teacher_results = view.short_form_results(teacher.name, in_distribution=in_distribution) if teacher else []
    return compare_wer(view, view.short_form_results(model.name, in_distribution=in_distribution), teacher_results)


def describe_size_change(ratio: float) -> str:
    """Parameters of a model over the teacher's, in words: `23 % fewer`, `as many`."""
    if abs(ratio - 1) < 0.005:
        return "as many"
    return f"{100 * abs(1 - ratio):.0f} % {'fewer' if ratio < 1 else 'more'}"
