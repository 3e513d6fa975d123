"""Evaluation results in display order, and means over datasets.

The teacher comes first, then students, then other models; a model has the same position and colour in all tables and
charts. In-distribution datasets come first.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from whisperstill.evaluate.report.blocks import NOT_MEASURED, Point, Series, TableCell
from whisperstill.evaluate.report.formatting import format_rate
from whisperstill.records.eval_results import DatasetInfo, DatasetResult, EvalResults, ModelInfo, SpeedResult

STRATEGY_ORDER = ("chunked", "sequential", "vad", "silence")
"""Display order of long-form strategies."""


@dataclass(frozen=True, slots=True)
class MeanEstimate:
    """Unweighted mean over datasets with its 95 % interval. Datasets are taken as independent: the squared half-widths
    of their intervals add."""

    value: float
    low: float
    high: float
    num_datasets: int


class ResultsView:
    """Evaluation results, in display order."""

    def __init__(self, eval_results: EvalResults) -> None:
        self.eval_results = eval_results
        self.teacher = eval_results.teacher
        role_order = {"teacher": 0, "student": 1}
        models = {model.name: model for model in sorted(eval_results.models, key=lambda m: role_order.get(m.role, 2))}
        for name in [
            *(result.model for result in eval_results.results),
            *(speed.model for speed in eval_results.speeds),
        ]:
            models.setdefault(name, ModelInfo(name, name))
        self.models = list(models.values())
        self.compared_models = [model for model in self.models if model is not self.teacher]
        self.main_model = next(iter(self.compared_models), self.teacher)
        """Subject of the report: the first student, else the first model besides the teacher, else the teacher."""
        self.display_names = shorten_names(list(models))
        self.model_indices = {name: index for index, name in enumerate(models)}

    @cached_property
    def datasets(self) -> list[DatasetInfo]:
        """In-distribution datasets first, short before long. One without a record is derived from its results."""
        datasets_by_name = {dataset.name: dataset for dataset in self.eval_results.datasets}
        for result in self.eval_results.results:
            if result.dataset not in datasets_by_name:
                datasets_by_name[result.dataset] = DatasetInfo(
                    *(result.dataset, "", "", result.utterances, result.hours, result.words),
                    language="",
                    normalizer="",
                    unit="word",
                    in_distribution=False,
                    long_form=result.measurement == "long_form",
                    non_speech=result.measurement == "non_speech",
                )
        return sorted(datasets_by_name.values(), key=lambda dataset: (not dataset.in_distribution, dataset.long_form))

    def build_series(self, points_by_model: Mapping[str, Sequence[Point]]) -> list[Series]:
        """One series per model, in the model's style."""
        return [
            Series(self.display_name(name), points, self.model_indices[name])
            for name, points in points_by_model.items()
        ]

    def build_wer_series(
        self, model_names: Iterable[str], x_values: Sequence[float], results: Mapping[tuple[str, float], DatasetResult]
    ) -> list[Series]:
        """Error rates by x value, one series per model; `results` maps (model, x value) to results."""
        points_by_model = {
            name: [wer_point(x, results[name, x]) for x in x_values if (name, x) in results] for name in model_names
        }
        return self.build_series(points_by_model)

    def measured_models(self, results: Sequence[DatasetResult]) -> list[str]:
        """Names of the models that have results, in display order."""
        measured = {result.model for result in results}
        return [model.name for model in self.models if model.name in measured]

    def measured_datasets(self, results: Iterable[DatasetResult]) -> list[DatasetInfo]:
        """Datasets that have results, in display order."""
        measured = {result.dataset for result in results}
        return [dataset for dataset in self.datasets if dataset.name in measured]

    def display_name(self, model_name: str) -> str:
        """Short name of a model."""
        return self.display_names.get(model_name, model_name)

    def dataset_display_name(self, dataset: DatasetInfo) -> str:
        """Name of a dataset, with the unit of its error rate if it is not words."""
        return dataset.name if dataset.unit in ("word", "") else f"{dataset.name} ({dataset.unit}s)"

    def error_units(self, dataset_names: Sequence[str]) -> str:
        """Unit of the error rates of these datasets: `words`, `characters`, or `words and characters`."""
        units = {dataset.unit or "word" for dataset in self.datasets if dataset.name in dataset_names}
        return " and ".join(f"{unit}s" for unit in sorted(units, reverse=True)) or "words"

    def select_results(self, measurement: str, *, clean_only: bool = False) -> list[DatasetResult]:
        """Results of a measurement, ordered by dataset and model; `clean_only` leaves out corrupted audio."""
        dataset_indices = {dataset.name: index for index, dataset in enumerate(self.datasets)}
        results = [
            result
            for result in self.eval_results.results
            if result.measurement == measurement and not (clean_only and result.condition)
        ]
        return sorted(results, key=lambda result: (dataset_indices[result.dataset], self.model_indices[result.model]))

    @cached_property
    def short_form(self) -> dict[tuple[str, str], DatasetResult]:
        """(model, dataset) -> short-form result."""
        results = reversed(self.select_results("short_form", clean_only=True))
        return {(result.model, result.dataset): result for result in results}

    @cached_property
    def short_form_datasets(self) -> list[DatasetInfo]:
        """Datasets with short-form results."""
        return self.measured_datasets(self.short_form.values())

    @cached_property
    def long_form(self) -> dict[tuple[str, str, str], DatasetResult]:
        """(model, strategy, dataset) -> long-form result."""
        results = reversed(self.select_results("long_form", clean_only=True))
        return {(result.model, result.decoding, result.dataset): result for result in results}

    @cached_property
    def long_form_datasets(self) -> list[DatasetInfo]:
        """Datasets with long-form results."""
        return self.measured_datasets(self.long_form.values())

    def short_form_results(self, model_name: str, *, in_distribution: bool | None = None) -> list[DatasetResult]:
        """Short-form results of a model: in distribution, out of distribution, or (None) all."""
        return [
            self.short_form[model_name, dataset.name]
            for dataset in self.short_form_datasets
            if in_distribution in (None, dataset.in_distribution) and (model_name, dataset.name) in self.short_form
        ]

    def results_by_strategy(self, model_name: str) -> dict[str, list[DatasetResult]]:
        """Strategy -> long-form results of a model, in the order of datasets."""
        measured = {strategy for name, strategy, _ in self.long_form if name == model_name}
        return {
            strategy: [
                self.long_form[model_name, strategy, dataset.name]
                for dataset in self.long_form_datasets
                if (model_name, strategy, dataset.name) in self.long_form
            ]
            for strategy in (*STRATEGY_ORDER, *sorted(measured.difference(STRATEGY_ORDER)))
            if strategy in measured
        }

    def best_strategy(
        self, model_name: str, datasets: Sequence[DatasetInfo] | None = None
    ) -> tuple[str, list[DatasetResult]] | None:
        """The strategy with the lowest mean WER, and its results, among those measured on most of the datasets.

        `datasets` defaults to all long-form datasets.
        """
        names = {dataset.name for dataset in (self.long_form_datasets if datasets is None else datasets)}
        candidates = [
            (strategy, selected)
            for strategy, results in self.results_by_strategy(model_name).items()
            if (selected := [result for result in results if result.dataset in names])
        ]
        return min(candidates, key=lambda c: (-len(c[1]), sum(result.wer for result in c[1])), default=None)

    @cached_property
    def has_distributions(self) -> bool:
        """Whether a dataset is marked as in distribution; otherwise the others are not known to be out of it."""
        return any(dataset.in_distribution for dataset in self.datasets)

    @cached_property
    def out_of_distribution_long_form_datasets(self) -> list[DatasetInfo]:
        """Out-of-distribution long-form datasets; all long-form datasets if there are none."""
        datasets = self.long_form_datasets
        return [dataset for dataset in datasets if not dataset.in_distribution] or datasets

    def teacher_of(self, model: ModelInfo) -> ModelInfo | None:
        """The teacher, unless the model is the teacher."""
        return self.teacher if self.teacher is not model else None

    @cached_property
    def main_pair(self) -> tuple[ModelInfo, ModelInfo] | None:
        """The main model and the teacher that it is compared with."""
        teacher = self.main_model and self.teacher_of(self.main_model)
        return (self.main_model, teacher) if self.main_model and teacher else None

    def speed_result(self, model_name: str, batch_size: int = 1) -> SpeedResult | None:
        """Speed of a model at a batch size."""
        matching = (s for s in self.eval_results.speeds if s.model == model_name and s.batch_size == batch_size)
        return next(matching, None)

    def relative_speed(self, model_name: str, batch_size: int = 1) -> float | None:
        """Teacher's latency over the model's at a batch size; None if either is missing."""
        speed = self.speed_result(model_name, batch_size)
        teacher_speed = self.speed_result(self.teacher.name, batch_size) if self.teacher else None
        return teacher_speed.latency_ms / speed.latency_ms if speed and teacher_speed and speed.latency_ms else None


