"""The results as a report asks for them: who is held against whom, on which datasets, and means over datasets.

Models stand with the teacher first, then students, then others, and keep that place (and colour) in every table and
chart. Datasets stand with those of the training's own distribution first.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from whisperstill.audio.conditions import CONDITION_KINDS, Condition
from whisperstill.evaluate.report.blocks import NOT_MEASURED, TableCell
from whisperstill.evaluate.report.numbers import format_rate
from whisperstill.evaluate.tables import shorten_names
from whisperstill.records.eval_results import DatasetInfo, DatasetResult, EvalResults, ModelInfo, SpeedResult

CLEAN_CONDITION = "clean"
"""The condition of sound as it was recorded, where that is measured beside others."""

_NOISE_KINDS = ("white", "pink", "babble")


@dataclass(frozen=True, slots=True)
class MeanEstimate:
    """A mean over datasets, each counting the same, with its 95 % interval; datasets are independent samples, so the
    squares of their intervals' halves add."""

    value: float
    low: float
    high: float
    num_datasets: int


class ResultsView:
    """Results, in order."""

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
        """Whom the report is about: the first student, else the first that is not the teacher, else the teacher."""
        return next(iter(self.compared_models), self.teacher)

    @cached_property
    def datasets(self) -> list[DatasetInfo]:
        """In distribution first, then short before long; a dataset that is only named in results is known by them."""
        datasets_by_name = {dataset.name: dataset for dataset in self.eval_results.datasets}
        for result in self.eval_results.results:
            if result.dataset not in datasets_by_name:
                is_long, is_non_speech = result.measurement == "long_form", result.measurement == "non_speech"
                datasets_by_name[result.dataset] = DatasetInfo(
                    *(
                        result.dataset,
                        "",
                        "",
                        result.utterances,
                        result.hours,
                        result.words,
                        "",
                        "",
                        "word",
                        False,
                        is_long,
                        is_non_speech,
                    )
                )
        return sorted(datasets_by_name.values(), key=lambda dataset: (not dataset.in_distribution, dataset.long_form))

    def display_name(self, model_name: str) -> str:
        """A model's short name."""
        return self.display_names.get(model_name, model_name)

    def engine(self, model_name: str) -> str:
        """What a model was run in."""
        return next((model.engine for model in self.models if model.name == model_name), "whisperstill")

    def dataset_display_name(self, dataset: DatasetInfo) -> str:
        """A dataset's name; what is counted, where that is not words."""
        return dataset.name if dataset.unit in ("word", "") else f"{dataset.name} ({dataset.unit}s)"

    def error_units(self, dataset_names: Sequence[str]) -> str:
        """What error rates of these datasets are of: words, characters, or both."""
        units = sorted(
            {dataset.unit or "word" for dataset in self.datasets if dataset.name in dataset_names}, reverse=True
        )
        return " and ".join(f"{unit}s" for unit in units) or "words"

    def select_results(self, measurement: str | Sequence[str], *, clean_only: bool = False) -> list[DatasetResult]:
        """Results of a part of the suite, ordered by dataset and model; `clean_only` leaves out corrupted audio."""
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
        """(model, dataset) -> its result in the short form."""
        return {
            (result.model, result.dataset): result
            for result in reversed(self.select_results("short_form", clean_only=True))
        }

    @cached_property
    def short_form_datasets(self) -> list[DatasetInfo]:
        """Datasets of the short form, those in distribution first."""
        measured_names = {name for _, name in self.short_form}
        return [dataset for dataset in self.datasets if dataset.name in measured_names]

    @cached_property
    def long_form(self) -> dict[tuple[str, str, str], DatasetResult]:
        """(model, strategy, dataset) -> its result in the long form."""
        return {
            (result.model, result.decoding, result.dataset): result
            for result in reversed(self.select_results("long_form", clean_only=True))
        }

    @cached_property
    def long_form_datasets(self) -> list[DatasetInfo]:
        """Datasets of the long form."""
        measured_names = {name for *_, name in self.long_form}
        return [dataset for dataset in self.datasets if dataset.name in measured_names]

    def short_form_results(self, model_name: str, *, in_distribution: bool | None = None) -> list[DatasetResult]:
        """A model's results in the short form, of one kind of datasets or (None) of all."""
        dataset_names = [
            dataset.name for dataset in self.short_form_datasets if in_distribution in (None, dataset.in_distribution)
        ]
        return [
            self.short_form[model_name, dataset_name]
            for dataset_name in dataset_names
            if (model_name, dataset_name) in self.short_form
        ]

    def results_by_strategy(self, model_name: str) -> dict[str, list[DatasetResult]]:
        """Strategy -> a model's results in the long form, in the order of datasets."""
        strategies = {strategy for name, strategy, _ in self.long_form if name == model_name}
        return {
            strategy: [
                self.long_form[key]
                for dataset in self.long_form_datasets
                if (key := (model_name, strategy, dataset.name)) in self.long_form
            ]
            for strategy in sorted(strategies, key=lambda name: (self._strategy_order(name), name))
        }

    def best_strategy(
        self, model_name: str, datasets: Sequence[DatasetInfo] | None = None
    ) -> tuple[str, list[DatasetResult]] | None:
        """The strategy with the lowest mean error rate on these datasets (all), of those measured on most of them."""
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
        """Datasets of the long form out of distribution; all of them, where there are none."""
        return [
            dataset for dataset in self.long_form_datasets if not dataset.in_distribution
        ] or self.long_form_datasets

    @staticmethod
    def _strategy_order(strategy: str) -> int:
        order = ("chunked", "sequential", "vad", "silence")
        return order.index(strategy) if strategy in order else len(order)

    def speed_result(self, model_name: str, batch_size: int = 1) -> SpeedResult | None:
        """A model's speed at a batch size."""
        speed_results = self.eval_results.speeds
        return next(
            (
                speed_result
                for speed_result in speed_results
                if speed_result.model == model_name and speed_result.batch_size == batch_size
            ),
            None,
        )

    def relative_speed(self, model_name: str) -> float | None:
        """How many times as fast as the teacher a model answers at batch 1; None where one of them is not known."""
        model_speed, teacher_speed = (
            self.speed_result(model_name),
            self.teacher and self.speed_result(self.teacher.name),
        )
        return (
            teacher_speed.latency_ms / model_speed.latency_ms
            if model_speed and teacher_speed and model_speed.latency_ms
            else None
        )

    @cached_property
    def _teacher_results(self) -> dict[tuple[object, ...], DatasetResult]:
        teacher_name = self.teacher.name if self.teacher else None
        return {
            _result_key(result): result
            for result in reversed(self.eval_results.results)
            if result.model == teacher_name
        }

    def teacher_result(self, result: DatasetResult) -> DatasetResult | None:
        """The teacher's result under the same conditions."""
        return self._teacher_results.get(_result_key(result))


