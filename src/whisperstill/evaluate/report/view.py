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
        self.models = sorted(eval_results.models, key=lambda model: role_order.get(model.role, 2))
        known_names = {model.name for model in self.models}
        for name in dict.fromkeys(self._model_names()):
            if name not in known_names:
                self.models.append(ModelInfo(name, name))
        self.compared_models = [model for model in self.models if model is not self.teacher]
        self.display_names = shorten_names([model.name for model in self.models])
        self.model_indices = {model.name: index for index, model in enumerate(self.models)}

    def _model_names(self) -> Iterable[str]:
        yield from (result.model for result in self.eval_results.results)
        yield from (speed_result.model for speed_result in self.eval_results.speeds)

    @property
    def main_model(self) -> ModelInfo | None:
        """Subject of the report: the first student, else the first model besides the teacher, else the teacher."""
        return next(iter(self.compared_models), self.teacher)

    @cached_property
    def datasets(self) -> list[DatasetInfo]:
        """In-distribution datasets first, short before long. One without a record is derived from its results."""
        datasets_by_name = {dataset.name: dataset for dataset in self.eval_results.datasets}
        for result in self.eval_results.results:
            if result.dataset not in datasets_by_name:
                is_long, is_non_speech = result.measurement == "long_form", result.measurement == "non_speech"
                datasets_by_name[result.dataset] = DatasetInfo(
                    name=result.dataset,
                    manifest="",
                    sha256="",
                    utterances=result.utterances,
                    hours=result.hours,
                    words=result.words,
                    language="",
                    normalizer="",
                    unit="word",
                    in_distribution=False,
                    long_form=is_long,
                    non_speech=is_non_speech,
                )
        return sorted(datasets_by_name.values(), key=lambda dataset: (not dataset.in_distribution, dataset.long_form))

    def build_series(self, points_by_model: Mapping[str, Iterable[Point]]) -> tuple[Series, ...]:
        """One series per model, in the model's style."""
        return tuple(
            Series(self.display_name(model_name), tuple(points), self.model_indices[model_name])
            for model_name, points in points_by_model.items()
        )

    def measured_models(self, results: Sequence[DatasetResult]) -> list[str]:
        """Names of the models that have results, in display order."""
        measured = {result.model for result in results}
        return [model.name for model in self.models if model.name in measured]

    def display_name(self, model_name: str) -> str:
        """Short name of a model."""
        return self.display_names.get(model_name, model_name)

    def engine(self, model_name: str) -> str:
        """Engine of a model."""
        return next((model.engine for model in self.models if model.name == model_name), "whisperstill")

    def dataset_display_name(self, dataset: DatasetInfo) -> str:
        """Name of a dataset, with the unit of its error rate if it is not words."""
        return dataset.name if dataset.unit in ("word", "") else f"{dataset.name} ({dataset.unit}s)"

    def error_units(self, dataset_names: Sequence[str]) -> str:
        """Unit of the error rates of these datasets: `words`, `characters`, or `words and characters`."""
        units = sorted(
            {dataset.unit or "word" for dataset in self.datasets if dataset.name in dataset_names}, reverse=True
        )
        return " and ".join(f"{unit}s" for unit in units) or "words"

    def select_results(self, measurement: str | Sequence[str], *, clean_only: bool = False) -> list[DatasetResult]:
        """Results of some measurements, ordered by dataset and model; `clean_only` leaves out corrupted audio."""
        wanted = (measurement,) if isinstance(measurement, str) else measurement
        dataset_indices = {dataset.name: index for index, dataset in enumerate(self.datasets)}
        results = [
            result
            for result in self.eval_results.results
            if result.measurement in wanted and not (clean_only and result.condition)
        ]
        return sorted(results, key=lambda result: (dataset_indices[result.dataset], self.model_indices[result.model]))

    @cached_property
    def short_form(self) -> dict[tuple[str, str], DatasetResult]:
        """(model, dataset) -> short-form result."""
        return {
            (result.model, result.dataset): result
            for result in reversed(self.select_results("short_form", clean_only=True))
        }

    @cached_property
    def short_form_datasets(self) -> list[DatasetInfo]:
        """Datasets with short-form results."""
        measured_names = {name for _, name in self.short_form}
        return [dataset for dataset in self.datasets if dataset.name in measured_names]

    @cached_property
    def long_form(self) -> dict[tuple[str, str, str], DatasetResult]:
        """(model, strategy, dataset) -> long-form result."""
        return {
            (result.model, result.decoding, result.dataset): result
            for result in reversed(self.select_results("long_form", clean_only=True))
        }

    @cached_property
    def long_form_datasets(self) -> list[DatasetInfo]:
        """Datasets with long-form results."""
        measured_names = {name for *_, name in self.long_form}
        return [dataset for dataset in self.datasets if dataset.name in measured_names]

    def short_form_results(self, model_name: str, *, in_distribution: bool | None = None) -> list[DatasetResult]:
        """Short-form results of a model: in distribution, out of distribution, or (None) all."""
        dataset_names = [
            dataset.name for dataset in self.short_form_datasets if in_distribution in (None, dataset.in_distribution)
        ]
        return [
            self.short_form[model_name, dataset_name]
            for dataset_name in dataset_names
            if (model_name, dataset_name) in self.short_form
        ]

    def results_by_strategy(self, model_name: str) -> dict[str, list[DatasetResult]]:
        """Strategy -> long-form results of a model, in the order of datasets."""
        strategies = {strategy for name, strategy, _ in self.long_form if name == model_name}
        return {
            strategy: [
                self.long_form[key]
                for dataset in self.long_form_datasets
                if (key := (model_name, strategy, dataset.name)) in self.long_form
            ]
            for strategy in sorted(strategies, key=_strategy_sort_key)
        }

    def best_strategy(
        self, model_name: str, datasets: Sequence[DatasetInfo] | None = None
    ) -> tuple[str, list[DatasetResult]] | None:
        """The strategy with the lowest mean WER, and its results, among those measured on most of the datasets.

        `datasets` defaults to all long-form datasets.
        """
        dataset_names = {dataset.name for dataset in (self.long_form_datasets if datasets is None else datasets)}
        candidates = {
            strategy: dataset_results
            for strategy, results in self.results_by_strategy(model_name).items()
            if (dataset_results := [result for result in results if result.dataset in dataset_names])
        }
        if not candidates:
            return None
        max_datasets = max(map(len, candidates.values()))
        full_candidates = [
            (strategy, results) for strategy, results in candidates.items() if len(results) == max_datasets
        ]
        return min(full_candidates, key=lambda item: sum(result.wer for result in item[1]))

    @cached_property
    def out_of_distribution_long_form_datasets(self) -> list[DatasetInfo]:
        """Out-of-distribution long-form datasets; all long-form datasets if there are none."""
        return [
            dataset for dataset in self.long_form_datasets if not dataset.in_distribution
        ] or self.long_form_datasets

    def speed_result(self, model_name: str, batch_size: int = 1) -> SpeedResult | None:
        """Speed of a model at a batch size."""
        matching = (s for s in self.eval_results.speeds if s.model == model_name and s.batch_size == batch_size)
        return next(matching, None)

    def relative_speed(self, model_name: str) -> float | None:
        """Teacher's latency over the model's at batch size 1; None if either is missing."""
        model_speed, teacher_speed = self.speed_result(model_name), self.teacher_speed_result(1)
        if not model_speed or not teacher_speed or not model_speed.latency_ms:
            return None
        return teacher_speed.latency_ms / model_speed.latency_ms

    def teacher_speed_result(self, batch_size: int) -> SpeedResult | None:
        """Speed of the teacher at a batch size."""
        return self.speed_result(self.teacher.name, batch_size) if self.teacher else None

    @cached_property
    def _teacher_results(self) -> dict[tuple[object, ...], DatasetResult]:
        teacher_name = self.teacher.name if self.teacher else None
        return {
            _result_key(result): result
            for result in reversed(self.eval_results.results)
            if result.model == teacher_name
        }

    def teacher_result(self, result: DatasetResult) -> DatasetResult | None:
        """The teacher's result on the same dataset, decoding and condition."""
        return self._teacher_results.get(_result_key(result))