def wer_point(x: float, result: DatasetResult) -> Point:
    """The error rate of a result at an x value."""
    return Point(x, result.wer, result.wer_low, result.wer_high)


def mean_wer(results: Sequence[DatasetResult]) -> MeanEstimate | None:
    """Mean error rate over results, one per dataset; None without results."""
    return mean_with_interval((result.wer, result.wer_low, result.wer_high) for result in results)


def mean_paired_difference(results: Sequence[DatasetResult]) -> MeanEstimate | None:
    """Mean paired difference to the teacher over the results that have one."""
    differences = [result.difference_to_teacher for result in results if result.difference_to_teacher is not None]
    return mean_with_interval((difference.difference, difference.low, difference.high) for difference in differences)


def format_mean_wer(results: Sequence[DatasetResult], num_datasets: int) -> TableCell:
    """Mean error rate for a table, with a note if fewer than `num_datasets` datasets were measured."""
    mean = mean_wer(results)
    if mean is None:
        return NOT_MEASURED
    cell = format_rate(mean.value, mean.low, mean.high)
    if mean.num_datasets == num_datasets:
        return cell
    return TableCell(cell.text, f"{cell.aside} {mean.num_datasets} of {num_datasets} datasets".strip())


def mean_with_interval(estimates: Iterable[tuple[float, float, float]]) -> MeanEstimate | None:
    """Mean of (value, low, high) of independent datasets; None without finite values."""
    estimates = [estimate for estimate in estimates if all(map(math.isfinite, estimate))]
    if not estimates:
        return None
    value = sum(middle for middle, _, _ in estimates) / len(estimates)
    below = math.sqrt(sum((middle - low) ** 2 for middle, low, _ in estimates)) / len(estimates)
    above = math.sqrt(sum((high - middle) ** 2 for middle, _, high in estimates)) / len(estimates)
    return MeanEstimate(value, value - below, value + above, len(estimates))


def shorten_names(names: Sequence[str]) -> dict[str, str]:
    """Paths by as few of their last parts as keep them apart; other names unchanged."""
    parts = {name: [part for part in name.replace("\\", "/").split("/") if part] or [name] for name in names}
    for depth in range(1, max(map(len, parts.values()), default=0) + 1):
        short = {name: "/".join(path_parts[-depth:]) for name, path_parts in parts.items()}
        if len(set(short.values())) == len(short):
            return short
    return {name: name for name in parts}
