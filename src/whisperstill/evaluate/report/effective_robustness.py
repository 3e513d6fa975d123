"""Effective robustness: whether a model loses more to the teacher out of distribution than in distribution."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.blocks import Cell, Chart, Columns, Point, Section, Table
from whisperstill.evaluate.report.comparison import mean_with_interval
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import DatasetResult

TOC_HEADING = "Robustness"


@dataclass(frozen=True, slots=True)
class _RelativeErrorRate:
    """Relative error rate (RER) in per cent on a dataset, or the mean over datasets without the other figures."""

    title: Cell
    value: float
    low: float = math.nan
    high: float = math.nan
    teacher_wer: str = ""
    wer: str = ""
    difference: Cell | str = ""
    p_value: str = ""


def build_effective_robustness_section(view: ResultsView) -> Section:
    """RER against the teacher by dataset, in and out of distribution."""
    if view.teacher is None:
        return Section("robustness", "Effective robustness", TOC_HEADING)
    in_distribution = {dataset.name for dataset in view.datasets if dataset.in_distribution}
    groups: dict[str, list[_RelativeErrorRate]] = {}
    leads, charts = [], []
    for model in view.compared_models:
        rers = [
            _relative_error_rate(result, teacher_result.wer)
            for result in view.short_form_results(model.name)
            if (teacher_result := view.short_form.get((view.teacher.name, result.dataset))) and teacher_result.wer
        ]
        near = [rer for rer in rers if rer.title.text in in_distribution]
        far = [rer for rer in rers if rer.title.text not in in_distribution]
        near_mean, far_mean = _mean_rer("Mean in distribution", near), _mean_rer("Mean out of distribution", far)
        name = view.display_name(model.name)
        groups[name] = [*rers, *(mean for mean, of in ((near_mean, near), (far_mean, far)) if mean and len(of) > 1)]
        if near_mean and far_mean:
            leads.append(f"{name} {_describe_loss(near_mean, far_mean)}.")
        points = [Point(row, rer.value, rer.low, rer.high) for row, rer in enumerate(rers)]
        series = view.model_series({model.name: points})
        ticks: dict[float, str] = {row: rer.title.text for row, rer in enumerate(rers)}
        chart_id, title = f"robustness-{view.model_indices[model.name]}", f"Effective robustness, {name}"
        chart = Chart(chart_id, title, "dots", "", "RER %, with 95 % intervals", series, ticks)
        reference = near_mean.value if near_mean else None
        charts.append(replace(chart, reference_line=reference, reference_label="in distribution"))
    columns: Columns[_RelativeErrorRate] = [
        ("Dataset", lambda rer: rer.title),
        (f"{view.display_name(view.teacher.name)}, WER %", lambda rer: rer.teacher_wer),
        ("WER %", lambda rer: rer.wer),
        ("Difference (95 %)", lambda rer: rer.difference),
        ("RER % (95 %)", lambda rer: fmt.difference(rer.value, rer.low, rer.high, digits=0)),
        ("p", lambda rer: rer.p_value),
    ]
    caption = (
        "RER: relative error rate, (WER − teacher's WER) / teacher's WER. Difference: percentage points, by paired "
        "bootstrap over the same utterances; the interval of the RER is that of the difference divided by the "
        "teacher's WER. A model is effectively robust if its RER is no larger out of distribution than in distribution."
    )
    table = Table.build("robustness-datasets", "Difference to the teacher by dataset", columns, groups, caption)
    return Section("robustness", "Effective robustness", TOC_HEADING, " ".join(leads), [table], charts)


def _relative_error_rate(result: DatasetResult, teacher_wer: float) -> _RelativeErrorRate:
    title, value = Cell(result.dataset), 100 * (result.wer - teacher_wer) / teacher_wer
    wers, paired = (fmt.number(teacher_wer), fmt.number(result.wer)), result.difference_to_teacher
    if paired is None:
        return _RelativeErrorRate(title, value, math.nan, math.nan, *wers, fmt.signed(result.wer - teacher_wer))
    low, high = 100 * paired.low / teacher_wer, 100 * paired.high / teacher_wer
    difference = fmt.difference(paired.difference, paired.low, paired.high)
    p_value = "< 0.002" if paired.p_value < 0.002 else f"{paired.p_value:.2g}"
    return _RelativeErrorRate(title, value, low, high, *wers, difference, p_value)


def _mean_rer(title: str, rers: Sequence[_RelativeErrorRate]) -> _RelativeErrorRate | None:
    if not rers:
        return None
    mean = mean_with_interval((rer.value, rer.low, rer.high) for rer in rers)
    if mean is None or mean.num_datasets < len(rers):
        return _RelativeErrorRate(Cell(title, total=True), sum(rer.value for rer in rers) / len(rers))
    return _RelativeErrorRate(Cell(title, total=True), mean.value, mean.low, mean.high)


def _describe_loss(near: _RelativeErrorRate, far: _RelativeErrorRate) -> str:
    """Whether the RER is larger out of distribution; only intervals that do not overlap count as a difference."""
    conclusion = "loses more on new data than in distribution"
    if far.value <= near.value:
        conclusion = "loses no more on new data than in distribution"
    elif far.low <= near.high:
        conclusion = "shows no clear difference in RER between new data and its training distribution"
    far_text, near_text = fmt.signed(far.value, 0), fmt.signed(near.value, 0)
    return f"{conclusion}: RER {far_text} % out of distribution, {near_text} % in distribution"
