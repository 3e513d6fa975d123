"""Effective robustness: whether a model loses more to the teacher out of distribution than in distribution."""

from collections.abc import Sequence
from dataclasses import dataclass

from whisperstill.evaluate.report.blocks import (
    NOT_MEASURED,
    Chart,
    Point,
    Row,
    Section,
    Table,
    TableCell,
    make_columns,
    make_row,
)
from whisperstill.evaluate.report.formatting import format_difference, format_number, format_p_value, format_signed
from whisperstill.evaluate.report.view import ResultsView, mean_with_interval
from whisperstill.records.eval_results import DatasetResult, ModelInfo

TOC_HEADING = "Robustness"


def build_effective_robustness_section(view: ResultsView) -> Section | None:
    """Relative error rate (RER) against the teacher by dataset, in and out of distribution."""
    if view.teacher is None:
        return None
    teacher_name = view.display_name(view.teacher.name)
    in_distribution_names = {dataset.name for dataset in view.datasets if dataset.in_distribution}
    rows: list[Row] = []
    leads, charts = [], []
    for model in view.compared_models:
        result_pairs = [
            (result, teacher_match)
            for result in view.short_form_results(model.name)
            if (teacher_match := view.teacher_result(result)) and teacher_match.wer
        ]
        if not result_pairs:
            continue
        rers = {result.dataset: _relative_error_rate(result, teacher_result) for result, teacher_result in result_pairs}
        in_distribution = [rer for name, rer in rers.items() if name in in_distribution_names]
        out_of_distribution = [rer for name, rer in rers.items() if name not in in_distribution_names]
        if len(view.compared_models) > 1:
            rows.append(make_row(view.display_name(model.name), kind="group"))
        rows += [_build_pair_row(result, teacher, rers[result.dataset]) for result, teacher in result_pairs]
        if len(out_of_distribution) > 1:
            mean_cell = _mean_rer(out_of_distribution).formatted
            rows.append(make_row("Mean out of distribution", "", "", "", mean_cell, "", kind="total"))
        leads.append(_lead(view, model, in_distribution, out_of_distribution))
        reference = _mean_rer(in_distribution).estimate if in_distribution else None
        charts.append(_build_chart(view, model, rers, reference))
    if not rows:
        return None
    table = Table(
        id="robustness-datasets",
        title="Difference to the teacher by dataset",
        columns=make_columns(
            "Dataset", numeric_titles=(f"{teacher_name}, WER %", "WER %", "Difference (95 %)", "RER % (95 %)", "p")
        ),
        rows=tuple(rows),
        caption="RER: relative error rate, (WER − teacher's WER) / teacher's WER. Difference: percentage points, "
        "by paired bootstrap over the same utterances; the interval of the RER is that of the difference divided by "
        "the teacher's WER. A model is effectively robust if its RER is no larger out of distribution than in "
        "distribution.",
    )
    return Section(
        id="robustness",
        title="Effective robustness",
        toc_heading=TOC_HEADING,
        lead=" ".join(filter(None, leads)),
        tables=(table.drop_empty_columns(),),
        charts=tuple(charts),
    )


@dataclass(frozen=True, slots=True)
class _RelativeErrorRate:
    """Relative error rate in per cent, with its interval if known."""

    estimate: float
    low: float | None = None
    high: float | None = None

    @property
    def formatted(self) -> TableCell:
        if self.low is None or self.high is None:
            return TableCell(format_signed(self.estimate, 0))
        return format_difference(self.estimate, self.low, self.high, digits=0)


def _relative_error_rate(result: DatasetResult, teacher_result: DatasetResult) -> _RelativeErrorRate:
    paired = result.difference_to_teacher
    estimate = 100 * (result.wer - teacher_result.wer) / teacher_result.wer
    if paired is None:
        return _RelativeErrorRate(estimate)
    low, high = (100 * bound / teacher_result.wer for bound in (paired.low, paired.high))
    return _RelativeErrorRate(estimate, low, high)


def _mean_rer(rers: Sequence[_RelativeErrorRate]) -> _RelativeErrorRate:
    mean_estimate = mean_with_interval(
        (rer.estimate, rer.low, rer.high) for rer in rers if rer.low is not None and rer.high is not None
    )
    if mean_estimate is None or mean_estimate.num_datasets < len(rers):
        return _RelativeErrorRate(sum(rer.estimate for rer in rers) / len(rers))
    return _RelativeErrorRate(mean_estimate.value, mean_estimate.low, mean_estimate.high)


def _build_pair_row(result: DatasetResult, teacher_result: DatasetResult, rer: _RelativeErrorRate) -> Row:
    paired_difference = result.difference_to_teacher
    return make_row(
        result.dataset,
        format_number(teacher_result.wer),
        format_number(result.wer),
        format_difference(paired_difference.difference, paired_difference.low, paired_difference.high)
        if paired_difference
        else format_signed(result.wer - teacher_result.wer),
        rer.formatted,
        format_p_value(paired_difference.p_value) if paired_difference else NOT_MEASURED,
    )


def _lead(
    view: ResultsView,
    model: ModelInfo,
    in_distribution: list[_RelativeErrorRate],
    out_of_distribution: list[_RelativeErrorRate],
) -> str:
    """Whether the RER is larger out of distribution; only intervals that do not overlap count as a difference."""
    if not in_distribution or not out_of_distribution:
        return ""
    in_distribution_mean, out_of_distribution_mean = _mean_rer(in_distribution), _mean_rer(out_of_distribution)
    conclusion = "shows no clear difference in RER between new data and its training distribution"
    if out_of_distribution_mean.estimate <= in_distribution_mean.estimate:
        conclusion = "loses no more on new data than in distribution"
    elif (
        out_of_distribution_mean.low is None
        or in_distribution_mean.high is None
        or out_of_distribution_mean.low > in_distribution_mean.high
    ):
        conclusion = "loses more on new data than in distribution"
    rates_text = (
        f"RER {format_signed(out_of_distribution_mean.estimate, 0)} % out of distribution, "
        f"{format_signed(in_distribution_mean.estimate, 0)} % in distribution"
    )
    return f"{view.display_name(model.name)} {conclusion}: {rates_text}."


def _build_chart(
    view: ResultsView, model: ModelInfo, rers: dict[str, _RelativeErrorRate], in_distribution_rer: float | None
) -> Chart:
    points = [Point(rer.estimate, index, rer.low, rer.high) for index, rer in enumerate(rers.values())]
    return Chart(
        id=f"robustness-{view.model_indices[model.name]}",
        title=f"Effective robustness, {view.display_name(model.name)}",
        kind="dots",
        x_label="RER %, with 95 % intervals",
        y_label="",
        series=view.build_series({model.name: points}),
        rows=tuple(rers),
        reference_line=in_distribution_rer,
        reference_label="in distribution",
    )
