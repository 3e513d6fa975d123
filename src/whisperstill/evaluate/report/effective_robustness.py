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
from whisperstill.records.eval_results import DatasetResult

TOC_HEADING = "Robustness"


def build_effective_robustness_section(view: ResultsView) -> Section | None:
    """Relative error rate (RER) against the teacher by dataset, in and out of distribution."""
    if view.teacher is None:
        return None
    in_distribution = {dataset.name for dataset in view.datasets if dataset.in_distribution}
    rows: list[Row] = []
    leads, charts = [], []
    for model in view.compared_models:
        pairs = [
            (result, teacher_result)
            for result in view.short_form_results(model.name)
            if (teacher_result := view.short_form.get((view.teacher.name, result.dataset))) and teacher_result.wer
        ]
        if not pairs:
            continue
        rers = {result.dataset: _relative_error_rate(result, teacher_result) for result, teacher_result in pairs}
        near = [rer for name, rer in rers.items() if name in in_distribution]
        far = [rer for name, rer in rers.items() if name not in in_distribution]
        near_mean, far_mean = _mean_rer(near), _mean_rer(far)
        if len(view.compared_models) > 1:
            rows.append(make_row(view.display_name(model.name), kind="group"))
        rows += [_build_pair_row(result, teacher, rers[result.dataset]) for result, teacher in pairs]
        if far_mean and len(far) > 1:
            rows.append(make_row("Mean out of distribution", "", "", "", far_mean.formatted, "", kind="total"))
        if near_mean and far_mean:
            leads.append(f"{view.display_name(model.name)} {_describe_loss(near_mean, far_mean)}.")
        charts.append(
            Chart(
                id=f"robustness-{view.model_indices[model.name]}",
                title=f"Effective robustness, {view.display_name(model.name)}",
                kind="dots",
                x_label="RER %, with 95 % intervals",
                y_label="",
                series=view.build_series({model.name: [rer.point(index) for index, rer in enumerate(rers.values())]}),
                rows=tuple(rers),
                reference_line=near_mean.estimate if near_mean else None,
                reference_label="in distribution",
            )
        )
    if not rows:
        return None
    teacher_title = f"{view.display_name(view.teacher.name)}, WER %"
    table = Table(
        id="robustness-datasets",
        title="Difference to the teacher by dataset",
        columns=make_columns("Dataset", teacher_title, "WER %", "Difference (95 %)", "RER % (95 %)", "p"),
        rows=rows,
        caption="RER: relative error rate, (WER − teacher's WER) / teacher's WER. Difference: percentage points, "
        "by paired bootstrap over the same utterances; the interval of the RER is that of the difference divided by "
        "the teacher's WER. A model is effectively robust if its RER is no larger out of distribution than in "
        "distribution.",
    )
    tables = [table.drop_empty_columns()]
    return Section("robustness", "Effective robustness", TOC_HEADING, " ".join(leads), tables, charts)


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

    def point(self, row_index: int) -> Point:
        return Point(self.estimate, row_index, self.low, self.high)


def _relative_error_rate(result: DatasetResult, teacher_result: DatasetResult) -> _RelativeErrorRate:
    paired = result.difference_to_teacher
    estimate = 100 * (result.wer - teacher_result.wer) / teacher_result.wer
    if paired is None:
        return _RelativeErrorRate(estimate)
    return _RelativeErrorRate(estimate, 100 * paired.low / teacher_result.wer, 100 * paired.high / teacher_result.wer)


def _mean_rer(rers: Sequence[_RelativeErrorRate]) -> _RelativeErrorRate | None:
    if not rers:
        return None
    mean = mean_with_interval(
        (rer.estimate, rer.low, rer.high) for rer in rers if rer.low is not None and rer.high is not None
    )
    if mean is None or mean.num_datasets < len(rers):
        return _RelativeErrorRate(sum(rer.estimate for rer in rers) / len(rers))
    return _RelativeErrorRate(mean.value, mean.low, mean.high)


def _build_pair_row(result: DatasetResult, teacher_result: DatasetResult, rer: _RelativeErrorRate) -> Row:
    paired = result.difference_to_teacher
    difference: TableCell | str = format_signed(result.wer - teacher_result.wer)
    if paired:
        difference = format_difference(paired.difference, paired.low, paired.high)
    p_value = format_p_value(paired.p_value) if paired else NOT_MEASURED
    wers = (format_number(teacher_result.wer), format_number(result.wer))
    return make_row(result.dataset, *wers, difference, rer.formatted, p_value)


def _describe_loss(near: _RelativeErrorRate, far: _RelativeErrorRate) -> str:
    """Whether the RER is larger out of distribution; only intervals that do not overlap count as a difference."""
    conclusion = "shows no clear difference in RER between new data and its training distribution"
    if far.estimate <= near.estimate:
        conclusion = "loses no more on new data than in distribution"
    elif far.low is None or near.high is None or far.low > near.high:
        conclusion = "loses more on new data than in distribution"
    rates = (
        f"{format_signed(far.estimate, 0)} % out of distribution, {format_signed(near.estimate, 0)} % in distribution"
    )
    return f"{conclusion}: RER {rates}"