def _strategy_sort_key(strategy: str) -> tuple[int, str]:
    position = STRATEGY_ORDER.index(strategy) if strategy in STRATEGY_ORDER else len(STRATEGY_ORDER)
    return position, strategy


def _result_key(result: DatasetResult) -> tuple[object, ...]:
    return result.measurement, result.dataset, result.decoding, result.condition, result.chunk_length


def mean_wer(results: Sequence[DatasetResult]) -> MeanEstimate | None:
    """Mean error rate over results, one per dataset; None without results."""
    return mean_with_interval((result.wer, result.wer_low, result.wer_high) for result in results)


def mean_paired_difference(results: Sequence[DatasetResult]) -> MeanEstimate | None:
    """Mean paired difference to the teacher over the results that have one."""
    differences = [result.difference_to_teacher for result in results if result.difference_to_teacher is not None]
    return mean_with_interval((difference.difference, difference.low, difference.high) for difference in differences)


def format_mean_wer(results: Sequence[DatasetResult], num_datasets: int) -> TableCell:
    """Mean error rate for a table, with a note if fewer than `num_datasets` datasets were measured."""
    mean_estimate = mean_wer(results)
    if mean_estimate is None:
        return NOT_MEASURED
    rate_cell = format_rate(mean_estimate.value, mean_estimate.low, mean_estimate.high)
    if mean_estimate.num_datasets == num_datasets:
        return rate_cell
    note = f"{rate_cell.aside} {mean_estimate.num_datasets} of {num_datasets} datasets"
    return TableCell(rate_cell.text, note.strip())


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
    for depth in range(1, max((len(path_parts) for path_parts in parts.values()), default=0) + 1):
        short = {name: "/".join(path_parts[-depth:]) for name, path_parts in parts.items()}
        if len(set(short.values())) == len(short):
            return short
    return {name: name for name in parts}