def _result_key(result: DatasetResult) -> tuple[object, ...]:
    return result.measurement, result.dataset, result.decoding, result.condition, result.chunk_length


def mean_wer(results: Sequence[DatasetResult]) -> MeanEstimate | None:
    """Mean error rate over results, one a dataset; None of none."""
    return mean_with_interval((result.wer, result.wer_low, result.wer_high) for result in results)


def mean_paired_difference(results: Sequence[DatasetResult]) -> MeanEstimate | None:
    """Mean difference to the teacher over the results that have one."""
    differences = [result.difference_to_teacher for result in results if result.difference_to_teacher is not None]
    return mean_with_interval((difference.difference, difference.low, difference.high) for difference in differences)


def format_mean_wer(results: Sequence[DatasetResult], num_datasets: int) -> TableCell:
    """The mean error rate as it stands in a table; says so where it is of fewer than `num_datasets` datasets."""
    mean_estimate = mean_wer(results)
    if mean_estimate is None:
        return NOT_MEASURED
    rate_cell = format_rate(mean_estimate.value, mean_estimate.low, mean_estimate.high)
    return (
        rate_cell
        if mean_estimate.num_datasets == num_datasets
        else TableCell(
            rate_cell.text, f"{rate_cell.aside} {mean_estimate.num_datasets} of {num_datasets} datasets".strip()
        )
    )


def mean_with_interval(estimates: Iterable[tuple[float, float, float]]) -> MeanEstimate | None:
    """Mean of (value, low, high) of independent datasets; None where there is none that is a number."""
    estimates = [estimate for estimate in estimates if all(map(math.isfinite, estimate))]
    if not estimates:
        return None
    value = sum(middle for middle, _, _ in estimates) / len(estimates)
    below = math.sqrt(sum((middle - low) ** 2 for middle, low, _ in estimates)) / len(estimates)
    above = math.sqrt(sum((high - middle) ** 2 for middle, _, high in estimates)) / len(estimates)
    return MeanEstimate(value, value - below, value + above, len(estimates))


def parse_noise_condition(result: DatasetResult) -> tuple[str, float] | None:
    """(kind of noise, its signal-to-noise ratio in dB) of a condition such as `white@10`; None of any other."""
    kind, separator, level = result.condition.rpartition("@")
    if not separator or (kind in CONDITION_KINDS and kind not in _NOISE_KINDS):
        return None
    try:
        return kind, float(level)
    except ValueError:
        return None


def describe_condition(condition: str) -> str:
    """A condition in words: `opus@6` is `Opus at 6 kbit/s`."""
    kind, separator, level = condition.rpartition("@")
    kind = kind if separator else condition
    if kind == CLEAN_CONDITION:
        return "as recorded"
    try:
        return (
            Condition(condition, kind, float(level) if separator else None).describe()
            if kind in CONDITION_KINDS
            else condition
        )
    except (ValueError, TypeError):
        return condition
