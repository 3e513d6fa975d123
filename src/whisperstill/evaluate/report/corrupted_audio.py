"""Error rates on corrupted audio: added noise by signal-to-noise ratio, and other channels."""

from collections.abc import Sequence

from whisperstill.audio.conditions import CONDITION_KINDS
from whisperstill.evaluate.report import formatting as fmt
from whisperstill.evaluate.report.accuracy import WerRow, group_by, wer_columns, wer_rows
from whisperstill.evaluate.report.blocks import Chart, Section, Table
from whisperstill.evaluate.report.effective_robustness import TOC_HEADING
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import DatasetResult

_NOISE_KINDS = ("white", "pink", "babble")
_CLEAN = "clean"
"""Condition of unmodified audio that was measured beside corrupted audio."""


def noise_snr(result: DatasetResult) -> float | None:
    """Signal-to-noise ratio in dB of a condition such as `white@10`; None for other conditions."""
    kind, separator, level = result.condition.rpartition("@")
    if not separator or (kind in CONDITION_KINDS and kind not in _NOISE_KINDS):
        return None
    try:
        return float(level)
    except ValueError:
        return None


def _corrupted_results(view: ResultsView, noise: bool) -> list[DatasetResult]:
    results = (result for result in view.eval_results.results if result.condition not in ("", _CLEAN))
    return [r for r in results if r.measurement != "non_speech" and (noise_snr(r) is not None) == noise]


def _build_condition_table(
    view: ResultsView, table_id: str, title: str, results: Sequence[DatasetResult], caption: str
) -> Table:
    """Error rates by dataset and condition, in the order of the results, and the main model's over the teacher's."""
    groups: dict[str, list[WerRow]] = {}
    for dataset in view.measured_datasets(results):
        members = [result for result in results if result.dataset == dataset.name]
        rows = group_by([*_clean_results(view, members), *members], lambda r: fmt.condition(r.condition or _CLEAN))
        groups[view.dataset_title(dataset.name)] = wer_rows(rows)
    columns = [*wer_columns(view, "Condition", results)]
    if view.main_model and (teacher := view.teacher_of(view.main_model)):
        names = (view.main_model.name, teacher.name)
        columns.append((" / ".join(map(view.display_name, names)), lambda row: _wer_ratio(row[1], *names)))
    return Table.build(table_id, title, columns, groups, caption, collapsed=sum(map(len, groups.values())) > 16)


def _wer_ratio(results: Sequence[DatasetResult], model_name: str, teacher_name: str) -> str:
    wers = {result.model: result.wer for result in results}
    return fmt.ratio(wers[model_name] / wers[teacher_name]) if model_name in wers and wers.get(teacher_name) else ""


def _clean_results(view: ResultsView, corrupted: Sequence[DatasetResult]) -> list[DatasetResult]:
    """Results on the same utterances without corruption; empty if a model has none."""
    first, names = corrupted[0], view.measured_models(corrupted)
    clean_by_model = {
        result.model: result
        for result in view.eval_results.results
        if result.dataset == first.dataset and result.condition == _CLEAN
    }
    results = [clean_by_model.get(name) or view.short_form.get((name, first.dataset)) for name in names]
    matching = [result for result in results if result and result.utterances == first.utterances]
    return matching if len(matching) == len(names) else []


def build_noise_section(view: ResultsView) -> Section:
    """Error rate by signal-to-noise ratio: a chart per noise type, a curve per model."""
    results = _corrupted_results(view, noise=True)
    groups = group_by(results, lambda result: f"{result.condition.rpartition('@')[0]}, {result.dataset}")
    charts = []
    for index, (title, members) in enumerate(groups.items()):
        members.sort(key=lambda result: -(noise_snr(result) or 0.0))
        series = view.wer_series((r for r in members if r.wer > 0), lambda result: noise_snr(result) or 0.0)
        labels = "signal-to-noise ratio, dB", "WER %, logarithmic"
        charts.append(Chart(f"noise-{index}", title, "lines", *labels, series, {}, log_y=True, x_descending=True))
    caption = "At a signal-to-noise ratio of 0 dB noise and speech have equal power."
    ordered = [result for members in groups.values() for result in members]
    table = _build_condition_table(view, "noise-rates", "Word error rate in noise, %", ordered, caption)
    return Section("noise", "Noise", TOC_HEADING, "", [table], charts)


def build_channels_section(view: ResultsView) -> Section:
    """Error rates on audio that was corrupted by other means than noise."""
    results, caption = _corrupted_results(view, False), "The same utterances after each corruption."
    table = _build_condition_table(view, "channel-rates", "Word error rate by condition, %", results, caption)
    return Section("channels", "Channels", TOC_HEADING, tables=[table])
