"""Evaluation results in display order.

The teacher comes first, then students, then other models; a model has the same position and colour in all tables and
charts. In-distribution datasets come first.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial

from whisperstill.evaluate.report.blocks import Cell, Columns, Point, Series, T
from whisperstill.records.eval_results import DatasetInfo, DatasetResult, EvalResults, ModelInfo, SpeedResult

STRATEGY_ORDER = ("chunked", "sequential", "vad", "silence")
"""Display order of long-form strategies."""


class ResultsView:
    """Evaluation results, in display order."""

    def __init__(self, eval_results: EvalResults) -> None:
        self.eval_results = eval_results
        self.teacher = eval_results.teacher
        role_order = {"teacher": 0, "student": 1}
        models = {model.name: model for model in sorted(eval_results.models, key=lambda m: role_order.get(m.role, 2))}
        for name in (*(r.model for r in eval_results.results), *(s.model for s in eval_results.speeds)):
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
                    *(result.dataset, "", "", result.utterances, result.hours, result.words, "", "", "word"),
                    in_distribution=False,
                    long_form=result.measurement == "long_form",
                    non_speech=result.measurement == "non_speech",
                )
        return sorted(datasets_by_name.values(), key=lambda dataset: (not dataset.in_distribution, dataset.long_form))

    def display_name(self, model_name: str) -> str:
        """Short name of a model."""
        return self.display_names.get(model_name, model_name)

    def dataset_title(self, dataset_name: str) -> str:
        """Name of a dataset, with the unit of its error rate if it is not words."""
        unit = next((dataset.unit for dataset in self.datasets if dataset.name == dataset_name), "")
        return dataset_name if unit in ("word", "") else f"{dataset_name} ({unit}s)"

    def error_units(self, dataset_names: Iterable[str]) -> str:
        """Unit of the error rates of these datasets: `words`, `characters`, or `words and characters`."""
        names = set(dataset_names)
        units = {dataset.unit or "word" for dataset in self.datasets if dataset.name in names}
        return " and ".join(f"{unit}s" for unit in sorted(units, reverse=True)) or "words"

    def model_columns(self, names: Iterable[str], cell: Callable[[str, T], Cell | str]) -> Columns[T]:
        """A column per model; `cell` maps the model's name and a row's item to the cell."""
        return [(self.display_name(name), partial(cell, name)) for name in names]

    def model_series(self, points_by_model: Mapping[str, Sequence[Point]]) -> list[Series]:
        """One series per model, in the model's style."""
        items = points_by_model.items()
        return [Series(self.display_name(name), points, self.model_indices.get(name, 0)) for name, points in items]

    def wer_series(self, results: Iterable[DatasetResult], x: Callable[[DatasetResult], float]) -> list[Series]:
        """Error rates by x value, one series per model, in the order of the results."""
        points_by_model: dict[str, list[Point]] = {model.name: [] for model in self.models}
        for result in results:
            points_by_model[result.model].append(Point(x(result), result.wer, result.wer_low, result.wer_high))
        return self.model_series({name: points for name, points in points_by_model.items() if points})

    def measured_models(self, results: Iterable[DatasetResult]) -> list[str]:
        """Names of the models that have results, in display order."""
        return sorted({result.model for result in results}, key=self.model_indices.__getitem__)

    def measured_datasets(self, results: Iterable[DatasetResult]) -> list[DatasetInfo]:
        """Datasets that have results, in display order."""
        measured = {result.dataset for result in results}
        return [dataset for dataset in self.datasets if dataset.name in measured]

    def select_results(self, measurement: str) -> list[DatasetResult]:
        """Results of a measurement, ordered by dataset and model; of speech, without corrupted audio."""
        dataset_indices = {dataset.name: index for index, dataset in enumerate(self.datasets)}
        results = [
            result
            for result in self.eval_results.results
            if result.measurement == measurement and (measurement == "non_speech" or not result.condition)
        ]
        return sorted(results, key=lambda result: (dataset_indices[result.dataset], self.model_indices[result.model]))

    @cached_property
    def short_form(self) -> dict[tuple[str, str], DatasetResult]:
        """(model, dataset) -> short-form result."""
        results: dict[tuple[str, str], DatasetResult] = {}
        for result in self.select_results("short_form"):
            results.setdefault((result.model, result.dataset), result)
        return results

    @cached_property
    def long_form(self) -> list[DatasetResult]:
        """Long-form results."""
        return self.select_results("long_form")

    @cached_property
    def short_form_datasets(self) -> list[DatasetInfo]:
        """Datasets with short-form results."""
        return self.measured_datasets(self.short_form.values())

    @cached_property
    def long_form_datasets(self) -> list[DatasetInfo]:
        """Datasets with long-form results."""
        return self.measured_datasets(self.long_form)

    def short_form_results(self, model_name: str, in_distribution: bool | None = None) -> list[DatasetResult]:
        """Short-form results of a model: in distribution, out of distribution, or (None) all."""
        datasets = [d.name for d in self.short_form_datasets if in_distribution in (None, d.in_distribution)]
        return [self.short_form[model_name, name] for name in datasets if (model_name, name) in self.short_form]

    def results_by_strategy(self, model_name: str) -> dict[str, list[DatasetResult]]:
        """Strategy -> long-form results of a model, in the order of datasets."""
        results = [result for result in self.long_form if result.model == model_name]
        strategies = dict.fromkeys((*STRATEGY_ORDER, *sorted(result.decoding for result in results)))
        by_strategy = {strategy: [r for r in results if r.decoding == strategy] for strategy in strategies}
        return {strategy: selected for strategy, selected in by_strategy.items() if selected}

    def best_strategy(
        self, model_name: str, datasets: Sequence[DatasetInfo] | None = None
    ) -> tuple[str, list[DatasetResult]]:
        """The strategy with the lowest mean WER among those measured on most of the datasets, and its results there.

        `datasets` defaults to all long-form datasets. Without results: no name, no results.
        """
        names = {dataset.name for dataset in (self.long_form_datasets if datasets is None else datasets)}
        candidates = [
            (strategy, selected)
            for strategy, results in self.results_by_strategy(model_name).items()
            if (selected := [result for result in results if result.dataset in names])
        ]
        return min(candidates, key=lambda c: (-len(c[1]), sum(result.wer for result in c[1])), default=("", []))

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

    def speed_result(self, model_name: str, batch_size: int = 1) -> SpeedResult | None:
        """Speed of a model at a batch size."""
        matching = (s for s in self.eval_results.speeds if s.model == model_name and s.batch_size == batch_size)
        return next(matching, None)

    def relative_speed(self, model_name: str, batch_size: int = 1) -> float | None:
        """Teacher's latency over the model's at a batch size; None if either is missing."""
        speed = self.speed_result(model_name, batch_size)
        teacher_speed = self.speed_result(self.teacher.name, batch_size) if self.teacher else None
        return teacher_speed.latency_ms / speed.latency_ms if speed and teacher_speed and speed.latency_ms else None


def shorten_names(names: Sequence[str]) -> dict[str, str]:
    """Paths by as few of their last parts as keep them apart; other names unchanged."""
    parts = {name: [part for part in name.replace("\\", "/").split("/") if part] or [name] for name in names}
    for depth in range(1, max(map(len, parts.values()), default=0) + 1):
        short = {name: "/".join(path_parts[-depth:]) for name, path_parts in parts.items()}
        if len(set(short.values())) == len(short):
            return short
    return {name: name for name in parts}
